import json
import os
import shutil
import threading
from dataclasses import replace

import pytest

from data_prep import DataError, Manifest, Split, load_manifest
from data_prep.files import disk_errors, one_writer, write_atomically, write_npy
from data_prep.formats.manifest import MANIFEST, check_files, describe_files, how_to_make, save_manifest


@pytest.fixture
def dataset(tmp_path):
    """A tiny dataset: one file in each split, and the manifest that describes them."""
    splits = {}
    for name in ("train", "validation"):
        (tmp_path / f"{name}.bin").write_bytes(name.encode() * 10)
        splits[name] = Split(3, (1, 2), (4, 5), (6, 7), describe_files(tmp_path, [f"{name}.bin"]))
    manifest = Manifest("toy", "toy", "here", ("cat", "dog"), splits, "0" * 64, "test")
    save_manifest(tmp_path, manifest)
    return tmp_path, manifest


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_manifest_is_read_back_equal(dataset):
    root, manifest = dataset
    assert load_manifest(root) == manifest == load_manifest(str(root))
    check_files(root, manifest)


def test_missing_dataset_names_place_and_remedy(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError) as error:
            load_manifest(root)
        assert f"no dataset at {root}" in one_line(error)
        assert f"python -m data_prep adopt {root}" in one_line(error)
        assert "cifar10" not in one_line(error)  # it was the advice for every folder


def test_the_remedy_fits_the_folder(tmp_path):
    """It was "python -m data_prep cifar10" for every folder."""
    (tmp_path / "tree" / "train").mkdir(parents=True)
    (tmp_path / "tree-sz" / "320" / "train").mkdir(parents=True)  # of the user, as in 2018
    adopt = f"adopt {tmp_path / 'tree'}"
    for root, command in (
        (tmp_path / "tree", adopt),
        (tmp_path / "tree-sz" / "160", f"{adopt} && python -m data_prep resize {tmp_path / 'tree'} --sizes 160"),
        (tmp_path / "tree-sz" / "320", f"adopt {tmp_path / 'tree-sz' / '320'}"),
        (tmp_path / "none-sz" / "160", f"resize {tmp_path / 'none'} --sizes 160"),
        (tmp_path / "toy", f"toy {tmp_path / 'toy'};"),
        (tmp_path / "CIFAR10-b", f"cifar10 {tmp_path / 'CIFAR10-b'};"),
        (tmp_path / "imagenette", f"imagenette {tmp_path / 'imagenette'};"),
        (tmp_path / "imagenet", f"imagenet TRAIN_TAR VAL_TAR {tmp_path / 'imagenet'};"),
        (tmp_path / "tree-sz" / "other", "--help lists how"),
    ):
        with pytest.raises(DataError) as error:
            load_manifest(root)
        assert f"python -m data_prep {command}" in one_line(error)
    for name, words in (("toy", "data_prep toy "), ("cifar10", "data_prep cifar10 "), ("photos", "--again")):
        assert (words in how_to_make(tmp_path / "tree", name) and "cifar10" not in words) or name == "cifar10"
    assert how_to_make(tmp_path / "gone", "imagewoof").endswith(f"data_prep imagewoof {tmp_path / 'gone'}")


def test_unfinished_preparation_is_called_so(tmp_path):
    (tmp_path / ".partial").mkdir()
    with pytest.raises(DataError, match="not finished"):
        load_manifest(tmp_path)


def test_every_truncation_is_refused(dataset):
    root, _ = dataset
    whole = (root / MANIFEST).read_bytes()
    for length in range(0, len(whole) - 2, 37):
        (root / MANIFEST).write_bytes(whole[:length])
        with pytest.raises(DataError) as error:
            load_manifest(root)
        assert "damaged" in one_line(error)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"9" * 10_000,
        b'{"format": NaN}',
        b" " * (2**24 + 1),
    ],
    ids=["empty", "null", "list", "no keys", "not utf-8", "deep", "long number", "nan", "huge"],
)
def test_hostile_text_is_one_line(tmp_path, text):
    (tmp_path / MANIFEST).write_bytes(text)
    with pytest.raises(DataError) as error:
        load_manifest(tmp_path)
    assert "damaged" in one_line(error) or (text.startswith(b"\xff\xfe") and "UTF-16" in one_line(error))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"name": "../x"},
        {"name": 5},
        {"source": "two\nlines"},
        {"sha256": "abc"},
        {"classes": []},
        {"classes": ["cat", "cat"]},
        {"classes": ["cat", "d\tog"]},
        {"classes": "cat"},
        {"splits": {}},
        {"splits": []},
    ],
    ids=str,
)
def test_wrong_field_is_refused(dataset, change):
    root, _ = dataset
    data = json.loads((root / MANIFEST).read_text())
    (root / MANIFEST).write_text(json.dumps(data | change))
    with pytest.raises(DataError, match="damaged"):
        load_manifest(root)


