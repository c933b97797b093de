"""All pixels of an image tree in one file for each split, each picture at its own size: no decoding at train time.

ROOT/train.pixels.bin: uint8 RGB rows, picture after picture in the order of the index, nothing in between.
ROOT/train.pixels.npz: where each one lies. Both are covered by the manifest. `pack.py` writes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.files import NPZ_ERRORS
from data_prep.formats.manifest import Manifest, Split, check_files, load_manifest
from dawn.commandline import quoted
from dawn.filekind import wrong_kind

SPLITS = ("train", "validation")
DTYPES = {"offsets": np.int64, "heights": np.int32, "widths": np.int32, "labels": np.int64}


@dataclass(frozen=True)
class PackedTree:
    pixels: np.ndarray  # (bytes,) uint8, a read-only memory map
    offsets: np.ndarray  # (N,) int64, first byte of each picture
    heights: np.ndarray  # (N,) int32
    widths: np.ndarray  # (N,) int32
    labels: np.ndarray  # (N,) int64

    def image(self, row: int) -> np.ndarray:
        """(h, w, 3) uint8, a view into the map"""
        height, width, start = int(self.heights[row]), int(self.widths[row]), int(self.offsets[row])
        return self.pixels[start : start + 3 * height * width].reshape(height, width, 3)


def open_packed_tree(root: str | Path, verify: bool = False, splits: Sequence[str] = SPLITS) -> dict[str, PackedTree]:
    """`splits` of a packed image tree; files of others are not looked at.

    Sizes are always compared with the manifest, SHA-256 too with `verify` (it reads every byte). DataError otherwise.
    """
    manifest = check_packed_tree(root, verify, splits)
    return {split: _open(Path(root), split, manifest.splits[split]) for split in splits}


def check_packed_tree(root: str | Path, verify: bool = False, splits: Sequence[str] = SPLITS) -> Manifest:
    """The manifest of a packed image tree, after the checks of `open_packed_tree`: sizes of the files, and whether
    every picture has a place in them. The pixels are opened only if `verify` asks for SHA-256. DataError otherwise.
    """
    root, manifest = Path(root), load_manifest(root)
    names = {split: packed_tree_names(split) for split in splits}
    for split in splits:
        if not set(names[split]) <= set(manifest.splits[split].files):
            raise DataError(f"{root}: not packed ({names[split][0]}). Pack it: python -m data_prep pack {quoted(root)}")
    check_files(root, manifest, hashes=verify, only={name for pair in names.values() for name in pair})
    for split in splits:
        _places(root, split, manifest.splits[split])
    return manifest


def packed_tree_names(split: str) -> list[str]:
    """File names of a split: pixels, where they lie."""
    return [f"{split}.pixels.bin", f"{split}.pixels.npz"]


def offsets_of(heights: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, int]:
    """First byte of every picture, (N,) int64, and the bytes of all."""
    ends = np.cumsum(3 * heights.astype(np.int64) * widths)
    return np.concatenate([[0], ends[:-1]]), int(ends[-1])


def _open(root: Path, split: str, facts: Split) -> PackedTree:
    path, places = root / packed_tree_names(split)[0], _places(root, split, facts)
    try:
        return PackedTree(np.memmap(path, np.uint8, "r"), **places)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: not readable ({error}). Pack it again: python -m data_prep pack {quoted(root)}"
        ) from error


def _places(root: Path, split: str, facts: Split) -> dict[str, np.ndarray]:
    """Where the pictures of a split lie, and their labels; each inside the pixels."""
    pixels, path = packed_tree_names(split)[0], root / packed_tree_names(split)[1]
    try:
        with np.load(path, allow_pickle=False) as stored:
            places = {name: stored[name] for name in DTYPES}
    except NPZ_ERRORS as error:
        reason = wrong_kind(path, "zip") or f"not readable ({str(error).splitlines()[0][:200]})"
        raise DataError(f"{path}: {reason}. Pack it again: python -m data_prep pack {quoted(root)}") from error
    if not _fits(places, facts, facts.files[pixels]["bytes"]):
        raise DataError(
            f"{path}: does not fit the manifest or its pixels. Pack it again: python -m data_prep pack {quoted(root)}"
        )
    return places


def _fits(places: dict[str, np.ndarray], facts: Split, pixel_bytes: int) -> bool:
    """Every place inside the file: nothing read later can be out of it."""
    if any(places[name].dtype != dtype or places[name].shape != (facts.images,) for name, dtype in DTYPES.items()):
        return False
    heights, widths, labels = places["heights"], places["widths"], places["labels"]
    if min(heights.min(), widths.min()) < 1 or labels.min() < 0:
        return False
    offsets, length = offsets_of(heights, widths)
    return (
        length == pixel_bytes
        and np.array_equal(offsets, places["offsets"])
        and np.bincount(labels, minlength=len(facts.per_class)).tolist() == list(facts.per_class)
    )
