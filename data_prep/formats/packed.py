"""A packed dataset: all pixels of a split in one uint8 array on disk, beside its labels. No decoding at train time.

ROOT/train.images.npy, train.labels.npy, validation.images.npy, validation.labels.npy and the manifest.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.files import write_npy
from data_prep.formats.manifest import Manifest, Split, check_files, describe_files, how_to_make, load_manifest
from dawn.filekind import wrong_kind

SPLITS = ("train", "validation")
BLOCK = 10_000  # images hashed or copied at a time


@dataclass(frozen=True)
class Packed:
    images: np.ndarray  # (N, H, W, 3) uint8, RGB, a read-only memory map
    labels: np.ndarray  # (N,) int64


def open_packed(root: str | Path, verify: bool = True, splits: Sequence[str] = SPLITS) -> dict[str, Packed]:
    """`splits` of the packed dataset at `root`; files of others are not looked at.

    File sizes are always compared with the manifest, SHA-256 too unless `verify` is False. DataError otherwise.
    """
    manifest = check_packed(root, verify, splits)
    return {split: _open_split(Path(root), split, manifest) for split in splits}


def check_packed(root: str | Path, verify: bool = False, splits: Sequence[str] = SPLITS) -> Manifest:
    """The manifest of a packed dataset, after comparing the sizes of the files of `splits` with it; no file is opened
    unless `verify` asks for the SHA-256. DataError otherwise."""
    manifest = load_manifest(root)
    for split in splits:
        if not set(packed_names(split)) <= set(manifest.splits[split].files):
            raise DataError(
                f"{root}: the dataset '{manifest.name}' has no packed images ({packed_names(split)[0]}). "
                f"Choose a packed one: python -m data_prep cifar10 ROOT"
            )
    files = {name for split in splits for name in manifest.splits[split].files}
    check_files(root, manifest, verify, files if len(splits) < len(SPLITS) else None)
    return manifest


def packed_side(root: str | Path, split: str = "validation") -> int:
    """Shorter side of the stored images in pixels; all images are as large. Of the validation images the SHA-256 is
    compared. Those for training are not opened before the clock: they are square, so their bytes tell it. DataError
    for files that are not the manifest's."""
    manifest = load_manifest(root)
    if split == "train":
        facts = manifest.splits[split]
        return math.isqrt(facts.files[packed_names(split)[0]]["bytes"] // (3 * facts.images))
    check_files(root, manifest, only=set(packed_names(split)))
    return min(_open_split(Path(root), split, manifest).images.shape[1:3])


def packed_names(split: str) -> list[str]:
    """File names of a split: images, labels."""
    return [f"{split}.images.npy", f"{split}.labels.npy"]


def write_packed(folder: Path, split: str, images: Iterable[np.ndarray], labels: np.ndarray, size: int) -> None:
    """Write blocks of `images` ((n, size, size, 3) uint8) and all `labels` of a split into `folder`."""
    images_name, labels_name = packed_names(split)
    write_npy(folder / images_name, (len(labels), size, size, 3), np.uint8, images)
    write_npy(folder / labels_name, (len(labels),), np.int64, [labels])


def read_packed(folder: Path, split: str) -> Packed:
    """Map a split from disk without asking the manifest. ValueError or OSError when a file is no such array."""
    images_name, labels_name = packed_names(split)
    return Packed(
        images=np.load(folder / images_name, mmap_mode="r", allow_pickle=False),
        labels=np.load(folder / labels_name, allow_pickle=False),
    )


def describe_packed(folder: Path, split: str, classes: int) -> Split:
    """The manifest's entry for a packed split that lies in `folder`."""
    packed = read_packed(folder, split)
    _, height, width, _ = packed.images.shape
    per_class = np.bincount(packed.labels, minlength=classes).tolist()
    return Split(
        len(packed.labels),
        tuple(per_class),
        (width, width),
        (height, height),
        describe_files(folder, packed_names(split)),
    )


def content_digest(splits: list[Packed]) -> str:
    """SHA-256 over, split by split, the pixels (N, H, W, C order) and then the labels as bytes."""
    digest = hashlib.sha256()
    for split in splits:
        for start in range(0, len(split.images), BLOCK):
            digest.update(np.ascontiguousarray(split.images[start : start + BLOCK]).data)
        digest.update(split.labels.astype(np.uint8).tobytes())
    return digest.hexdigest()


def _open_split(root: Path, split: str, manifest: Manifest) -> Packed:
    try:
        packed = read_packed(root, split)
    except (OSError, ValueError, EOFError) as error:
        reason = f"not readable as an array ({str(error).splitlines()[0][:200]})"
        reason = next((kind for name in packed_names(split) if (kind := wrong_kind(root / name, "npy"))), reason)
        raise DataError(
            f"{root}/{packed_names(split)[0]} or its labels: {reason}. {how_to_make(root, manifest.name)}"
        ) from error
    if not _fits(packed, manifest.splits[split]):
        raise DataError(
            f"{root}/{packed_names(split)[0]}: arrays of {packed.images.shape} images and "
            f"{packed.labels.shape} labels do not fit the manifest. {how_to_make(root, manifest.name)}"
        )
    return packed


def _fits(packed: Packed, split: Split) -> bool:
    images, labels = packed.images, packed.labels
    if (images.dtype, labels.dtype, images.ndim, labels.shape) != (np.uint8, np.int64, 4, (split.images,)):
        return False
    classes = len(split.per_class)
    return (
        len(images) == split.images
        and images.shape[3] == 3
        and labels.min() >= 0
        and labels.max() < classes
        and np.bincount(labels, minlength=classes).tolist() == list(split.per_class)
    )
