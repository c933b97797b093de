"""ImageNet (ILSVRC2012 CLS) from its two official archives to train/WNID/ and validation/WNID/.

ILSVRC2012_img_train.tar holds a tar for each class, ILSVRC2012_img_val.tar 50,000 files without classes. Their labels
are in imagenet_validation.npz beside this file (`wnids` (1000,), sorted; `labels` (50000,), the class of
ILSVRC2012_val_00000001 and so on), taken from validation_labels.txt of the package tensorflow-datasets 4.9.10
(Apache-2.0). Checked: 50 of each class, the sorted wnids are timm's, and all 500 validation images that are part of
Imagenette have that class there.
"""

import hashlib
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.engines.base import Engine
from data_prep.engines.local import LOCAL
from data_prep.errors import DataError
from data_prep.files import disk_errors, need_space, one_writer, write_atomically
from data_prep.formats.file_names import printable
from data_prep.formats.image_index import check_images, open_index
from data_prep.formats.manifest import Manifest
from data_prep.progress import tracked
from data_prep.sources.publish import existing, refuse_foreign_tree, start
from data_prep.trees.adopt import index_trees, publish_index
from data_prep.trees.scan import walk_trees
from dawn.filekind import wrong_kind

MD5 = {"train": "1d675b47d978889d74fa0da5fadfb00e", "validation": "29b22e2961454d5413ddabcf34fc5622"}  # published
MEMBERS = {"train": 1000, "validation": 50_000}
NAMES = {"train": re.compile(r"(n\d{8})\.tar"), "validation": re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")}
TRAIN_IMAGE = re.compile(r"[A-Za-z0-9_]{1,100}\.JPEG")
MAX_IMAGES = 10_000  # of a class; ImageNet has 1,300 at most
LARGEST_IMAGE = 2**28  # bytes; the largest of ImageNet has 16 MB
BLOCK = 2**22  # bytes
OFFICIAL, OTHER = "the official archives of ILSVRC2012 (MD5 verified)", "archives of the user"  # Manifest.source


class Member(NamedTuple):
    """A file of an archive."""

    name: str  # of a class in the training archive ("n01440764"), of an image in the validation archive
    offset: int  # bytes, of the content
    size: int  # bytes
    wnid: str  # its class


def arrange_imagenet(
    train_tar: str | Path, val_tar: str | Path, root: str | Path, any_archive: bool = False, engine: Engine = LOCAL
) -> Manifest:
    """Unpack both archives into `root` and index them; nothing to do when that is done.

    May be killed at any time: the same command goes on. DataError for archives that are not the official ones, unless
    `any_archive`; then any subset of classes and images in archives of the same kind will do.
    """
    root, archives = Path(root), {"train": Path(train_tar), "validation": Path(val_tar)}
    with disk_errors(root), one_writer(root):
        manifest = existing(root, "imagenet")
        if manifest:
            for index in open_index(root).values():
                check_images(root, index)
            return manifest
        refuse_foreign_tree(root)
        members = {split: _members(path, split, any_archive) for split, path in archives.items()}
        need_space(
            root,
            sum(
                member.size
                for split in members
                for member in members[split]
                if not (root / split / member.wnid).is_dir()
            ),
        )
        work = start(root)
        if not any_archive:
            _verify(archives, work)
        _unpack(archives, members, root, work, engine)
        return _publish(root, work, OTHER if any_archive else OFFICIAL, engine)


def validation_labels() -> tuple[list[str], np.ndarray]:
    """The 1000 wnids, sorted, and the class (0 to 999) of each validation image by its number - 1.  (50000,) uint16"""
    with np.load(Path(__file__).with_name("imagenet_validation.npz"), allow_pickle=False) as arrays:
        return [wnid.decode() for wnid in arrays["wnids"].tolist()], arrays["labels"]


def _members(path: Path, split: str, any_archive: bool) -> list[Member]:
    """What an archive holds, from its headers alone. DataError when it holds anything else."""
    found = {}
    wnids, labels = validation_labels()
    for info in _headers(path, 0, path.stat().st_size if path.is_file() else 0):
        name = NAMES[split].fullmatch(info.name.removeprefix("./"))
        number = int(name[1]) if name and split == "validation" else 1
        if not name or not 1 <= number <= len(labels) or name[0] in found or len(found) >= MEMBERS[split]:
            raise DataError(
                f"{path}: holds {printable(info.name)[:100]!r}: not the {split} archive of ILSVRC2012, or "
                "damaged. The command is: imagenet TRAIN_TAR VAL_TAR ROOT."
            )
        wnid = name[1] if split == "train" else wnids[labels[number - 1]]
        found[name[0]] = Member(wnid if split == "train" else name[0], info.offset_data, info.size, wnid)
    if not found or (len(found) != MEMBERS[split] and not any_archive):
        raise DataError(
            f"{path}: {len(found):,} members, the {split} archive of ILSVRC2012 has {MEMBERS[split]:,}. "
            "Fetch it again, or take it as it is with --any-archive."
        )
    return list(found.values())


def _headers(path: Path, start: int, size: int) -> Iterator[tarfile.TarInfo]:
    """The members of the tar that lies in a file from byte `start` on. DataError unless all are plain files in it."""
    try:
        with open(path, "rb") as handle:
            handle.seek(start)
            with tarfile.open(fileobj=handle, mode="r:") as tar:
                for info in tar:
                    if not info.isreg() or info.issparse() or info.offset_data + info.size > start + size:
                        raise DataError(
                            f"{path}: {printable(info.name)[:100]!r} is no plain file, or is cut off. "
                            "Fetch the archive again."
                        )
                    yield info
    except tarfile.TarError as error:
        reason = wrong_kind(path, "tar") or f"not a readable .tar at byte {start} ({error}). Fetch it again"
        raise DataError(f"{path}: {reason}.") from error


def _verify(archives: dict[str, Path], work: Path) -> None:
    """Compare MD5 checksums; a file that was verified by an earlier run and has not changed is not read again."""
    record = work / "verified.json"
    known = json.loads(record.read_bytes()) if record.exists() else {}
    for split, path in archives.items():
        state = [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns]
        if known.get(split) != state:
            found = _md5(path)
            if found != MD5[split]:
                raise DataError(
                    f"{path}: MD5 is {found}, the official archive has {MD5[split]}. Fetch it again, or "
                    "take it as it is with --any-archive."
                )
            known[split] = state
            write_atomically(record, json.dumps(known).encode())


def _md5(path: Path) -> str:
    digest = hashlib.new("md5", usedforsecurity=False)
    with open(path, "rb") as handle:
        blocks = iter(partial(handle.read, BLOCK), b"")
        for block in tracked(blocks, f"verifying {path.name}", path.stat().st_size, in_bytes=True):
            digest.update(block)
    return digest.hexdigest()


def _unpack(
    archives: dict[str, Path], members: dict[str, list[Member]], root: Path, work: Path, engine: Engine
) -> None:
    """Every class of the training archive is moved into place as a whole, every validation image by itself."""
    for split, unpack_one, chunk in (("train", _unpack_class, 1), ("validation", _unpack_image, 64)):
        for wnid in {member.wnid for member in members[split]} if split == "validation" else ("",):
            (root / split / wnid).mkdir(parents=True, exist_ok=True)
        (work / split).mkdir(exist_ok=True)
        steps = engine.map(partial(unpack_one, archives[split], root, work), members[split], chunk)
        for _ in tracked(steps, f"unpacking {archives[split].name}", len(members[split])):
            pass
    os.sync()  # the files were not flushed one by one


def _unpack_class(archive: Path, root: Path, work: Path, member: Member) -> None:
    """In a worker: the inner tar of one class to ROOT/train/WNID. DataError for a member that is no image."""
    target, place = root / "train" / member.wnid, work / "train" / member.wnid
    sizes = {}
    for info in _headers(archive, member.offset, member.size):
        if not TRAIN_IMAGE.fullmatch(info.name) or info.name in sizes or len(sizes) >= MAX_IMAGES:
            raise DataError(
                f"{archive}: {member.wnid}.tar holds {printable(info.name)[:100]!r}, no image of ImageNet. "
                "Fetch the archive again."
            )
        sizes[info.name] = info.size
    if not sizes:
        raise DataError(f"{archive}: {member.wnid}.tar is empty. Fetch the archive again.")
    if target.exists():
        if {path.name: path.stat().st_size for path in target.iterdir()} != sizes:
            raise DataError(
                f"{target}: its files are not those of {archive}. Delete the folder and run the same command again."
            )
        return
    shutil.rmtree(place, ignore_errors=True)
    with open(archive, "rb") as handle:
        handle.seek(member.offset)
        with tarfile.open(fileobj=handle, mode="r:") as tar:
            tar.extractall(place, filter="data")
    os.rename(place, target)


def _unpack_image(archive: Path, root: Path, work: Path, member: Member) -> None:
    """In a worker: one image to ROOT/validation/WNID."""
    target = root / "validation" / member.wnid / member.name
    if member.size > LARGEST_IMAGE:
        raise DataError(f"{archive}: {member.name} has {member.size:,} bytes. Fetch the archive again.")
    if target.exists() and target.stat().st_size == member.size:
        return
    with open(archive, "rb") as handle:
        handle.seek(member.offset)
        data = handle.read(member.size)
    (work / "validation" / member.name).write_bytes(data)
    os.rename(work / "validation" / member.name, target)


def _publish(root: Path, work: Path, source: str, engine: Engine) -> Manifest:
    trees = walk_trees(root)
    indices = index_trees(root, trees, engine=engine)
    manifest = publish_index(root, "imagenet", source, trees["train"].classes, indices)
    shutil.rmtree(work)
    return manifest
