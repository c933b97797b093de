"""Collages: each box holds a whole image of its class and of its split, from image files and from packed images."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import load_manifest
from data_prep.__main__ import main
from data_prep.coco import read_coco
from data_prep.coco_collage import ASPECT, OBJECT_SIDES, SIDES, Photos, draw_collage, open_photos
from data_prep.manifest import save_manifest

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


@pytest.fixture
def plain() -> Photos:
    """Three classes of one colour and of different shapes."""
    return Photos(
        [np.array([3 * k + label for k in range(4)]) for label in range(3)],
        lambda place: Image.new("RGB", (40 + 9 * place, 120 - 9 * place), COLOURS[place % 3]),
    )


@pytest.fixture
def packed_only(toy, tmp_path) -> Path:
    """The toy set as a dataset without image files, like CIFAR-10."""
    place = tmp_path / "packed"
    place.mkdir()
    for path in toy.glob("*.npy"):
        shutil.copy(path, place)
    manifest = load_manifest(toy)
    names = {
        split: [n for n in facts.files if n.startswith(f"{split}.") and n.endswith("s.npy")]
        for split, facts in manifest.splits.items()
    }
    splits = {s: replace(f, files={name: f.files[name] for name in names[s]}) for s, f in manifest.splits.items()}
    save_manifest(place, replace(manifest, splits=splits))
    return place


def test_a_box_holds_an_image_of_its_class_and_nothing_else(plain):
    counts = np.zeros(3, int)
    for number in range(60):
        pixels, labels, boxes = draw_collage(plain, "train", number)
        assert 1 <= len(labels) == len(boxes) <= 3
        assert all(SIDES[0] <= side <= SIDES[1] for side in pixels.shape[:2])
        covered = np.zeros(pixels.shape[:2], int)
        for label, (x, y, width, height) in zip(labels, boxes, strict=True):
            assert OBJECT_SIDES[0] <= min(width, height) and max(width, height) <= OBJECT_SIDES[1]
            assert max(width, height) <= ASPECT * min(width, height)
            assert (
                pixels[y : y + height, x : x + width].reshape(-1, 3).tolist() == [list(COLOURS[label])] * width * height
            )
            covered[y : y + height, x : x + width] += 1
            counts[label] += 1
        assert covered.max() == 1
        assert not (pixels[covered == 0][:, None] == COLOURS).all(-1).any()
    assert counts.min() > 0.2 * counts.sum()


def test_a_collage_is_the_same_again_and_differs_between_splits(plain):
    one, again, other = (draw_collage(plain, split, 5) for split in ("train", "train", "val"))
    assert np.array_equal(one.pixels, again.pixels) and one[1:] == again[1:]
    assert one.pixels.shape != other.pixels.shape or not np.array_equal(one.pixels, other.pixels)


def test_images_are_those_of_the_split_and_the_class(toy, packed_only):
    for root in (toy, packed_only):
        for split, photos in zip(("train", "validation"), open_photos(root), strict=True):
            facts = load_manifest(root).splits[split]
            assert [len(places) for places in photos.places] == list(facts.per_class)
            arrays = np.load(root / f"{split}.images.npy")
            for places in photos.places:
                small = photos.read(int(places[0])).resize((32, 32), Image.Resampling.BILINEAR)
                assert np.array_equal(np.asarray(small), arrays[places[0]])


def test_the_command_makes_it_once_and_refuses_another(toy, packed_only, tmp_path, capsys):
    root = tmp_path / "set"
    assert main(["coco-collage", str(toy), str(root), "--images", "8"]) == 0
    dataset = read_coco(root)
    assert dataset.categories == load_manifest(toy).classes
    assert (len(dataset.train.names), len(dataset.val.names)) == (8, 2)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.png")}
    assert main(["coco-collage", str(toy), str(root), "--images", "8"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*.png")} and len(before) == 10
    capsys.readouterr()
    other = load_manifest(packed_only)
    save_manifest(packed_only, replace(other, sha256="0" * 64))
    for data, images in ((toy, "12"), (packed_only, "8")):
        assert main(["coco-collage", str(data), str(root), "--images", images]) == 2
        assert "holds something else" in capsys.readouterr().err


def test_bad_input_is_one_line_and_leaves_nothing(toy, tmp_path, capsys):
    broken = shutil.copytree(toy, tmp_path / "broken")
    for path in broken.rglob("*.jpg"):
        path.write_bytes(path.read_bytes()[:200])
    for data, images, reason in (
        (tmp_path / "none", "8", "there is no such folder"),
        (toy, "7", "choose 8 to"),
        (broken, "8", ".jpg: "),
    ):
        assert main(["coco-collage", str(data), str(tmp_path / "out"), "--images", images]) == 2
        err = capsys.readouterr().err
        error = [line for line in err.splitlines() if not line.startswith("drawing")]
        assert len(error) == 1 and reason in error[0] and not (tmp_path / "out" / "annotations").exists()


def test_a_half_written_set_is_made_anew(toy, tmp_path):
    root = tmp_path / "set"
    (root / ".partial" / "images").mkdir(parents=True)
    (root / ".partial" / "images" / "train-00000.png").write_bytes(b"half")
    assert main(["coco-collage", str(toy), str(root), "--images", "8"]) == 0
    read_coco(root)
    assert json.loads((root / "annotations" / "train.json").read_text())["info"]["description"].startswith(
        "coco-collage of toy"
    )
