"""`check`: finds every bad, missing and foreign file of a dataset and its copies, and mends only when told to."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from picture_tree import jpeg, make_tree
from PIL import Image

from data_prep import DataError, load_manifest
from data_prep.__main__ import main
from data_prep.formats.image_index import ImageIndex, open_index
from data_prep.formats.manifest import save_manifest
from data_prep.trees.adopt import adopt, publish_index
from data_prep.trees.check import KNOWN, check_dataset, known_oddity
from data_prep.trees.resize import resize_tree


@pytest.fixture
def root(tmp_path):
    """A tree with a copy of the same images (at the same size: that does not matter here)."""
    root = make_tree(tmp_path / "photos", folders=("train", "val"))
    adopt(root)
    shutil.copytree(root, f"{root}-sz/24")
    return root


def check(root, capsys, *options: str) -> tuple[int, str]:
    """Exit code and standard output."""
    capsys.readouterr()
    code = main(["check", str(root), *options])
    out, err = capsys.readouterr()
    assert code != 2 or err.count("error: ") == 1
    return code, out + (err if code == 2 else "")


def test_a_good_dataset(root, capsys):
    code, out = check(root, capsys)
    assert code == 0 and out.splitlines() == [
        f"{root}: photos, 9 train + 6 validation images, 3 classes; 15 JPEG RGB",
        f"{root}-sz/24: photos, 9 train + 6 validation images, 3 classes; 15 JPEG RGB",
        f"{root}: all well, 1 copies agree",
    ]
    assert not (root / "bad_files.tsv").exists()


@pytest.mark.parametrize("name", [pytest.param("cifar10", marks=pytest.mark.slow), "toy"])
def test_packed_and_generated_datasets(toy, tmp_path, capsys, name):
    place = tmp_path / name
    shutil.copytree(toy, place)
    if name == "cifar10":  # a packed dataset has no image files
        manifest = load_manifest(place)
        splits = {
            split: replace(facts, files={file: what for file, what in facts.files.items() if file[-3:] == "npy"})
            for split, facts in manifest.splits.items()
        }
        save_manifest(place, replace(manifest, name="cifar10", splits=splits))
    assert check(place, capsys, "--workers", "1")[0] == 0
    with open(place / "train.images.npy", "r+b") as handle:
        handle.seek(5000)
        handle.write(b"\xff\x00\xff\x00\xff")
    code, out = check(place, capsys, "--workers", "1", "--write")
    assert code == 2 and "train.images.npy: SHA-256 differs" in out


@pytest.mark.parametrize("damage", ["zeros", "html", "cut in half, of the same length"])
def test_a_file_that_does_not_decode_is_named_in_a_list(root, capsys, damage):
    path = root / "train" / "bee" / "1.JPEG"
    length = path.stat().st_size
    if damage[0] == "c":
        whole = jpeg(200, 200)  # its first part is longer than the file was
        data = whole[:length]
    else:
        data = {"zeros": b"", "html": b"<html>"}[damage].ljust(length, b"\0")
    path.write_bytes(data)
    code, out = check(root, capsys)
    assert code == 1 and f"BAD {root}/train/bee/1.JPEG: " in out
    lines = (root / "bad_files.tsv").read_text().splitlines()
    assert len(lines) == 2 and lines[1].startswith("train/bee/1.JPEG\t")


@pytest.mark.parametrize("percent", [10, 50, 90, 99])
def test_a_file_that_was_truncated_before_it_was_indexed(root, capsys, percent):
    shutil.rmtree(f"{root}-sz")
    path = root / "train" / "bee" / "1.JPEG"
    whole = jpeg(100, 80)
    path.write_bytes(whole[: max(len(whole) * percent // 100, 640)])  # with a header
    adopt(root, again=True)
    code, out = check(root, capsys)
    assert code == 1 and "1.JPEG: cannot be decoded (image file is truncated" in out


def test_missing_and_new_files_and_other_sizes(root, capsys):
    (root / "train" / "ant" / "0.JPEG").unlink()
    (root / "train" / "ant" / "7.JPEG").write_bytes(jpeg())
    (root / "val" / "cow" / "0.JPEG").write_bytes(jpeg(99, 50))
    code, out = check(root, capsys)
    assert code == 1 and "changed since it was indexed; --write" in out
    text = (root / "bad_files.tsv").read_text()
    assert "train/ant/0.JPEG\tmissing\n" in text and "train/ant/7.JPEG\tnew\n" in text and "another size" in text


def test_another_picture_of_the_same_number_of_bytes(root, capsys):
    path = root / "train" / "ant" / "0.JPEG"
    other = jpeg(10, 8)
    path.write_bytes(other + bytes(path.stat().st_size - len(other)))
    code, out = check(root, capsys)
    assert code == 1 and "train/ant/0.JPEG: 10x8 pixels, the index says 20x16" in out


def test_a_class_missing_in_a_copy(root, capsys):
    for split in ("train", "val"):
        shutil.rmtree(f"{root}-sz/24/{split}/bee")
    adopt(f"{root}-sz/24", again=True)
    code, out = check(root, capsys)
    assert code == 1 and f"BAD {root}-sz/24: other classes than {root} (bee)" in out


def test_a_file_missing_in_a_copy(root, capsys):
    copy = f"{root}-sz/24"
    (root.parent / copy / "train" / "bee" / "1.JPEG").unlink()
    code, out = check(root, capsys)
    assert code == 1 and f"BAD {copy}/train/bee/1.JPEG: missing" in out and "run `resize` again" in out
    adopt(copy, again=True)
    code, out = check(root, capsys)
    assert code == 1 and f"BAD {copy}: 8 train images, {root} has 9" in out


def test_another_image_in_a_copy(root, capsys):
    copy = root.parent / "photos-sz" / "24"
    (copy / "train" / "bee" / "1.JPEG").rename(copy / "train" / "bee" / "1x.JPEG")
    adopt(copy, again=True)
    code, out = check(root, capsys)
    assert code == 1 and f"BAD {copy}: train image 4 is bee/1x, in {root} it is bee/1" in out


def test_other_suffixes_and_folders_of_a_copy_are_the_same_images(root, capsys):
    copy = root.parent / "photos-sz" / "24"
    (copy / "val").rename(copy / "validation")
    for path in copy.glob("*/*/*.JPEG"):
        path.rename(path.with_suffix(".jpg"))
    adopt(copy, again=True)
    assert check(root, capsys)[0] == 0


def test_a_copy_without_a_manifest(root, capsys):
    (root.parent / "photos-sz" / "32").mkdir()
    code, out = check(root, capsys)
    assert code == 1 and f"BAD {root}-sz/32: no dataset at {root}-sz/32" in out and "resize" in out
    assert f"{root}-sz/24: photos" in out


def test_copies_of_an_index_that_has_lost_an_image_must_be_deleted(root, capsys):
    """`resize` refuses them; the advice was to run it, as it would make what is missing."""
    shutil.rmtree(f"{root}-sz")
    resize_tree(root, [16])
    (root / "train/ant/0.JPEG").unlink()
    adopt(root, again=True)
    code, out = check(root, capsys)
    advice = f"{root} was indexed anew since then: delete {root}-sz/16 and run `resize` again"
    assert code == 1 and advice in out and "makes what is missing" not in out
    shutil.rmtree(f"{root}-sz/16")
    resize_tree(root, [16])
    assert check(root, capsys)[0] == 0


def test_write_indexes_anew_and_the_copies_follow(root, capsys):
    (root / "train" / "ant" / "0.JPEG").unlink()
    code, out = check(root, capsys, "--write")
    assert code == 0 and out.count("index and manifest written") == 2
    assert load_manifest(root).splits["train"].per_class == (2, 3, 3)
    assert load_manifest(f"{root}-sz/24").splits["train"].per_class == (2, 3, 3)
    code, out = check(root, capsys)
    assert code == 0 and f"{root}-sz/24: 1 files are not in the index and not needed" in out


def test_write_does_not_vouch_for_copies_of_changed_images(root, capsys):
    (root / "train" / "ant" / "0.JPEG").write_bytes(jpeg(99, 50))
    code, out = check(root, capsys, "--write")
    assert code == 1 and f"{root}-sz/24: lacks what is new or changed" in out
    assert load_manifest(root).splits["train"].width == (20, 99)


def test_bad_files_leave_the_index_only_when_told_and_loudly(root, capsys):
    path = root / "train" / "ant" / "1.JPEG"
    path.write_bytes(b"\xff" * path.stat().st_size)
    before = load_manifest(root)
    assert check(root, capsys)[0] == 1
    code, out = check(root, capsys, "--write")
    assert code == 2 and "nothing was written" in out and load_manifest(root) == before
    code, out = check(root, capsys, "--write", "--skip-bad")
    assert code == 0 and f"LEFT OUT of {root} and its copies: 1 bad files" in out
    for place in (root, f"{root}-sz/24"):
        assert b"train/ant/1.JPEG" not in open_index(place)["train"].paths
    assert path.exists() and "train/ant/1.JPEG" in (root / "bad_files.tsv").read_text()
    assert check(root, capsys)[0] == 0 and adopt(root) == load_manifest(root)  # left out once, left out for good


def test_a_new_file_is_decoded_before_it_is_indexed(root, capsys):
    (root / "train" / "ant" / "8.JPEG").write_bytes(jpeg())
    (root / "train" / "ant" / "9.JPEG").write_bytes(jpeg()[:-300])
    code, out = check(root, capsys)
    assert code == 1 and f"BAD {root}/train/ant/8.JPEG: new" in out
    assert "1 files are not in the index and not needed, the first is train/ant/9.JPEG: cannot be decoded" in out
    shutil.rmtree(f"{root}-sz")
    assert check(root, capsys, "--write")[0] == 0
    assert load_manifest(root).splits["train"].per_class == (4, 3, 3)


def test_skip_bad_does_nothing_alone(root, capsys):
    assert check(root, capsys, "--skip-bad")[0] == 2


def test_a_class_never_becomes_empty(root, capsys):
    for path in (root / "train" / "ant").iterdir():
        path.write_bytes(b"\xff" * path.stat().st_size)
    code, out = check(root, capsys, "--write", "--skip-bad")
    assert code == 2 and "left without images" in out


def test_nothing_is_written_without_write(root, capsys):
    (root / "train" / "ant" / "0.JPEG").unlink()
    files = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    check(root, capsys)
    after = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert after == files | {root / "bad_files.tsv": (root / "bad_files.tsv").read_bytes()}
    adopt(root, again=True)
    shutil.rmtree(f"{root}-sz")
    assert check(root, capsys)[0] == 0 and not (root / "bad_files.tsv").exists()


def test_links_stay_followed(root, capsys, tmp_path):
    shutil.move(root / "train", tmp_path / "elsewhere")
    (root / "train").symlink_to(tmp_path / "elsewhere")
    assert check(root, capsys)[0] == 1
    adopt(root, follow_links=True, again=True)
    assert check(root, capsys)[0] == 0 and adopt(root).source.endswith("links followed")


def test_no_dataset(tmp_path):
    with pytest.raises(DataError, match="no dataset at"):
        check_dataset(tmp_path)


def test_known_oddities_by_name_alone():
    assert len(KNOWN) == 24 and list(KNOWN.values()).count("CMYK") == 23
    assert known_oddity(b"train/n02105855/n02105855_2933.JPEG") == "PNG"
    assert known_oddity(b"val/n01/ILSVRC2012_val_00019877.JPEG") == "CMYK"
    assert known_oddity(b"train/n01739381/n01739381_1309.JPEG") == "CMYK"
    assert known_oddity(b"train/n01739381/n01739381_1310.JPEG") == known_oddity(b"train/x/n01739381_1309.txt") == ""


def test_oddities_that_were_met_are_printed(root, capsys):
    """A file with an odd name that is an ordinary JPEG is none."""
    with Image.open(root / "train" / "ant" / "0.JPEG") as image:
        image.save(root / "train" / "ant" / "n02105855_2933.JPEG", "PNG")
        image.convert("CMYK").save(root / "val" / "ant" / "ILSVRC2012_val_00019877.JPEG", "JPEG")
        image.save(root / "train" / "ant" / "n01739381_1309.JPEG", "JPEG")
    shutil.rmtree(f"{root}-sz")
    adopt(root, again=True)
    code, out = check(root, capsys)
    assert code == 0 and "known oddities of ImageNet: 1 CMYK, 1 PNG named JPEG" in out
    assert "1 PNG RGB" in out and "1 JPEG CMYK" in out


@pytest.mark.slow
def test_processes_find_the_same(root, capsys, monkeypatch):
    (root / "train" / "ant" / "0.JPEG").write_bytes(b"\xff" * (root / "train" / "ant" / "0.JPEG").stat().st_size)
    one = check(root, capsys, "--workers", "1")
    monkeypatch.setattr("data_prep.trees.check.CHUNK", 2)
    assert check(root, capsys, "--workers", "2") == one


def test_an_index_that_a_copy_has_in_another_order(root, capsys):
    """Labels and rows must agree one by one: a loader takes row i of every tree for the same image."""
    copy = root.parent / "photos-sz" / "24"
    indices = open_index(copy)
    order = np.r_[1, 0, 2:9]
    indices["train"] = ImageIndex(*(array[order] for array in vars(indices["train"]).values()))
    publish_index(copy, "photos", "test", ("ant", "bee", "cow"), indices)
    code, out = check(root, capsys)
    assert code == 1 and "train image 0 is ant/1" in out
