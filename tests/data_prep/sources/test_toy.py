import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from picture_tree import tree_hash
from PIL import Image

from data_prep import DataError, load_manifest, open_packed
from data_prep.formats.image_index import check_images, open_index
from data_prep.sources.toy import prepare_toy

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    root = tmp_path_factory.mktemp("toy")
    return root, prepare_toy(root, images=360)


def test_two_calls_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        prepare_toy(tmp_path / name, images=48)
    assert tree_hash(tmp_path / "one") == tree_hash(tmp_path / "two")


@pytest.mark.slow
def test_more_images_keep_the_first_ones(tmp_path, toy):
    prepare_toy(tmp_path, images=48)
    for path in tmp_path.glob("train/*/*.jpg"):
        assert path.read_bytes() == (toy[0] / path.relative_to(tmp_path)).read_bytes()


def test_index_describes_every_file(toy):
    root, manifest = toy
    for split, index in open_index(root).items():
        on_disk = sorted(str(path.relative_to(root)) for path in root.glob(f"{split}/*/*"))
        assert [path.decode() for path in index.paths] == on_disk  # sorted by class folder and name
        assert len(on_disk) == manifest.splits[split].images
        for path, label, width, height, length in zip(
            index.paths, index.labels, index.widths, index.heights, index.bytes, strict=True
        ):
            file = root / path.decode()
            with Image.open(file) as image:
                assert (image.size, image.format) == ((width, height), "JPEG")
            assert file.stat().st_size == length and file.parent.name == manifest.classes[label]
        facts = manifest.splits[split]
        assert facts.width == (index.widths.min(), index.widths.max())
        assert facts.height == (index.heights.min(), index.heights.max())


def test_files_vary_in_size_shape_and_mode(toy):
    root, _ = toy
    index = open_index(root)["train"]
    aspects = index.widths / index.heights
    assert min(index.widths.min(), index.heights.min()) >= 40 and max(index.widths.max(), index.heights.max()) <= 120
    assert aspects.min() < 0.75 and aspects.max() > 1.33 and len(set(index.widths.tolist())) > 30
    modes = [Image.open(root / path.decode()).mode for path in index.paths]
    assert set(modes) == {"RGB", "L"} and 0.06 < modes.count("L") / len(modes) < 0.2


def test_packed_images_are_the_files_at_32_pixels(toy):
    root, _ = toy
    packed, index = open_packed(root)["validation"], open_index(root)["validation"]
    np.testing.assert_array_equal(packed.labels, index.labels)
    for position in range(0, len(index.paths), 7):
        with Image.open(root / index.paths[position].decode()) as image:
            expected = image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(packed.images[position], np.asarray(expected))


def nearest_centroid(train, validation, train_labels, labels):
    """Share of `validation` whose nearest class mean is right."""
    centroids = np.stack([train[train_labels == label].mean(0) for label in range(train_labels.max() + 1)])
    distances = ((validation[:, None] - centroids) ** 2).sum(-1)
    return (distances.argmin(1) == labels).mean()


def test_learnable_but_not_from_the_mean_colour(toy):
    packed = open_packed(toy[0])
    train, validation = packed["train"], packed["validation"]
    pixels = [split.images.reshape(len(split.images), -1) / 255 for split in (train, validation)]
    colours = [split.images.mean((1, 2)) for split in (train, validation)]
    assert nearest_centroid(*pixels, train.labels, validation.labels) > 0.45  # chance is 1/6
    assert nearest_centroid(*colours, train.labels, validation.labels) < 0.6


def test_second_call_is_done_at_once_and_another_size_is_refused(toy):
    root, manifest = toy
    before = tree_hash(root)
    assert prepare_toy(root, images=360) == manifest
    for images, classes in ((361, 6), (360, 5)):
        with pytest.raises(DataError, match="holds a toy dataset of 360 images and 6 classes"):
            prepare_toy(root, images, classes)
    assert tree_hash(root) == before


@pytest.mark.parametrize("classes", [2, 4, 6])
def test_number_of_classes(tmp_path, classes):
    manifest = prepare_toy(tmp_path, images=4 * classes + 1, classes=classes)
    assert len(manifest.classes) == classes == len(os.listdir(tmp_path / "train"))
    assert list(manifest.classes) == sorted(manifest.classes)
    assert min(manifest.splits["validation"].per_class) >= 1


@pytest.mark.parametrize(("images", "classes"), [(100, 1), (100, 7), (23, 6), (-1, 2), (10**9, 6)])
def test_bad_arguments(tmp_path, images, classes):
    with pytest.raises(DataError, match="--"):
        prepare_toy(tmp_path, images, classes)
    assert not os.listdir(tmp_path)


def test_missing_or_cut_image_is_named(tmp_path):
    prepare_toy(tmp_path, images=24)
    victim = tmp_path / "train/disc/00001.jpg"
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"00001\.jpg has \d+ bytes"):
        prepare_toy(tmp_path, images=24)
    victim.unlink()
    with pytest.raises(DataError, match=r"00001\.jpg is missing"):
        check_images(tmp_path, open_index(tmp_path)["train"])


def test_changed_index_is_refused(tmp_path):
    prepare_toy(tmp_path, images=24)
    path = tmp_path / "train.index.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=r"train\.index\.npz: SHA-256"):
        open_index(tmp_path)


def test_a_foreign_tree_is_left_alone(tmp_path):
    (tmp_path / "train/n01440764").mkdir(parents=True)
    (tmp_path / "train/n01440764/x.JPEG").write_bytes(b"precious")
    with pytest.raises(DataError, match="not from this toy dataset"):
        prepare_toy(tmp_path, images=24)
    assert (tmp_path / "train/n01440764/x.JPEG").read_bytes() == b"precious"
    with pytest.raises(DataError, match="no dataset at"):
        load_manifest(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    prepare_toy(root, images=96)
    return tree_hash(root)


SIGNS = ("validation", ".partial/validation.index.npz", "train", "train.index.npz")


@pytest.mark.parametrize(
    "sign",
    [".partial/train/disc/00003.jpg", *(pytest.param(sign, marks=pytest.mark.slow) for sign in SIGNS)],
)
def test_kill_leaves_no_dataset_and_a_rerun_completes(tmp_path, undisturbed, sign):
    root, command = tmp_path / "root", [sys.executable, "-m", "data_prep", "toy", str(tmp_path / "root")]
    process = subprocess.Popen(
        [*command, "--images", "96"], cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while not (root / sign).exists() and process.poll() is None:
        time.sleep(0.0002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not (root / "manifest.json").exists():
        with pytest.raises(DataError, match="not finished"):
            load_manifest(root)
    prepare_toy(root, images=96)
    assert tree_hash(root) == undisturbed
