"""The list of a dataset's image files: what a sample plan and the aspect ratios are computed from.

ROOT/train.index.npz and validation.index.npz, arrays only (never pickle), covered by the manifest. Images are sorted
by class and name, so labels are those of sorted class folders. Paths are bytes: file names need not be text.
"""

import hashlib
import io
import os
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.files import NPZ_ERRORS, write_atomically
from data_prep.formats.file_names import printable
from data_prep.formats.manifest import Manifest, Split, check_files, describe_files, how_to_make, load_manifest
from dawn.commandline import quoted
from dawn.filekind import wrong_kind

DTYPES = {"paths": np.bytes_, "labels": np.int64, "widths": np.int32, "heights": np.int32, "bytes": np.int64}


@dataclass(frozen=True)
class ImageIndex:
    paths: np.ndarray  # (N,) bytes, relative to ROOT: b"train/disc/00000.jpg"
    labels: np.ndarray  # (N,) int64
    widths: np.ndarray  # (N,) int32, pixels as stored
    heights: np.ndarray  # (N,) int32
    bytes: np.ndarray  # (N,) int64, size of the file


def open_index(
    root: str | Path, verify: bool = True, splits: Sequence[str] = ("train", "validation")
) -> dict[str, ImageIndex]:
    """The image files of `splits` at `root`. DataError when they do not fit the manifest.

    Sizes of the index files are always compared, their SHA-256 too unless `verify` is False.
    """
    manifest = load_manifest(root)
    for split in splits:
        if index_name(split) not in manifest.splits[split].files:
            raise DataError(
                f"{root}: the dataset '{manifest.name}' has no image files ({index_name(split)}). "
                "Choose one that has: python -m data_prep toy ROOT"
            )
    check_files(root, manifest, verify, {index_name(split) for split in splits})
    return {split: _load(Path(root), split, manifest) for split in splits}


def check_images(root: str | Path, index: ImageIndex) -> None:
    """Compare presence and size of every image file with the index. DataError names the first that differs."""
    start = os.fsencode(os.path.join(root, ""))
    for name, expected in zip(index.paths, index.bytes.tolist(), strict=True):
        size = _size(start + name)
        if size != expected:
            path = Path(root) / os.fsdecode(name)
            state = " is missing" if size is None else f" has {size} bytes, the index says {expected}"
            if kind := wrong_kind(path, "picture"):
                state = f": {kind}"
            raise DataError(
                f"{printable(path)}{state}. See what else differs: python -m data_prep check {quoted(root)}"
            )


def _size(path: bytes) -> int | None:
    """None where no file is. (A Path for each of 1.28 million takes ten times as long: benchmarks/start_up.py.)"""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: a name that no file can have
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def index_digest(indices: dict[str, ImageIndex]) -> str:
    """SHA-256 over, split by split: paths joined by line breaks, then labels, widths, heights and bytes as int64."""
    digest = hashlib.sha256()
    for index in indices.values():
        digest.update(b"\n".join(index.paths.tolist()))
        for numbers in (index.labels, index.widths, index.heights, index.bytes):
            digest.update(numbers.astype("<i8").tobytes())
    return digest.hexdigest()


def describe_index(root: Path, split: str, index: ImageIndex, classes: int) -> Split:
    """The manifest's entry for a split whose index file lies in `root`."""
    return Split(
        len(index.labels),
        tuple(np.bincount(index.labels, minlength=classes).tolist()),
        (int(index.widths.min()), int(index.widths.max())),
        (int(index.heights.min()), int(index.heights.max())),
        describe_files(root, [index_name(split)]),
    )


def index_name(split: str) -> str:
    return f"{split}.index.npz"


def save_index(folder: Path, split: str, index: ImageIndex) -> None:
    """Write the index of a split; the same index gives the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **{name: array.astype(DTYPES[name]) for name, array in asdict(index).items()})
    write_atomically(folder / index_name(split), buffer.getvalue())


def _inside(root: Path, paths: np.ndarray) -> None:
    """DataError for a path that leaves `root`: an index may come from elsewhere."""
    suspects = paths[(np.char.find(paths, b"..") >= 0) | np.char.startswith(paths, b"/")].tolist()
    for path in suspects:
        if path.startswith(b"/") or b".." in path.split(b"/"):
            raise DataError(
                f"{root}: the index names a file outside the folder ({printable(path)}). Delete the index "
                "and make it again."
            )


def _load(root: Path, split: str, manifest: Manifest) -> ImageIndex:
    path = root / index_name(split)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            index = ImageIndex(**{name: arrays[name] for name in DTYPES})
    except NPZ_ERRORS as error:
        reason = wrong_kind(path, "zip") or f"not a readable index ({error})"
        raise DataError(f"{path}: {reason}. {how_to_make(root, manifest.name)}") from error
    length = (manifest.splits[split].images,)
    for name, dtype in DTYPES.items():
        array = getattr(index, name)
        if array.shape != length or not np.issubdtype(array.dtype, dtype):
            raise DataError(
                f"{path}: '{name}' is {array.dtype} {array.shape} and does not fit the manifest. "
                f"{how_to_make(root, manifest.name)}"
            )
    _inside(root, index.paths)
    return index
