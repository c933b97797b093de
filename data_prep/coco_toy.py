"""A toy set in COCO's format: one to three of the toy dataset's shapes in each picture, with their boxes.

For tests, and to try `python -m training detect` without any dataset. Deterministic, like data_prep/toy_images.py.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.errors import DataError
from data_prep.files import PARTIAL, disk_errors, flush_to_disk, one_writer, sync_folder
from data_prep.progress import tracked
from data_prep.toy_images import CLASSES, SEED, contrast_of, ground, shape_mask

SIDES = (96, 160)  # pixels, smallest and largest
MAX_SHAPES = 3
TRIES = 8  # places that are tried for the shapes of a picture
MAX_IMAGES = 100_000
FULLY = 0.5  # share of a pixel that a shape covers where its box is counted


def prepare_coco_toy(root: str | Path, images: int = 240) -> tuple[int, int]:
    """Write ROOT/annotations/{train,val}.json and ROOT/images/: `images` training pictures and a quarter as many for
    validation. Returns both numbers. Nothing to do when it is there; DataError when the folder holds something else."""
    if not 8 <= images <= MAX_IMAGES:
        raise DataError(f"--images {images}: choose 8 to {MAX_IMAGES}")
    root, counts = Path(root), {"train": images, "val": images // 4}
    with one_writer(root), disk_errors(root):
        texts = root / "annotations"
        if texts.exists() or (root / "images").exists():
            _check_existing(root, counts)
            return tuple(counts.values())
        shutil.rmtree(root / PARTIAL, ignore_errors=True)
        (root / PARTIAL / "annotations").mkdir(parents=True)
        (root / PARTIAL / "images").mkdir()
        for split, count in counts.items():
            _make(root / PARTIAL, split, count)
        os.rename(root / PARTIAL / "images", root / "images")
        os.rename(root / PARTIAL / "annotations", texts)  # last: a folder with annotations is whole
        sync_folder(root)
        shutil.rmtree(root / PARTIAL, ignore_errors=True)
    return tuple(counts.values())


def _check_existing(root: Path, counts: dict[str, int]) -> None:
    try:
        found = {split: json.loads((root / "annotations" / f"{split}.json").read_text()) for split in counts}
        same = all(found[s]["info"] == {"description": "coco-toy"} and len(found[s]["images"]) == counts[s]
                   for s in counts)
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise DataError(f"{root}: holds something else than this toy set. Delete it or choose another folder.")


def _make(work: Path, split: str, count: int) -> None:
    images, annotations = [], []
    for number in tracked(range(count), f"drawing the {split} pictures", count):
        pixels, labels, boxes = draw_scene(split, number)
        name = f"{split}-{number:05d}.png"
        Image.fromarray(pixels).save(work / "images" / name)
        images.append({"id": number + 1, "file_name": name, "width": pixels.shape[1], "height": pixels.shape[0]})
        for label, box in zip(labels, boxes, strict=True):
            annotations.append({"id": len(annotations) + 1, "image_id": number + 1, "category_id": label + 1,
                                "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
    content = {"info": {"description": "coco-toy"}, "images": images, "annotations": annotations,
               "categories": categories}
    with open(work / "annotations" / f"{split}.json", "w") as file:
        file.write(json.dumps(content))
        flush_to_disk(file)


def draw_scene(split: str, number: int) -> tuple[np.ndarray, list[int], list[list[int]]]:
    """Pixels (height, width, 3) uint8, and of each shape its label and box [x, y, width, height]. Boxes do not
    overlap: a place that is taken is passed over."""
    generator = np.random.default_rng((SEED, 2, ("train", "val").index(split), number))
    width, height = (int(side) for side in generator.integers(SIDES[0], SIDES[1] + 1, 2))
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    pixels = ground(0.3 + 0.4 * generator.random(3), x, y, generator)
    labels, boxes = [], []
    wanted = int(generator.integers(1, MAX_SHAPES + 1))
    for _ in range(TRIES):
        label, radius = int(generator.integers(len(CLASSES))), float(generator.integers(14, 29))
        centre = radius * 1.5 + generator.random(2) * (np.array([width, height]) - 3 * radius)
        mask, contrast = shape_mask(label, x, y, centre, radius, generator), contrast_of(label, generator)
        box = _box(mask)
        if len(boxes) < wanted and not any(_overlap(box, other) for other in boxes):
            pixels = pixels + mask[..., None] * contrast
            labels.append(label)
            boxes.append(box)
    noise = generator.random(pixels.shape) - generator.random(pixels.shape)
    return (255 * np.clip(pixels + 0.1 * noise, 0, 1)).astype(np.uint8), labels, boxes


def _box(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.max(1) > FULLY), np.flatnonzero(mask.max(0) > FULLY)
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]


def _overlap(one: list[int], other: list[int]) -> bool:
    return all(one[a] < other[a] + other[a + 2] and other[a] < one[a] + one[a + 2] for a in (0, 1))
