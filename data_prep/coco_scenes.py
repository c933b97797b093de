"""Scenes, pictures with boxes that do not overlap, and how they become a small dataset in COCO's format."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_prep.errors import DataError
from data_prep.files import PARTIAL, disk_errors, flush_to_disk, one_writer, sync_folder
from data_prep.progress import tracked

SPLITS = ("train", "val")
MAX_OBJECTS = 3  # in a picture
TRIES = 8  # places that are tried for the objects of a picture
MAX_IMAGES = 100_000


class Scene(NamedTuple):
    """`pixels` (height, width, 3) uint8; per object its label and box [x, y, width, height]."""

    pixels: np.ndarray
    labels: list[int]
    boxes: list[list[int]]


def write_scenes(
    root: Path, images: int, categories: tuple[str, ...], description: str, draw: Callable[[str, int], Scene]
) -> tuple[int, int]:
    """Write ROOT/annotations/{train,val}.json and ROOT/images/: `images` training pictures and a quarter as many for
    validation, picture `number` of a split as `draw(split, number)`. Returns both numbers.

    Nothing to do when it is there; DataError when the folder holds something else.
    """
    if not 8 <= images <= MAX_IMAGES:
        raise DataError(f"--images {images}: choose 8 to {MAX_IMAGES}")
    counts = dict(zip(SPLITS, (images, images // 4), strict=True))
    with one_writer(root), disk_errors(root):
        texts = root / "annotations"
        if texts.exists() or (root / "images").exists():
            _check_existing(root, counts, description)
            return tuple(counts.values())
        shutil.rmtree(root / PARTIAL, ignore_errors=True)
        (root / PARTIAL / "annotations").mkdir(parents=True)
        (root / PARTIAL / "images").mkdir()
        for split, count in counts.items():
            _write(root / PARTIAL, split, count, categories, description, draw)
        os.rename(root / PARTIAL / "images", root / "images")
        os.rename(root / PARTIAL / "annotations", texts)  # last: a folder with annotations is whole
        sync_folder(root)
        shutil.rmtree(root / PARTIAL, ignore_errors=True)
    return tuple(counts.values())


def has_room(box: list[int], boxes: list[list[int]], wanted: int) -> bool:
    """Whether an object may lie in `box`: fewer than wanted are there, and none of them overlaps."""
    return len(boxes) < wanted and not any(_overlap(box, other) for other in boxes)


def _check_existing(root: Path, counts: dict[str, int], description: str) -> None:
    try:
        found = {split: json.loads((root / "annotations" / f"{split}.json").read_text()) for split in counts}
        same = all(found[s]["info"] == {"description": description} and len(found[s]["images"]) == counts[s]
                   for s in counts)
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise DataError(f"{root}: holds something else than this set. Delete it or choose another folder.")


def _write(work: Path, split: str, count: int, categories: tuple[str, ...], description: str, draw) -> None:
    images, annotations = [], []
    for number in tracked(range(count), f"drawing the {split} pictures", count):
        pixels, labels, boxes = draw(split, number)
        name = f"{split}-{number:05d}.png"
        Image.fromarray(pixels).save(work / "images" / name)
        images.append({"id": number + 1, "file_name": name, "width": pixels.shape[1], "height": pixels.shape[0]})
        for label, box in zip(labels, boxes, strict=True):
            annotations.append({"id": len(annotations) + 1, "image_id": number + 1, "category_id": label + 1,
                                "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    names = [{"id": label + 1, "name": name} for label, name in enumerate(categories)]
    content = {"info": {"description": description}, "images": images, "annotations": annotations, "categories": names}
    with open(work / "annotations" / f"{split}.json", "w") as file:
        file.write(json.dumps(content))
        flush_to_disk(file)


def _overlap(one: list[int], other: list[int]) -> bool:
    return all(one[a] < other[a] + other[a + 2] and other[a] < one[a] + one[a + 2] for a in (0, 1))
