"""Scenes, pictures with boxes that do not overlap, as a small dataset in COCO's format; and coco-toy, scenes of the
toy dataset's shapes, for tests and to try `python -m training detect` without any dataset. Deterministic."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_prep.errors import DataError
from data_prep.files import LOCK, disk_errors, flush_to_disk, one_writer, sync_folder
from data_prep.progress import tracked
from data_prep.sources.toy_images import CLASSES, SEED, contrast_of, ground, noisy, shape_mask

SPLITS = ("train", "val")
TOY, COLLAGE = 2, 3  # streams of random numbers: those of data_prep/sources/toy_images.py are 0 and 1
MAX_OBJECTS = 3  # in a picture
TRIES = 8  # places that are tried for the objects of a picture
MIN_IMAGES, MAX_IMAGES = 8, 100_000
WORK = ".partial-scenes"  # in ROOT, what is not finished
SIDES = (96, 160)  # pixels, smallest and largest
FULLY = 0.5  # share of a pixel that a shape covers where its box is counted


class Scene(NamedTuple):
    """`pixels` (height, width, 3) uint8; per object its label and box [x, y, width, height]."""

    pixels: np.ndarray
    labels: list[int]
    boxes: list[list[int]]


class Canvas(NamedTuple):
    """A picture before its objects: `x` and `y` (height, width) in pixels, `ground` (height, width, 3) 0 to 1."""

    generator: np.random.Generator
    x: np.ndarray
    y: np.ndarray
    ground: np.ndarray


def blank(stream: int, split: str, number: int, sides: tuple[int, int]) -> Canvas:
    """The ground of picture `number` of a split, `sides` (smallest, largest) pixels wide and high."""
    generator = np.random.default_rng((SEED, stream, SPLITS.index(split), number))
    width, height = (int(side) for side in generator.integers(sides[0], sides[1] + 1, 2))
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return Canvas(generator, x, y, ground(0.3 + 0.4 * generator.random(3), x, y, generator))


def has_room(box: list[int], boxes: list[list[int]], wanted: int) -> bool:
    """Whether an object may lie in `box`: fewer than wanted are there, and none of them overlaps."""
    return len(boxes) < wanted and not any(_overlap(box, other) for other in boxes)


def scene_counts(images: int) -> dict[str, int]:
    """Pictures of each split: `images` for training and a quarter as many (rounded down) for validation. DataError
    unless MIN_IMAGES <= images <= MAX_IMAGES."""
    if not MIN_IMAGES <= images <= MAX_IMAGES:
        raise DataError(f"--images {images}: choose {MIN_IMAGES} to {MAX_IMAGES}")
    return dict(zip(SPLITS, (images, images // 4), strict=True))


def write_scenes(
    root: Path,
    counts: dict[str, int],
    categories: tuple[str, ...],
    description: str,
    draw: Callable[[str, int], Scene],
) -> None:
    """Write ROOT/annotations/{train,val}.json and ROOT/images/, picture `number` of a split as `draw(split, number)`.

    Nothing to do when it is there; DataError when the folder holds anything else, or as `draw` raises it.
    """
    with one_writer(root), disk_errors(root):
        if (root / "annotations").exists():
            return _check_existing(root, counts, description)
        _start_clean(root)
        try:
            for split, count in counts.items():
                _write(root / WORK, split, count, categories, description, draw)
        except BaseException:  # none of it would be used again
            shutil.rmtree(root / WORK, ignore_errors=True)
            raise
        os.rename(root / WORK / "images", root / "images")
        os.rename(root / WORK / "annotations", root / "annotations")  # last: a folder with annotations is whole
        sync_folder(root)
        (root / WORK).rmdir()


def _check_existing(root: Path, counts: dict[str, int], description: str) -> None:
    try:
        found = {split: json.loads((root / "annotations" / f"{split}.json").read_text()) for split in counts}
        same = all(
            found[s]["info"] == {"description": description} and len(found[s]["images"]) == counts[s] for s in counts
        )
        same = same and len(os.listdir(root / "images")) == sum(counts.values())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        same = False
    if not same:
        raise DataError(f"{root}: holds something else than this set. Delete it or choose another folder.")


def _start_clean(root: Path) -> None:
    """Empty folders for the work. What a killed run has left goes; DataError for anything else."""
    ours = {LOCK, WORK, "images"} if (root / WORK / "annotations").exists() else {LOCK, WORK}
    others = sorted(set(os.listdir(root)) - ours)
    if others:
        raise DataError(f"{root}: holds something else than this set ({others[0]}). Choose another folder.")
    for name in ours - {LOCK}:
        shutil.rmtree(root / name, ignore_errors=True)
    for name in ("annotations", "images"):
        (root / WORK / name).mkdir(parents=True)


def _write(work: Path, split: str, count: int, categories: tuple[str, ...], description: str, draw) -> None:
    images, annotations = [], []
    for number in tracked(range(count), f"drawing the {split} pictures", count):
        pixels, labels, boxes = draw(split, number)
        name = f"{split}-{number:05d}.png"
        with open(work / "images" / name, "wb") as file:
            Image.fromarray(pixels).save(file, "PNG")
            flush_to_disk(file)
        images.append({"id": number + 1, "file_name": name, "width": pixels.shape[1], "height": pixels.shape[0]})
        for label, box in zip(labels, boxes, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    names = [{"id": label + 1, "name": name} for label, name in enumerate(categories)]
    content = {"info": {"description": description}, "images": images, "annotations": annotations, "categories": names}
    with open(work / "annotations" / f"{split}.json", "w") as file:
        file.write(json.dumps(content))
        flush_to_disk(file)


def _overlap(one: list[int], other: list[int]) -> bool:
    return all(one[a] < other[a] + other[a + 2] and other[a] < one[a] + one[a + 2] for a in (0, 1))


def prepare_coco_toy(root: str | Path, images: int = 240) -> dict[str, int]:
    """Make the set at `root`, see scene_counts and write_scenes; the numbers of pictures by split."""
    counts = scene_counts(images)
    write_scenes(Path(root), counts, CLASSES, "coco-toy", draw_scene)
    return counts


def draw_scene(split: str, number: int) -> Scene:
    """Up to MAX_OBJECTS shapes on a noisy ground. A place that is taken is passed over."""
    generator, x, y, pixels = blank(TOY, split, number, SIDES)
    labels, boxes = [], []
    wanted = int(generator.integers(1, MAX_OBJECTS + 1))
    for _ in range(TRIES):
        label, radius = int(generator.integers(len(CLASSES))), float(generator.integers(14, 29))
        centre = radius * 1.5 + generator.random(2) * (np.array(x.shape[::-1]) - 3 * radius)
        mask, contrast = shape_mask(label, x, y, centre, radius, generator), contrast_of(label, generator)
        box = _box(mask)
        if has_room(box, boxes, wanted):
            pixels = pixels + mask[..., None] * contrast
            labels.append(label)
            boxes.append(box)
    return Scene(noisy(pixels, generator), labels, boxes)


def _box(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.max(1) > FULLY), np.flatnonzero(mask.max(0) > FULLY)
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]
