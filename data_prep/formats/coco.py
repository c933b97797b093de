"""A detection dataset in COCO's format, read and checked: images, boxes and categories as numbers.

DATA/annotations/train.json and val.json with the pictures in DATA/images/ (or DATA/images/train/ and val/), or COCO's
own layout: DATA/annotations/instances_train2017.json and instances_val2017.json with DATA/train2017/ and val2017/.
The files may come from elsewhere, so everything in them is checked before it is used.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from data_prep.errors import DataError
from data_prep.files import file_digest
from dawn.filekind import wrong_kind

LAYOUTS = (
    # annotations, folders of the pictures: the first that is there
    ("annotations/{split}.json", ("images/{split}", "images")),
    ("annotations/instances_{split}2017.json", ("{split}2017", "images/{split}2017")),
)
MAX_BYTES = 2**31  # of an annotation file; COCO's largest has 0.5e9
MAX_ID = 2**53  # the largest whole number that every JSON writer keeps exact
SLACK = 1.0  # pixels that a box may lie outside of its picture: COCO's own are rounded
THIN = 1.0  # pixels: thinner boxes are no training targets


@dataclass(frozen=True)
class CocoSplit:
    """Per picture: `names`, `ids`, `sizes` (N, 2) width and height. Per box: `boxes` (M, 4) x, y, width, height,
    `labels` (M,) places in the categories, `crowd` (M,), `areas` (M,), all in the order of the pictures: those of
    picture i are `boxes[first[i]:first[i + 1]]`."""

    folder: Path
    names: tuple[str, ...]
    ids: np.ndarray
    sizes: np.ndarray
    first: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    sha256: str  # of the annotation file

    def of_image(self, image: int) -> slice:
        return slice(int(self.first[image]), int(self.first[image + 1]))

    @property
    def owners(self) -> np.ndarray:
        """(M,) the place of each box's picture."""
        return np.repeat(np.arange(len(self.names)), np.diff(self.first))

    def targets(self) -> np.ndarray:
        """(M,) bool: the boxes to train on; not crowds, and not those thinner than a pixel."""
        return ~self.crowd & (self.boxes[:, 2:] >= THIN).all(1)


@dataclass(frozen=True)
class CocoSet:
    root: Path
    categories: tuple[str, ...]  # by label
    category_ids: tuple[int, ...]  # the same, as in the files
    train: CocoSplit
    val: CocoSplit


def read_coco(root: str | Path) -> CocoSet:
    """Both splits of the dataset at `root`. DataError, one line, for anything that is missing, hostile or wrong."""
    root = Path(root)
    categories: dict[int, str] = {}
    splits = {}
    for split in ("train", "val"):
        path, folders = _places(root, split)
        content = _load(path)
        found = _categories(path, content)
        if categories and found != categories:
            raise DataError(f"{path}: its categories are not those of the training split. Make both from one dataset.")
        categories = found
        splits[split] = _split(path, folders, content, {number: label for label, number in enumerate(categories)})
    train = splits["train"]
    if not train.targets().any():
        raise DataError(f"{root}: the training split has no box to train on. Add annotations.")
    return CocoSet(root, tuple(categories.values()), tuple(categories), train, splits["val"])


def _places(root: Path, split: str) -> tuple[Path, list[Path]]:
    """The annotation file of a split and the folders where its pictures may lie."""
    for annotations, folders in LAYOUTS:
        path = root / annotations.format(split=split)
        if path.is_file():
            return path, [root / folder.format(split=split) for folder in folders]
    lacking = f"no annotations/{split}.json or instances_{split}2017.json in it"
    state = lacking if root.is_dir() else "no such folder"
    raise DataError(f"{root}: {state}. Give a dataset in COCO's format; a small one: python -m data_prep coco-toy DIR")


def _load(path: Path) -> dict:
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES} bytes. This is not an annotation file.")
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. Check that you may read it.") from error
    except (ValueError, RecursionError) as error:
        reason = wrong_kind(path) or f"not JSON ({str(error).splitlines()[0][:100]}). Get the file again"
        raise DataError(f"{path}: {reason}.") from None
    for name in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise DataError(f"{path}: no list {name!r} in it. This is not a COCO annotation file of objects.")
    return content


def _categories(path: Path, content: dict) -> dict[int, str]:
    """Names by id, in the order of the ids."""
    names: dict[int, str] = {}
    for where, entry in _entries(path, content, "categories"):
        number, name = _id(where, entry, "id"), entry.get("name")
        if number in names:
            raise DataError(f"{where}: id {number} is there twice. Give each category its own.")
        if not isinstance(name, str) or not name.isprintable():
            raise DataError(f"{where}: name {name!r:.60} is not a line of text. Rename it.")
        names[number] = name
    if not names:
        raise DataError(f"{path}: no categories. Add at least one.")
    return dict(sorted(names.items()))


