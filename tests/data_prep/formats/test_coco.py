"""COCO-format datasets: the toy set is what it says, files from elsewhere are checked to the last number."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import DataError
from data_prep.__main__ import main
from data_prep.formats.coco import read_coco
from data_prep.sources.coco_scenes import SIDES, WORK, draw_scene, prepare_coco_toy
from data_prep.sources.toy_images import CLASSES


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> Path:
    """Read only."""
    root = tmp_path_factory.mktemp("coco") / "toy"
    prepare_coco_toy(root, 24)
    return root


@pytest.fixture
def own(coco, tmp_path) -> Path:
    return shutil.copytree(coco, tmp_path / "own")


def changed(root: Path, change, split: str = "train") -> Path:
    """The dataset after `change(content)` of an annotation file."""
    path = root / "annotations" / f"{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return root


def test_the_toy_set_has_its_shapes_in_its_boxes(coco):
    dataset = read_coco(coco)
    assert dataset.categories == CLASSES and dataset.category_ids == (1, 2, 3, 4, 5, 6)
    assert (len(dataset.train.names), len(dataset.val.names)) == (24, 6)
    for image, name in enumerate(dataset.train.names):
        picture = Image.open(dataset.train.folder / name)
        assert picture.size == tuple(dataset.train.sizes[image]) and SIDES[0] <= min(picture.size)
        assert len(dataset.train.boxes[dataset.train.of_image(image)]) >= 1


def test_a_scene_is_the_same_again_and_its_boxes_lie_apart():
    pixels, labels, boxes = draw_scene("train", 3)
    again = draw_scene("train", 3)
    assert np.array_equal(pixels, again[0]) and (labels, boxes) == again[1:]
    for scene in range(20):
        _, labels, boxes = draw_scene("val", scene)
        height_width = draw_scene("val", scene)[0].shape[:2]
        covered = np.zeros(height_width, int)
        for x, y, width, height in boxes:
            covered[y : y + height, x : x + width] += 1
            assert x >= 0 and y >= 0 and x + width <= height_width[1] and y + height <= height_width[0]
        assert covered.max() == 1 and len(labels) == len(boxes)


def test_the_command_makes_it_once_and_refuses_another(tmp_path, capsys):
    root = tmp_path / "set"
    assert main(["coco-toy", str(root), "--images", "8"]) == 0
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.png")}
    assert main(["coco-toy", str(root), "--images", "8"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*.png")} and len(before) == 10
    assert not (root / WORK).exists()
    capsys.readouterr()
    assert main(["coco-toy", str(root), "--images", "12"]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert main(["coco-toy", str(tmp_path / "none"), "--images", "7"]) == 2


def test_cocos_own_layout_is_known(own):
    os.rename(own / "annotations" / "train.json", own / "annotations" / "instances_train2017.json")
    os.rename(own / "annotations" / "val.json", own / "annotations" / "instances_val2017.json")
    os.rename(own / "images", own / "train2017")
    shutil.copytree(own / "train2017", own / "val2017")
    dataset = read_coco(own)
    assert (dataset.train.folder.name, dataset.val.folder.name) == ("train2017", "val2017")


def test_boxes_are_in_the_order_of_their_pictures(own):
    before = read_coco(own)
    after = read_coco(changed(own, lambda content: content["annotations"].reverse()))
    for image in range(len(before.train.names)):
        rows = [sorted(split.boxes[split.of_image(image)].tolist()) for split in (before.train, after.train)]
        assert rows[0] == rows[1]


def test_ids_may_have_holes_and_any_order(own):
    def renumber(content):
        for entry in content["categories"]:
            entry["id"] = 100 - entry["id"]
        for entry in content["annotations"]:
            entry["category_id"] = 100 - entry["category_id"]

    for split in ("train", "val"):
        changed(own, renumber, split)
    dataset = read_coco(own)
    assert dataset.categories == CLASSES[::-1] and dataset.category_ids == (94, 95, 96, 97, 98, 99)


def test_a_box_a_pixel_outside_is_cut_and_thin_ones_and_crowds_are_no_targets(own):
    def edit(content):
        width = content["images"][0]["width"]
        box = {"image_id": content["images"][0]["id"], "category_id": 1}
        content["annotations"] = [
            {**box, "bbox": [-0.5, 2, 10, 10]},
            {**box, "bbox": [width - 5, 2, 5.8, 10]},
            {**box, "bbox": [5, 5, 0.3, 9]},
            {**box, "bbox": [5, 5, 30, 9], "iscrowd": 1},
        ]

    split = read_coco(changed(own, edit)).train
    assert split.boxes[0].tolist() == [0, 2, 9.5, 10] and split.boxes[1][2] == 5
    assert split.targets().tolist() == [True, True, False, False] and split.areas[0] == 95


BAD = {
    "image_id 999 is none": lambda c: c["annotations"][0].update(image_id=999),
    "category_id 77 is none": lambda c: c["annotations"][0].update(category_id=77),
    "lies outside": lambda c: c["annotations"][0].update(bbox=[0, 0, 5000, 5]),
    "lies outside of its": lambda c: c["annotations"][0].update(bbox=[10, 10, -5, 5]),
    "is not \\[x, y": lambda c: c["annotations"][0].update(bbox=[1, 2, 3]),
    "is not a number": lambda c: c["annotations"][0].update(bbox=[1, 2, "3", 4]),
    "bbox nan is not": lambda c: c["annotations"][0].update(bbox=[1, 2, float("nan"), 4]),
    "neither 0 nor 1": lambda c: c["annotations"][0].update(iscrowd=2),
    "id 1 is there twice": lambda c: c["images"][1].update(id=1),
    "twice. Give each category": lambda c: c["categories"][1].update(id=1),
    "not a whole number": lambda c: c["images"][0].update(id=True),
    "not that of a picture": lambda c: c["images"][0].update(width=0),
    "leads out": lambda c: c["images"][0].update(file_name="../annotations/train.json"),
    "leads out of": lambda c: c["images"][0].update(file_name="/etc/passwd"),
    "is not a name": lambda c: c["images"][0].update(file_name="a\nb.png"),
    "is not a name. ": lambda c: c["images"][0].update(file_name=7),
    "no file": lambda c: c["images"][0].update(file_name="gone.png"),
    "no list 'images'": lambda c: c.update(images={}),
    "no images": lambda c: c.update(images=[], annotations=[]),
    "no categories": lambda c: c.update(categories=[]),
    "no box to train on": lambda c: c.update(annotations=[]),
    "not an object": lambda c: c["annotations"].append(3),
    "not those of the training": lambda c: c["categories"].pop(),
}


@pytest.mark.parametrize("reason", BAD)
def test_what_is_wrong_is_said_in_one_line(own, reason):
    def change(content):
        BAD[reason](content)
        if reason.startswith("not those"):
            content["annotations"] = [a for a in content["annotations"] if a["category_id"] < 6]

    with pytest.raises(DataError, match=reason) as caught:
        read_coco(changed(own, change))
    assert "\n" not in str(caught.value) and str(own) in str(caught.value)


def test_links_out_of_the_folder_are_refused(own):
    picture = next((own / "images").glob("train-*.png"))
    os.rename(picture, own / "secret.png")
    picture.symlink_to(own / "secret.png")
    with pytest.raises(DataError, match="is a link out of"):
        read_coco(own)


@pytest.mark.parametrize("text", ["", "[", "[]", "null", "[" * 100_000, '{"images": 1}'])
def test_files_that_are_no_annotations(own, text):
    (own / "annotations" / "val.json").write_text(text)
    with pytest.raises(DataError, match=r"not JSON|no list|empty"):
        read_coco(own)


def test_folders_that_are_no_dataset(own, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_coco(tmp_path / "none")
    shutil.rmtree(own / "images")
    with pytest.raises(DataError, match="no folder"):
        read_coco(own)
    shutil.rmtree(own / "annotations")
    with pytest.raises(DataError, match=r"no annotations/train.json.*coco-toy"):
        read_coco(own)
