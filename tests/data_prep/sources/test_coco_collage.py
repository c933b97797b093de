"""Collages: each box holds the middle of an image of its class and of its split, from image files or packed images."""

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import load_manifest
from data_prep.__main__ import main
from data_prep.formats.coco import read_coco
from data_prep.formats.manifest import describe_files, save_manifest
from data_prep.sources.coco_collage import ASPECT, OBJECT_SIDES, SIDES, Photos, draw_collage, open_photos
from data_prep.sources.coco_scenes import WORK

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


def test_an_object_is_the_middle_of_its_image_neither_turned_nor_stretched():
    """Red grows to the right and green downwards, by one a pixel, in an image of 200 x 200."""
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8), (200, 200))
    image = Image.fromarray(np.stack([ramp, ramp.T, np.zeros_like(ramp)], axis=2))
    for number in range(20):
        pixels, _, boxes = draw_collage(Photos([np.array([0])], lambda place: image), "train", number)
        for x, y, width, height in boxes:
            part = pixels[y : y + height, x : x + width].astype(float)
            scale = 200 / max(width, height)
            across, down = (99.5 + scale * (np.arange(side) - (side - 1) / 2) for side in (width, height))
            assert np.abs(part[1:-1, 1:-1, 0] - across[1:-1]).max() < 1.5
            assert np.abs(part[1:-1, 1:-1, 1] - down[1:-1, None]).max() < 1.5


def test_images_of_any_size_can_be_pasted():
    """A bug: 500 px, 224 px and most toy images could come to a cut of -1e-14 px, which Pillow refuses."""
    sizes = [(500, 375), (375, 500), (224, 224), (79, 87), (1, 300), (300, 1), (1, 1), (4000, 3)]
    sizes += [(side, 699 - side) for side in range(40, 660, 13)]
    photos = Photos([np.arange(len(sizes))], lambda place: Image.new("RGB", sizes[place], COLOURS[0]))
    for number in range(150):
        draw_collage(photos, "train", number)


def test_images_are_those_of_the_split_and_the_class(toy, packed_only):
    for root in (toy, packed_only):
        manifest = load_manifest(root)
        for turned in (manifest, replace(manifest, splits=dict(reversed(manifest.splits.items())))):
            photos = open_photos(root, turned)
            for name, split in (("train", "train"), ("val", "validation")):
                assert [len(places) for places in photos[name].places] == list(manifest.splits[split].per_class)
                arrays = np.load(root / f"{split}.images.npy")
                for places in photos[name].places:
                    small = photos[name].read(int(places[0])).resize((32, 32), Image.Resampling.BILINEAR)
                    assert np.array_equal(np.asarray(small), arrays[places[0]])


def test_a_set_of_files_and_one_of_packed_images(toy, packed_only, tmp_path):
    for data in (toy, packed_only):
        root = tmp_path / f"of-{data.name}"
        assert main(["coco-collage", str(data), str(root), "--images", "12"]) == 0
        dataset = read_coco(root)
        assert dataset.categories == load_manifest(toy).classes
        assert (len(dataset.train.names), len(dataset.val.names)) == (12, 3) and not (root / WORK).exists()


def test_the_command_makes_it_once_and_refuses_another(toy, packed_only, tmp_path, capsys):
    root = tmp_path / "set"
    assert main(["coco-collage", str(toy), str(root), "--images", "8"]) == 0
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.png")}
    assert main(["coco-collage", str(toy), str(root), "--images", "8"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*.png")} and len(before) == 10
    capsys.readouterr()
    save_manifest(packed_only, replace(load_manifest(packed_only), sha256="0" * 64))
    for data, images in ((toy, "12"), (packed_only, "8")):
        assert main(["coco-collage", str(data), str(root), "--images", images]) == 2
        assert "holds something else" in capsys.readouterr().err
    for damage in ("{", "[" * 100_000):
        (root / "annotations" / "val.json").write_text(damage)
        assert main(["coco-collage", str(toy), str(root), "--images", "8"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_set_whose_pictures_are_gone_is_not_in_place(toy, tmp_path, capsys):
    root = tmp_path / "set"
    assert main(["coco-collage", str(toy), str(root), "--images", "8"]) == 0
    next((root / "images").iterdir()).unlink()
    assert main(["coco-collage", str(toy), str(root), "--images", "8"]) == 2


def test_bad_input_is_one_line_and_leaves_nothing(toy, tmp_path, capsys):
    broken = shutil.copytree(toy, tmp_path / "broken")
    for path in broken.rglob("*.jpg"):
        path.write_bytes(path.read_bytes()[:200])
    for data, images, reason in (
        (tmp_path / "none", "8", "there is no such folder"),
        (tmp_path / "none", "7", "choose 8 to"),
        (broken, "8", ".jpg: "),
    ):
        assert main(["coco-collage", str(data), str(tmp_path / "out"), "--images", images]) == 2
        err = capsys.readouterr().err
        error = [line for line in err.splitlines() if not line.startswith("drawing")]
        assert len(error) == 1 and reason in error[0] and not (tmp_path / "out").exists()


def test_a_class_without_an_image_is_named(packed_only, tmp_path, capsys):
    labels = np.load(packed_only / "validation.labels.npy")
    np.save(packed_only / "validation.labels.npy", np.where(labels == 5, 0, labels))
    manifest = load_manifest(packed_only)
    facts = manifest.splits["validation"]
    files = facts.files | describe_files(packed_only, ["validation.labels.npy"])
    first, *rest = facts.per_class
    per_class = (first + rest[-1], *rest[:-1], 0)
    splits = manifest.splits | {"validation": replace(facts, files=files, per_class=per_class)}
    save_manifest(packed_only, replace(manifest, splits=splits))
    assert main(["coco-collage", str(packed_only), str(tmp_path / "out"), "--images", "8"]) == 2
    assert "class 'triangle' has no image in validation" in capsys.readouterr().err


def test_other_folders_are_left_as_they_are(toy, tmp_path, capsys):
    own = shutil.copytree(toy, tmp_path / "own")
    work = tmp_path / "work"
    (work / ".partial" / "download").mkdir(parents=True)  # of another preparation, which can go on
    for root, reason in (
        (own, "lies in the dataset"),
        (own / "train" / "zz", "lies in the dataset"),
        (work, "(.partial)"),
    ):
        before = sorted(root.parent.rglob("*"))
        assert main(["coco-collage", str(own), str(root), "--images", "8"]) == 2
        assert reason in capsys.readouterr().err
        assert [path for path in sorted(root.parent.rglob("*")) if path.name != ".lock"] == [
            path for path in before if path.name != ".lock"
        ]


@pytest.mark.parametrize("stage", ["between the folders", pytest.param("drawing", marks=pytest.mark.slow)])
def test_a_killed_command_starts_clean(toy, tmp_path, stage):
    """The command as a process, stopped by kill -9 as soon as the stage is seen; or what such a kill leaves."""
    root, whole = tmp_path / "set", tmp_path / "whole"
    arguments = ["coco-collage", str(toy), str(root), "--images", "40" if stage == "drawing" else "8"]
    assert main([*arguments[:2], str(whole), *arguments[3:]]) == 0
    if stage == "drawing":
        process = subprocess.Popen([sys.executable, "-m", "data_prep", *arguments])
        while not list(root.glob(f"{WORK}/images/*.png")) and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        process.wait()
    else:
        shutil.copytree(whole, root)
        (root / WORK).mkdir()
        (root / "annotations").rename(root / WORK / "annotations")
    assert not (root / "annotations").exists()
    assert main(arguments) == 0
    assert not (root / WORK).exists()
    files = {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert files == {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