def _split(path: Path, folders: list[Path], content: dict, labels: dict[int, int]) -> CocoSplit:
    folder = next((place for place in folders if place.is_dir()), None)
    if folder is None:
        raise DataError(f"{path}: no folder {' or '.join(map(str, folders))} for its pictures. Put them there.")
    images: dict[int, tuple[str, int, int]] = {}
    inside = folder.resolve()
    for where, entry in _entries(path, content, "images"):
        number = _id(where, entry, "id")
        if number in images:
            raise DataError(f"{where}: id {number} is there twice. Give each image its own.")
        size = tuple(_number(where, entry.get(side), side) for side in ("width", "height"))
        if min(size) < 1 or max(size) > 2**20 or any(side != int(side) for side in size):
            raise DataError(f"{where}: size {size} is not that of a picture. Correct width and height.")
        images[number] = (_file_name(where, entry.get("file_name"), folder, inside), int(size[0]), int(size[1]))
    if not images:
        raise DataError(f"{path}: no images. Add at least one.")
    places = {number: place for place, number in enumerate(images)}
    sizes = np.array([(width, height) for _, width, height in images.values()], np.int64)
    rows = [_annotation(where, entry, places, sizes, labels) for where, entry in _entries(path, content, "annotations")]
    rows.sort(key=lambda row: row[0])  # stable
    table = np.array(rows, np.float64).reshape(len(rows), 8)
    owners = table[:, 0].astype(np.int64)
    first = np.searchsorted(owners, np.arange(len(images) + 1))
    names = tuple(name for name, _, _ in images.values())
    return CocoSplit(
        folder,
        names,
        np.array(list(images), np.int64),
        sizes,
        first,
        table[:, 2:6],
        table[:, 1].astype(np.int64),
        table[:, 6] > 0,
        table[:, 7],
        file_digest(path),
    )


def _entries(path: Path, content: dict, kind: str) -> Iterator[tuple[str, dict]]:
    for place, entry in enumerate(content[kind]):
        where = f"{path}: {kind}[{place}]"
        if not isinstance(entry, dict):
            raise DataError(f"{where}: not an object. Get the file again.")
        yield where, entry


def _id(where: str, entry: dict, name: str) -> int:
    number = entry.get(name)
    if type(number) is not int or not 0 <= number <= MAX_ID:
        raise DataError(f"{where}: {name} {number!r:.60} is not a whole number from 0. Correct it.")
    return number


def _number(where: str, value: object, name: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > MAX_ID:
        raise DataError(f"{where}: {name} {value!r:.60} is not a number. Correct it.")
    return float(value)


def _file_name(where: str, name: object, folder: Path, inside: Path) -> str:
    """A name below the folder that is there, also when links are followed."""
    if not isinstance(name, str) or not name.isprintable() or not name or len(name) > 1000:
        raise DataError(f"{where}: file_name {name!r:.60} is not a name. Correct it.")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise DataError(f"{where}: file_name {name!r:.60} leads out of {folder}. Use names below it.")
    found = (folder / name).resolve()
    if not found.is_relative_to(inside):
        raise DataError(f"{where}: file_name {name!r:.60} is a link out of {folder}. Put the file itself there.")
    if not found.is_file():
        raise DataError(f"{where}: no file {folder / name}. Get the picture, or take it out of the list.")
    return name


def _annotation(where: str, entry: dict, places: dict[int, int], sizes: np.ndarray, labels: dict[int, int]) -> tuple:
    """place of the image, label, x, y, width, height, crowd, area; the box cut to the picture."""
    image, category = _id(where, entry, "image_id"), _id(where, entry, "category_id")
    if image not in places:
        raise DataError(f"{where}: image_id {image} is none of the images. Correct it.")
    if category not in labels:
        raise DataError(f"{where}: category_id {category} is none of the categories. Correct it.")
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise DataError(f"{where}: bbox {box!r:.60} is not [x, y, width, height]. Correct it.")
    x, y, width, height = (_number(where, value, "bbox") for value in box)
    room = sizes[places[image]]
    if width < 0 or height < 0 or min(x, y) < -SLACK or x + width > room[0] + SLACK or y + height > room[1] + SLACK:
        raise DataError(f"{where}: bbox {box} lies outside of its picture of {room[0]} x {room[1]}. Correct it.")
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + width, float(room[0])), min(y + height, float(room[1]))
    width, height = max(right - left, 0.0), max(bottom - top, 0.0)
    area = _number(where, entry.get("area", width * height), "area")
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise DataError(f"{where}: iscrowd {crowd!r:.60} is neither 0 nor 1. Correct it.")
    return places[image], labels[category], left, top, width, height, int(crowd), area
