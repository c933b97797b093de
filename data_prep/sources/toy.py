"""The toy dataset: small generated JPEG files in class folders, and the same images packed at 32 pixels.

For tests and for machines without any network. Deterministic: the same arguments and Pillow give the same bytes.
"""

import io
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.errors import DataError
from data_prep.files import PARTIAL, disk_errors, one_writer
from data_prep.formats.image_index import ImageIndex, check_images, index_name, open_index, save_index
from data_prep.formats.manifest import Manifest, Split, describe_files, tool_versions
from data_prep.formats.packed import SPLITS, content_digest, describe_packed, read_packed, write_packed
from data_prep.progress import tracked
from data_prep.sources.publish import existing, publish, start
from data_prep.sources.toy_images import CLASSES, draw_jpeg

SIZE = 32  # pixels, of the packed images
MAX_IMAGES = 100_000


def prepare_toy(root: str | Path, images: int = 1200, classes: int = 6) -> Manifest:
    """Make a toy dataset of `images` training and a quarter as many validation images at `root`.

    Nothing to do when it is there; DataError when the folder holds another one.
    """
    _check_arguments(images, classes)
    root = Path(root)
    with one_writer(root), disk_errors(root):
        manifest = existing(root, "toy")
        if manifest is None:
            return _make(root, images, classes)
        if (manifest.splits["train"].images, len(manifest.classes)) != (images, classes):
            raise DataError(
                f"{root}: holds a toy dataset of {manifest.splits['train'].images} images and "
                f"{len(manifest.classes)} classes. Delete the folder or choose another."
            )
        for index in open_index(root).values():
            check_images(root, index)
        return manifest


def _check_arguments(images: int, classes: int) -> None:
    if not 2 <= classes <= len(CLASSES):
        raise DataError(f"--classes {classes}: choose 2 to {len(CLASSES)}")
    if not 4 * classes <= images <= MAX_IMAGES:
        raise DataError(f"--images {images}: choose {4 * classes} (4 of each class) to {MAX_IMAGES}")


def _make(root: Path, images: int, classes: int) -> Manifest:
    work = start(root)
    counts = {"train": images, "validation": images // 4}
    splits = {split: _make_split(work, split, count, classes) for split, count in counts.items()}
    sha256 = content_digest([read_packed(work, split) for split in SPLITS])
    manifest = Manifest("toy", "toy", "generated", CLASSES[:classes], splits, sha256, tool_versions())
    for split in SPLITS:
        _place_tree(root, split)
    publish(root, manifest)
    return manifest


def _make_split(work: Path, split: str, images: int, classes: int) -> Split:
    """Write the JPEG files, their index and the packed images of a split into `work`.

    The files are not flushed one by one (1,500 times): the index knows their sizes.
    """
    shutil.rmtree(work / split, ignore_errors=True)
    labels = np.sort(np.arange(images) % classes)
    numbers = np.arange(images) - np.searchsorted(labels, labels)  # within the class
    paths = [f"{split}/{CLASSES[label]}/{number:05d}.jpg" for label, number in zip(labels, numbers, strict=True)]
    for name in CLASSES[:classes]:
        (work / split / name).mkdir(parents=True)
    packed, sizes, lengths = np.empty((images, SIZE, SIZE, 3), np.uint8), np.empty((images, 2), int), []
    for position in tracked(range(images), f"drawing the {split} images", images):
        data = draw_jpeg(int(labels[position]), SPLITS.index(split), int(numbers[position]))
        (work / paths[position]).write_bytes(data)
        lengths.append(len(data))
        packed[position], sizes[position] = _decode(data)
    index = ImageIndex(np.array(paths, np.bytes_), labels, sizes[:, 0], sizes[:, 1], np.array(lengths))
    save_index(work, split, index)
    write_packed(work, split, [packed], labels, SIZE)
    return _describe(work, split, index, classes)


def _decode(data: bytes) -> tuple[np.ndarray, tuple[int, int]]:
    """The stored file at 32x32 (antialiased), RGB, and its own size (width, height)."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        return np.asarray(small), image.size


def _describe(work: Path, split: str, index: ImageIndex, classes: int) -> Split:
    packed = describe_packed(work, split, classes)
    return Split(
        packed.images,
        packed.per_class,
        (int(index.widths.min()), int(index.widths.max())),
        (int(index.heights.min()), int(index.heights.max())),
        {**packed.files, **describe_files(work, [index_name(split)])},
    )


def _place_tree(root: Path, split: str) -> None:
    """Move ROOT/.partial/train to ROOT/train. A tree that is there already must be this very one; none is deleted."""
    made, place = root / PARTIAL / split, root / split
    if not place.exists():
        os.rename(made, place)
    elif _contents(made) != _contents(place):
        raise DataError(f"{place}: is not from this toy dataset. Delete it or choose another folder.")


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
