"""A toy set in COCO's format: one to three of the toy dataset's shapes in each picture, with their boxes.

For tests, and to try `python -m training detect` without any dataset. Deterministic, like
data_prep/sources/toy_images.py.
"""

from pathlib import Path

import numpy as np

from data_prep.sources.coco_scenes import MAX_OBJECTS, TOY, TRIES, Scene, blank, has_room, scene_counts, write_scenes
from data_prep.sources.toy_images import CLASSES, contrast_of, noisy, shape_mask

SIDES = (96, 160)  # pixels, smallest and largest
FULLY = 0.5  # share of a pixel that a shape covers where its box is counted


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
