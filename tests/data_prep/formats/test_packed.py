import hashlib
from dataclasses import replace

import numpy as np
import pytest

from data_prep import DataError, Manifest, load_manifest, open_packed
from data_prep.files import write_npy
from data_prep.formats.manifest import describe_files, save_manifest
from data_prep.formats.packed import Packed, content_digest, describe_packed, packed_names, read_packed, write_packed


def make(root, seed=0):
    """Two classes, 6 + 4 images of 8x8."""
    generator = np.random.default_rng(seed)
    arrays = {
        "train": (generator.integers(0, 256, (6, 8, 8, 3), np.uint8), np.array([0, 1, 0, 1, 0, 1])),
        "validation": (generator.integers(0, 256, (4, 8, 8, 3), np.uint8), np.array([1, 1, 0, 0])),
    }
    for split, (images, labels) in arrays.items():
        write_packed(root, split, [images[:2], images[2:]], labels, 8)
    declare(root)
    return arrays


def declare(root):
    """Write the manifest of whatever lies there."""
    splits = {split: describe_packed(root, split, 2) for split in ("train", "validation")}
    digest = content_digest([read_packed(root, split) for split in splits])
    save_manifest(root, Manifest("toy", "toy", "test", ("cat", "dog"), splits, digest, "test"))


def test_what_is_written_is_read(tmp_path):
    arrays = make(tmp_path)
    packed = open_packed(tmp_path)
    assert list(packed) == ["train", "validation"]
    for split, (images, labels) in arrays.items():
        np.testing.assert_array_equal(packed[split].images, images)
        np.testing.assert_array_equal(packed[split].labels, labels)
        assert packed[split].images.dtype == np.uint8 and packed[split].labels.dtype == np.int64
    facts = load_manifest(tmp_path).splits["validation"]
    assert (facts.images, facts.per_class, facts.width, facts.height) == (4, (2, 2), (8, 8), (8, 8))


def test_images_are_a_read_only_map(tmp_path):
    make(tmp_path)
    images = open_packed(tmp_path)["train"].images
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_files_are_plain_npy(tmp_path):
    arrays = make(tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "train.images.npy", allow_pickle=False), arrays["train"][0])


def test_content_digest_is_pixels_then_labels_of_each_split(tmp_path):
    arrays = make(tmp_path)
    text = b"".join(images.tobytes() + bytes(labels.tolist()) for images, labels in arrays.values())
    assert load_manifest(tmp_path).sha256 == hashlib.sha256(text).hexdigest()
    images, labels = arrays["train"]
    assert content_digest([Packed(images[::-1], labels[::-1])]) != content_digest([Packed(images, labels)])


def test_one_flipped_bit_is_noticed_unless_told_not_to_look(tmp_path):
    make(tmp_path)
    path = tmp_path / "validation.images.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"validation\.images\.npy: SHA-256"):
        open_packed(tmp_path)
    open_packed(tmp_path, verify=False)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", packed_names("train") + packed_names("validation"))
def test_truncated_and_missing_arrays(tmp_path, name, verify):
    make(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"{name}.*Make the dataset again"):
        open_packed(tmp_path, verify)
    path.unlink()
    with pytest.raises(DataError, match=name):
        open_packed(tmp_path, verify)


def redeclare(root, name):
    """A manifest whose sizes and hashes fit the changed file, so that only its meaning is wrong."""
    manifest = load_manifest(root)
    files = manifest.splits["train"].files | describe_files(root, [name])
    train = replace(manifest.splits["train"], files=files)
    save_manifest(root, replace(manifest, splits=manifest.splits | {"train": train}))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((6, 8, 8, 3), np.float32),
        np.zeros((6, 8, 8), np.uint8),
        np.zeros((6, 8, 8, 1), np.uint8),
        np.zeros((5, 8, 8, 3), np.uint8),
        np.zeros((), np.uint8),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_images_of_another_kind_are_refused(tmp_path, array):
    make(tmp_path)
    np.save(tmp_path / "train.images.npy", array)
    redeclare(tmp_path, "train.images.npy")
    with pytest.raises(DataError, match=r"train\.images\.npy"):
        open_packed(tmp_path)


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 0, 1, 0, 2],
        [0, 1, 0, 1, 0, -1],
        [0, 0, 0, 1, 0, 1],
        [0, 1, 0],
        [[0], [1], [0], [1], [0], [1]],
        [0.0, 1, 0, 1, 0, 1],
        [0, 1, 0, 1, 0, 2**62],
    ],
    ids=str,
)
def test_labels_that_do_not_fit_the_classes_are_refused(tmp_path, labels):
    make(tmp_path)
    np.save(tmp_path / "train.labels.npy", np.array(labels))
    redeclare(tmp_path, "train.labels.npy")
    with pytest.raises(DataError):
        open_packed(tmp_path)


def test_a_pickle_in_disguise_is_never_opened(tmp_path):
    make(tmp_path)
    marker = tmp_path / "marker"

    class Hostile:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    np.save(tmp_path / "train.labels.npy", np.array([Hostile()], object), allow_pickle=True)
    redeclare(tmp_path, "train.labels.npy")
    with pytest.raises(DataError, match="not readable"):
        open_packed(tmp_path)
    assert not marker.exists()


def test_blocks_must_fill_the_shape(tmp_path):
    with pytest.raises(AssertionError, match="blocks"):
        write_npy(tmp_path / "x.npy", (3, 2), np.uint8, [np.zeros((2, 2), np.uint8)])