@pytest.mark.parametrize(
    "change",
    [
        {"images": 4},
        {"images": "3"},
        {"images": True},
        {"per_class": [3]},
        {"per_class": [4, -1]},
        {"width": [1]},
        {"height": None},
        {"files": {}},
        {"files": {"../x": {"bytes": 1, "sha256": "0" * 64}}},
        {"files": {"/etc/passwd": {"bytes": 1, "sha256": "0" * 64}}},
        {"files": {"x": {"bytes": 1}}},
        {"files": {"x": 1}},
        {"files": {"x": {"bytes": 1.5, "sha256": "0" * 64}}},
    ],
    ids=str,
)
def test_wrong_split_is_refused(dataset, change):
    root, _ = dataset
    data = json.loads((root / MANIFEST).read_text())
    data["splits"]["train"] |= change
    (root / MANIFEST).write_text(json.dumps(data))
    with pytest.raises(DataError, match="damaged"):
        load_manifest(root)


def test_changed_truncated_and_missing_files_are_named(dataset):
    root, manifest = dataset
    path = root / "validation.bin"
    whole = path.read_bytes()
    for content, reason in ((whole[:-1], "bytes, the manifest"), (b"V" + whole[1:], "SHA-256"), (None, "readable")):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError) as error:
            check_files(root, manifest)
        assert str(path) in one_line(error) and reason in one_line(error)
        assert "python -m data_prep toy" in one_line(error)
        path.write_bytes(whole)
    check_files(root, manifest)


def test_sizes_alone_do_not_see_a_changed_byte(dataset):
    root, manifest = dataset
    (root / "train.bin").write_bytes(b"T" + (root / "train.bin").read_bytes()[1:])
    check_files(root, manifest, hashes=False)
    with pytest.raises(DataError, match=r"train\.bin"):
        check_files(root, manifest)


def test_an_unreadable_manifest_is_never_written(dataset):
    root, manifest = dataset
    before = (root / MANIFEST).read_bytes()
    with pytest.raises(ValueError, match="twice"):
        save_manifest(root, replace(manifest, classes=("cat", "cat")))
    assert (root / MANIFEST).read_bytes() == before


def test_readers_never_see_half_a_file(tmp_path):
    path, texts, seen = tmp_path / "file", [b"a" * 100_000, b"b" * 200_000], set()
    write_atomically(path, texts[0])
    writer = threading.Thread(target=lambda: [write_atomically(path, texts[turn % 2]) for turn in range(40)])
    writer.start()
    while writer.is_alive():
        seen.add(path.read_bytes())
    writer.join()
    assert seen <= set(texts)
    assert os.listdir(tmp_path) == ["file"]


def test_one_writer_at_a_time(tmp_path):
    with one_writer(tmp_path), pytest.raises(DataError, match="another process"), one_writer(tmp_path):
        pass
    with one_writer(tmp_path):
        pass


def test_root_that_cannot_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError) as error, one_writer(root):
            pass
        assert "in the way" in one_line(error)


def test_work_that_fails_at_once_leaves_no_new_folder(tmp_path):
    def refuse(root):
        with pytest.raises(DataError), one_writer(root):
            (root / ".partial").mkdir(exist_ok=True)
            raise DataError("a refused source")

    refuse(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    refuse(tmp_path / "old")
    assert (tmp_path / "old").is_dir()
    with pytest.raises(DataError), one_writer(tmp_path / "begun"):
        (tmp_path / "begun" / ".partial").mkdir()
        (tmp_path / "begun" / ".partial" / "half.part").write_bytes(b"a download that was cut")
        raise DataError("the connection was cut")
    assert (tmp_path / "begun" / ".partial" / "half.part").exists()


def test_an_error_is_told_although_the_work_has_removed_the_folder(tmp_path):
    with pytest.raises(DataError, match="a full disk"), one_writer(tmp_path / "new"):
        shutil.rmtree(tmp_path / "new")
        raise DataError("a full disk")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_root(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="Permission denied"), one_writer(tmp_path / "new"):
        pass
    tmp_path.chmod(0o700)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_full_disk_is_one_line(tmp_path):
    import numpy as np

    with pytest.raises(DataError) as error, disk_errors(tmp_path):
        write_npy("/dev/full", (3, 100_000), np.uint8, np.zeros((3, 1, 100_000), np.uint8))
    assert "disk full" in one_line(error) and str(tmp_path) in one_line(error)
