"""Imagenette and Imagewoof (version 2): ten classes of ImageNet each, as a tree of image files.

https://github.com/fastai/imagenette. From fast.ai's archives, or from an archive or folder that is here already.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import DataError, NoSourceError
from data_prep.files import disk_errors, need_space, one_writer
from data_prep.formats.image_index import check_images, open_index
from data_prep.formats.manifest import Manifest
from data_prep.progress import waiting
from data_prep.sources.fetch import fetch, unpack
from data_prep.sources.publish import existing, refuse_foreign_tree, start
from data_prep.trees.adopt import index_trees, publish_index
from data_prep.trees.names import some
from data_prep.trees.scan import FOLDERS, split_folder, walk_trees

BASE = "https://s3.amazonaws.com/fast-ai-imageclas/"
MAX_MEMBERS, MAX_BYTES = 20_000, 4 * 2**30
USER = "files of the user"


@dataclass(frozen=True)
class Archive:
    url: str
    md5: str
    bytes: int  # about; fastai's list of checks


@dataclass(frozen=True)
class Facts:
    name: str
    archives: dict[str, Archive]  # variant ->
    classes: tuple[str, ...]
    images: dict[str, int]  # split ->


# MD5 of Imagenette: torchvision.datasets.Imagenette. Of Imagewoof fast.ai publishes none of whole archives; these are
# used alike by several projects (Catalyst is one). Classes and numbers of images are checked as well.
KNOWN = {
    "imagenette": Facts(
        "imagenette",
        {
            "full": Archive(BASE + "imagenette2.tgz", "fe2fc210e6bb7c5664d602c3cd71e612", 1_557_161_267),
            "320": Archive(BASE + "imagenette2-320.tgz", "3df6f0d01a2c9592104656642f5e78a3", 341_663_724),
            "160": Archive(BASE + "imagenette2-160.tgz", "e793b78cc4c9e9a4ccc0c1155377a412", 99_003_388),
        },
        (
            "n01440764",
            "n02102040",
            "n02979186",
            "n03000684",
            "n03028079",
            "n03394916",
            "n03417042",
            "n03425413",
            "n03445777",
            "n03888257",
        ),
        {"train": 9469, "validation": 3925},
    ),
    "imagewoof": Facts(
        "imagewoof",
        {
            "full": Archive(BASE + "imagewoof2.tgz", "9aafe18bcdb1632c4249a76c458465ba", 1_343_715_595),
            "320": Archive(BASE + "imagewoof2-320.tgz", "0f46d997ec2264e97609196c95897a44", 328_387_740),
            "160": Archive(BASE + "imagewoof2-160.tgz", "3d200a7be99704a0d7509be2a9fbfe15", 92_612_825),
        },
        (
            "n02086240",
            "n02087394",
            "n02088364",
            "n02089973",
            "n02093754",
            "n02096294",
            "n02099601",
            "n02105641",
            "n02111889",
            "n02115641",
        ),
        {"train": 9025, "validation": 3929},
    ),
}


def prepare_imagenette(
    root: str | Path, facts: Facts = KNOWN["imagenette"], variant: str = "full", source: str = "web"
) -> Manifest:
    """Put the dataset of `facts` in place at `root`; nothing to do when it is. `source`: "web", or a path.

    May be killed at any time and called again. DataError for a source that is not this dataset.
    """
    root = Path(root)
    with disk_errors(root), one_writer(root):
        manifest = existing(root, facts.name)
        if manifest:
            return _same(root, manifest, facts, variant, source)
        refuse_foreign_tree(root)
        work = start(root)
        try:
            folder, origin = _obtain(root, work, facts.archives[variant], source)
            _verify(folder, facts)
            for split in FOLDERS:
                _place(folder / split_folder(folder, split), root)
        finally:
            shutil.rmtree(work / "unpacked", ignore_errors=True)
        manifest = publish_index(root, facts.name, origin, facts.classes, index_trees(root, walk_trees(root)))
        shutil.rmtree(work)
        return manifest


def _same(root: Path, manifest: Manifest, facts: Facts, variant: str, source: str) -> Manifest:
    """The dataset as it is, when it is the one asked for and no file differs."""
    wanted = facts.archives[variant].url if source == "web" else USER
    if manifest.source != wanted:
        raise DataError(f"{root}: holds {facts.name} from {manifest.source}, not from {wanted}. Choose another folder.")
    for index in open_index(root).values():
        check_images(root, index)
    return manifest


def _obtain(root: Path, work: Path, archive: Archive, source: str) -> tuple[Path, str]:
    """The folder that holds train/ and val/, and a line that says where they come from."""
    shutil.rmtree(work / "unpacked", ignore_errors=True)  # of a run that was killed
    if source == "web":
        need_space(root, 2 * archive.bytes)
        return _unpacked(_fetched(archive, work), work), archive.url
    path = Path(source)
    if path.is_dir():
        folder = _find(path)
        for split in FOLDERS:
            name = split_folder(folder, split)
            with waiting(f"copying {folder / name}"):
                shutil.copytree(folder / name, work / "unpacked" / name)
        return work / "unpacked", USER
    if not path.is_file():
        raise DataError(
            f"--source {source}: neither a file nor a folder. Give an archive, or a folder with train/ and val/."
        )
    return _unpacked(path, work), USER


def _fetched(archive: Archive, work: Path) -> Path:
    """NoSourceError when there is no answer."""
    try:
        return fetch(archive.url, work / "archive.tgz", archive.md5, "md5")
    except DataError as error:
        raise NoSourceError(str(error)) from error


def _unpacked(archive: Path, work: Path) -> Path:
    with waiting(f"unpacking {archive.name}"):
        unpack(archive, work / "unpacked", MAX_MEMBERS, MAX_BYTES)
    return _find(work / "unpacked")


def _find(folder: Path) -> Path:
    """`folder`, or the folder in it that an archive makes (imagenette2-160), whichever has train/."""
    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if (place / "train").is_dir():
            return place
    raise DataError(f"{folder}: no folder train/ in it. Give the archive or the folder of the dataset.")


def _verify(folder: Path, facts: Facts) -> None:
    """DataError unless the folder has the classes and numbers of images of this dataset."""
    trees = walk_trees(folder)
    foreign = sorted(set(trees["train"].classes) ^ set(facts.classes))
    if foreign:
        raise DataError(
            f"{folder}: not the classes of {facts.name} ({len(foreign)} differ: {some(foreign)}). Use another --source."
        )
    found = {split: len(tree.paths) for split, tree in trees.items()}
    if found != facts.images:
        raise DataError(
            f"{folder}: {found['train']:,} + {found['validation']:,} images, {facts.name} has "
            f"{facts.images['train']:,} + {facts.images['validation']:,}. Use another --source."
        )


def _place(made: Path, root: Path) -> None:
    """Move a split to ROOT. One that is there (a run was killed in between) must be the same; none is deleted."""
    place = root / made.name
    if not place.exists():
        os.rename(made, place)
    elif _sizes(made) != _sizes(place):
        raise DataError(f"{place}: is in the way and not from this dataset. Delete it, or choose another folder.")


def _sizes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
