"""Collages in COCO's format: one to three images of a classification dataset in each picture, with their boxes.

To find an object is easy here, since it is a rectangle on a plain ground; to name it takes features of real images. So
it shows in a few hundred steps of `python -m training detect` what the weights of a classifier are worth.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.coco_scenes import MAX_OBJECTS, SPLITS, TRIES, Scene, has_room, write_scenes
from data_prep.image_index import index_name, open_index
from data_prep.manifest import load_manifest
from data_prep.packed import open_packed
from data_prep.pictures import read_rgb
from data_prep.toy_images import SEED, ground, noisy

SIDES = (128, 176)  # pixels of a picture, smallest and largest
OBJECT_SIDES = (56, 96)  # pixels
ASPECT = 1.5  # largest, of an object


@dataclass(frozen=True)
class Photos:
    """The images of one split: `places[label]` are those of a class, `read(place)` gives one in RGB."""

    places: list[np.ndarray]
    read: Callable[[int], Image.Image]


def prepare_coco_collage(data: str | Path, root: str | Path, images: int = 480) -> tuple[int, int]:
    """Make the set at `root` from the dataset at `data`, its training images for the training pictures, its validation
    images for the others; see write_scenes. Equal datasets give equal sets. DataError when there is no dataset."""
    manifest, photos = load_manifest(data), dict(zip(SPLITS, open_photos(Path(data)), strict=True))
    description = f"coco-collage of {manifest.name} {manifest.sha256}"

    def draw(split: str, number: int) -> Scene:
        return draw_collage(photos[split], split, number)

    return write_scenes(Path(root), images, manifest.classes, description, draw)


def open_photos(data: Path) -> list[Photos]:
    """Of the training and the validation split, from image files or from packed images."""
    manifest = load_manifest(data)
    if index_name("train") in manifest.splits["train"].files:
        indices = open_index(data).values()
        return [_photos(i.labels, lambda place, i=i: read_rgb(data / os.fsdecode(i.paths[place]))) for i in indices]
    splits = open_packed(data).values()
    return [_photos(s.labels, lambda place, s=s: Image.fromarray(s.images[place])) for s in splits]


def _photos(labels: np.ndarray, read: Callable[[int], Image.Image]) -> Photos:
    return Photos([np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)], read)


def draw_collage(photos: Photos, split: str, number: int) -> Scene:
    """Up to MAX_OBJECTS images on a noisy ground, each class equally often. A place that is taken is passed over."""
    generator = np.random.default_rng((SEED, 3, SPLITS.index(split), number))
    width, height = (int(side) for side in generator.integers(SIDES[0], SIDES[1] + 1, 2))
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    pixels = noisy(ground(0.3 + 0.4 * generator.random(3), x, y, generator), generator)
    labels, boxes = [], []
    wanted = int(generator.integers(1, MAX_OBJECTS + 1))
    for _ in range(TRIES):
        label, box = int(generator.integers(len(photos.places))), _draw_box(width, height, generator)
        place = generator.choice(photos.places[label])
        if has_room(box, boxes, wanted):
            left, top, *size = box
            pixels[top : top + size[1], left : left + size[0]] = _cut(photos.read(int(place)), *size)
            labels.append(label)
            boxes.append(box)
    return Scene(pixels, labels, boxes)


def _draw_box(width: int, height: int, generator: np.random.Generator) -> list[int]:
    """[x, y, width, height] anywhere in the picture."""
    sides = generator.integers(OBJECT_SIDES[0], OBJECT_SIDES[1] + 1, 2)
    sides = np.minimum(sides, int(ASPECT * sides.min()))
    corner = generator.integers(0, np.array([width, height]) - sides + 1)
    return [*corner.tolist(), *sides.tolist()]


def _cut(image: Image.Image, width: int, height: int) -> np.ndarray:
    """The largest part in the middle that has this shape, at this size: (height, width, 3) uint8."""
    scale = min(image.width / width, image.height / height)
    dx, dy = (image.width - scale * width) / 2, (image.height - scale * height) / 2
    box = (dx, dy, image.width - dx, image.height - dy)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box))
