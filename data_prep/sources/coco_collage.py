"""Collages in COCO's format: one or two images of a classification dataset in each picture, with their boxes.

To find an object is easy here, since it is a rectangle on an almost even ground; to name it takes features of real
images. So it shows in a few hundred steps of `python -m training detect` what the weights of a classifier are worth.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from data_prep.errors import DataError
from data_prep.formats.image_index import index_name, open_index
from data_prep.formats.manifest import Manifest, load_manifest
from data_prep.formats.packed import open_packed
from data_prep.formats.pictures import read_rgb
from data_prep.sources.coco_scenes import (
    COLLAGE,
    MAX_OBJECTS,
    TRIES,
    Scene,
    blank,
    has_room,
    scene_counts,
    write_scenes,
)
from data_prep.sources.toy_images import noisy

SIDES = (128, 176)  # pixels of a picture, smallest and largest
OBJECT_SIDES = (56, 96)  # pixels
ASPECT = 1.5  # largest, of an object


@dataclass(frozen=True)
class Photos:
    """The images of one split: `places[label]` are those of a class, `read(place)` gives one in RGB."""

    places: list[np.ndarray]
    read: Callable[[int], Image.Image]


def prepare_coco_collage(data: str | Path, root: str | Path, images: int = 480) -> dict[str, int]:
    """Make the set at `root` from the dataset at `data`, its training images for the training pictures, its validation
    images for the others; see scene_counts and write_scenes. The numbers of pictures by split.

    The same files and libraries give the same set. DataError when there is no dataset, or `root` lies in it.
    """
    data, root, counts = Path(data), Path(root), scene_counts(images)
    manifest = load_manifest(data)
    if root.resolve().is_relative_to(data.resolve()):
        raise DataError(f"{root}: lies in the dataset {data}. Choose a folder beside it.")
    photos = open_photos(data, manifest)

    def draw(split: str, number: int) -> Scene:
        return draw_collage(photos[split], split, number)

    write_scenes(root, counts, manifest.classes, f"coco-collage of {manifest.name} {manifest.sha256}", draw)
    return counts


def open_photos(data: Path, manifest: Manifest) -> dict[str, Photos]:
    """Of the training split ("train") and the validation split ("val"), from image files or from packed images.
    DataError when a class has no image in one of them."""
    from_files = all(index_name(split) in facts.files for split, facts in manifest.splits.items())
    found = open_index(data) if from_files else open_packed(data)
    photos = {}
    for name, split in (("train", "train"), ("val", "validation")):
        labels = found[split].labels
        places = [np.flatnonzero(labels == label) for label in range(len(manifest.classes))]
        empty = next((label for label, of_class in enumerate(places) if not len(of_class)), None)
        if empty is not None:
            raise DataError(f"{data}: class '{manifest.classes[empty]}' has no image in {split}. Give it one.")
        photos[name] = Photos(
            places, _file_reader(data, found[split].paths) if from_files else _packed_reader(found[split].images)
        )
    return photos


def _file_reader(data: Path, paths: np.ndarray) -> Callable[[int], Image.Image]:
    return lambda place: read_rgb(data / os.fsdecode(paths[place]))


def _packed_reader(images: np.ndarray) -> Callable[[int], Image.Image]:
    return lambda place: Image.fromarray(images[place])


def draw_collage(photos: Photos, split: str, number: int) -> Scene:
    """Images on a noisy ground, each class equally often. A place that is taken is passed over, so that most pictures
    have one image, some two, and a third does not fit."""
    generator, _, _, ground = blank(COLLAGE, split, number, SIDES)
    pixels, labels, boxes = noisy(ground, generator), [], []
    wanted = int(generator.integers(1, MAX_OBJECTS + 1))
    for _ in range(TRIES):
        label, box = int(generator.integers(len(photos.places))), _draw_box(*pixels.shape[1::-1], generator)
        place = generator.choice(photos.places[label])
        if has_room(box, boxes, wanted):
            left, top, width, height = box
            image = ImageOps.fit(photos.read(int(place)), (width, height), Image.Resampling.BILINEAR)  # cut, scaled
            pixels[top : top + height, left : left + width] = np.asarray(image)
            labels.append(label)
            boxes.append(box)
    return Scene(pixels, labels, boxes)


def _draw_box(width: int, height: int, generator: np.random.Generator) -> list[int]:
    """[x, y, width, height] anywhere in a picture of this width and height."""
    sides = generator.integers(OBJECT_SIDES[0], OBJECT_SIDES[1] + 1, 2)
    sides = np.minimum(sides, int(ASPECT * sides.min()))
    corner = generator.integers(0, np.array([width, height]) - sides + 1)
    return [*corner.tolist(), *sides.tolist()]
