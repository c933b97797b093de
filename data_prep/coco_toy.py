"""A toy set in COCO's format: one to three of the toy dataset's shapes in each picture, with their boxes.

For tests, and to try `python -m training detect` without any dataset. Deterministic, like data_prep/toy_images.py.
"""

from pathlib import Path

import numpy as np

from data_prep.coco_scenes import MAX_OBJECTS, SPLITS, TRIES, Scene, has_room, write_scenes
from data_prep.toy_images import CLASSES, SEED, contrast_of, ground, noisy, shape_mask

SIDES = (96, 160)  # pixels, smallest and largest
FULLY = 0.5  # share of a pixel that a shape covers where its box is counted


def prepare_coco_toy(root: str | Path, images: int = 240) -> tuple[int, int]:
    """Make the set at `root`, see write_scenes."""
    return write_scenes(Path(root), images, CLASSES, "coco-toy", draw_scene)


def draw_scene(split: str, number: int) -> Scene:
    """Up to MAX_OBJECTS shapes on a noisy ground. A place that is taken is passed over."""
    generator = np.random.default_rng((SEED, 2, SPLITS.index(split), number))
    width, height = (int(side) for side in generator.integers(SIDES[0], SIDES[1] + 1, 2))
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    pixels = ground(0.3 + 0.4 * generator.random(3), x, y, generator)
    labels, boxes = [], []
    wanted = int(generator.integers(1, MAX_OBJECTS + 1))
    for _ in range(TRIES):
        label, radius = int(generator.integers(len(CLASSES))), float(generator.integers(14, 29))
        centre = radius * 1.5 + generator.random(2) * (np.array([width, height]) - 3 * radius)
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
