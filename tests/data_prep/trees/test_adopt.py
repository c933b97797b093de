"""An existing tree indexed in place: what is written, when nothing is done, what is refused."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from picture_tree import jpeg, make_tree
from PIL import Image

from data_prep import DataError, load_manifest
from data_prep.__main__ import main
from data_prep.engines.local import Local
from data_prep.formats.image_index import check_images, index_digest, open_index
from data_prep.trees.adopt import adopt, dataset_name

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path / "My photos", folders=("train", "val"))


def contents(root) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def refused(root, *words: str, **options) -> str:
    with pytest.raises(DataError) as error:
        adopt(root, **options)
    text = str(error.value)
    assert text.isprintable() and all(word in text for word in words), text
    return text


def test_the_index_describes_every_file_and_no_picture_is_touched(root):
    before = contents(root)
    manifest = adopt(root)
    assert (manifest.name, manifest.task, manifest.classes) == ("my-photos", "my-photos", ("ant", "bee", "cow"))
    assert before.items() <= contents(root).items()
    indices = open_index(root)
    assert manifest.sha256 == index_digest(indices)
    for split, count in (("train", 3), ("validation", 2)):
        index, facts = indices[split], manifest.splits[split]
        assert facts.per_class == (count,) * 3 and list(facts.files) == [f"{split}.index.npz"]
        assert (facts.width, facts.height) == ((20, 18 + 2 * count), (16, 18))
        check_images(root, index)
        for path, label, width, height in zip(index.paths, index.labels, index.widths, index.heights, strict=True):
            with Image.open(root / path.decode()) as image:
                assert image.size == (width, height)
            assert Path(path.decode()).parent.name == manifest.classes[label]


@pytest.mark.slow
def test_processes_give_the_same_as_one(root, monkeypatch):
    one = contents(root), adopt(root, engine=Local(1))
    monkeypatch.setattr("data_prep.trees.adopt.CHUNK", 2)
    assert (contents(root).items() >= one[0].items()) and adopt(root, again=True, engine=Local(2)) == one[1]


@pytest.mark.parametrize(
    "name, slug",
    [("imagenette2-320", "imagenette2-320"), ("My photos!", "my-photos"), ("日本", "images"), ("-sz", "sz")],
)
def test_names_of_datasets(tmp_path, name, slug):
    assert dataset_name(tmp_path / name) == slug


def test_a_given_name_and_its_task(root):
    assert main(["adopt", str(root), "--name", "imagenet"]) == 0
    assert (load_manifest(root).name, load_manifest(root).task) == ("imagenet", "ImageNet")
    refused(root, "'imagenet', not 'other'", "--again", name="other")
    assert adopt(root, name="other", again=True).name == "other"
    refused(root, "name", name="Not A Slug", again=True)


def test_running_again_on_an_unchanged_tree_does_nothing(root, capsys):
    adopt(root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.name != ".lock"}
    assert main(["adopt", str(root)]) == 0
    assert "my-photos is in place" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.name != ".lock"}


def test_a_changed_tree_is_told_and_needs_again(root):
    old = adopt(root)
    (root / "train" / "ant" / "0.JPEG").unlink()
    (root / "train" / "bee" / "9.JPEG").write_bytes(jpeg())
    (root / "val" / "cow" / "1.JPEG").write_bytes(jpeg(99, 99))
    refused(root, "changed since it was indexed: 1 another size, 1 missing, 1 new", "train/ant/0.JPEG: missing")
    assert load_manifest(root) == old
    new = adopt(root, again=True)
    assert new.splits["train"].per_class == (2, 4, 3) and new.splits["validation"].width == (20, 99)
    assert new.sha256 != old.sha256 and adopt(root) == new


def test_another_size_of_one_file_is_another_hash(root):
    old = adopt(root)
    with open(root / "train" / "ant" / "0.JPEG", "ab") as handle:
        handle.write(b"\0")
    refused(root, "1 another size")
    assert adopt(root, again=True).sha256 != old.sha256


def test_a_new_class_is_told(root):
    adopt(root)
    for split in ("train", "val"):
        shutil.copytree(root / split / "ant", root / split / "dog")
    refused(root, "changed since it was indexed", "other class folders")


def test_a_file_without_a_header_is_listed_and_refused(root, capsys):
    (root / "train" / "ant" / "1.JPEG").write_bytes(b"<html>")
    (root / "val" / "cow" / "0.JPEG").write_bytes(b"")
    reason = "this is an HTML or XML page, not the file itself"
    refused(root, "2 bad files", "bad_files.tsv", f"train/ant/1.JPEG: {reason}", "--skip-bad")
    assert not (root / "manifest.json").exists()
    head, page, empty = (root / "bad_files.tsv").read_text().splitlines()
    assert (head, empty) == ("path\treason", "val/cow/0.JPEG\tempty file")
    assert page.startswith(f"train/ant/1.JPEG\t{reason}")
    assert main(["adopt", str(root), "--skip-bad"]) == 0
    assert "2 bad files" in capsys.readouterr().err
    assert load_manifest(root).splits["train"].per_class == (2, 3, 3)
    assert adopt(root) == load_manifest(root)  # left out once, left out for good


def test_a_class_of_bad_files_only(root):
    for path in (root / "train" / "ant").iterdir():
        path.write_bytes(b"")
    refused(root, "train/ant: a class without a readable image", skip_bad=True)


def test_unknown_suffixes_are_decided_by_content(root, capsys):
    (root / "train" / "ant" / "Thumbs.db").write_bytes(b"no picture")
    (root / "train" / "ant" / "picture").write_bytes(jpeg(kind="PNG"))
    manifest = adopt(root)
    assert manifest.splits["train"].per_class == (4, 3, 3)
    assert "1 files that are no pictures" in capsys.readouterr().err
    assert adopt(root) == manifest


def test_names_that_are_no_text_are_indexed(root):
    name = b"\xff\xfe.JPEG"
    (root / "train" / "ant" / os.fsdecode(name)).write_bytes(jpeg())
    adopt(root)
    index = open_index(root)["train"]
    assert b"train/ant/" + name in index.paths
    check_images(root, index)


def test_a_pickle_in_place_of_an_index_is_never_opened(root):
    adopt(root)
    np.savez(root / "train.index.npz", **{name: np.array([print], object) for name in ("paths", "labels")})
    with pytest.raises(DataError, match=r"adopt .* --again"):
        open_index(root)
    refused(root, "--again")
    assert adopt(root, again=True).splits["train"].images == 9


def test_a_damaged_manifest_is_made_again(root):
    adopt(root)
    (root / "manifest.json").write_text("{")
    refused(root, "damaged")
    assert adopt(root, again=True).splits["train"].images == 9


def test_other_datasets_are_not_adopted(toy):
    refused(toy, "holds the dataset 'toy'")


def test_nothing_is_left_in_a_folder_that_is_no_tree(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no folder train")
    refused(tmp_path / "none", "there is no such folder")
    assert list((tmp_path / "empty").iterdir()) == [] and not (tmp_path / "none").exists()


def test_the_remedy_for_a_tree_without_manifest_is_adopt(root):
    with pytest.raises(DataError, match=f"python -m data_prep adopt '{root}'$"):
        load_manifest(root)


def test_the_remedy_for_a_missing_copy_is_resize(root):
    with pytest.raises(DataError, match=f"python -m data_prep resize '{root}' --sizes 160$"):
        load_manifest(f"{root}-sz/160")


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_command(tmp_path, sign, handler):
    """Killed while its workers read headers: they end, no manifest is there, and the same command completes."""
    root, data = make_tree(tmp_path / "t"), jpeg()
    for number in range(1500):
        (root / "train" / "ant" / f"x{number}.JPEG").write_bytes(data)
    command = [sys.executable, "-m", "data_prep", "adopt", str(root), "--workers", "2"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL, process_group=0)
    while not (workers := children(process.pid)) and process.poll() is None:
        time.sleep(0.005)
    time.sleep(0.1)
    process.send_signal(sign)
    process.wait(120)
    deadline = time.monotonic() + 120
    while any(map(runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert workers and not any(map(runs, workers))
    if not (root / "manifest.json").exists():
        assert adopt(root).splits["train"].images == 1509


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
