import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from picture_tree import make_tree, tree_hash

from data_prep import DataError, load_manifest
from data_prep.engines.local import Local
from data_prep.files import one_writer
from data_prep.trees import journal as journals
from data_prep.trees.adopt import adopt
from data_prep.trees.resize import resize_tree as resize_in_processes
from data_prep.trees.shards import join, parse_shard
from data_prep.trees.shrink import Rule
from data_prep.trees.source_tree import source_root

REPOSITORY = Path(__file__).parents[3]
resize_tree = partial(resize_in_processes, engine=Local(1))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small indexed tree, and the hash of its copies at 8 and 12 px made in one go."""
    root = make_tree(tmp_path_factory.mktemp("whole") / "photos", train=8, validation=4)
    adopt(root)
    resize_tree(root, [8, 12])
    return root, tree_hash(Path(f"{root}-sz"))


@pytest.fixture
def tree(whole, tmp_path):
    return Path(shutil.copytree(whole[0], tmp_path / "photos"))


def copy_of(root: Path, size: int = 8) -> Path:
    return Path(f"{root}-sz/{size}")


@pytest.mark.parametrize("shards", [1, pytest.param(2, marks=pytest.mark.slow), 5])
def test_the_last_shard_makes_the_copies_of_one_run(tree, whole, shards, capsys):
    for part in range(shards, 0, -1):
        assert not (copy_of(tree) / "manifest.json").exists()
        made = resize_tree(tree, [8, 12], shard=(part, shards))
        assert set(made) == ({8, 12} if part == 1 else set())
    assert ("left to the others" in capsys.readouterr().out) == (shards > 1)
    assert tree_hash(Path(f"{tree}-sz")) == whole[1]


def test_join_waits_for_every_shard(tree, whole):
    for part in (1, 3):
        resize_tree(tree, [8, 12], shard=(part, 3))
        with pytest.raises(DataError, match=r"12 of 36 images are not made yet|24 of 36 images are not made yet"):
            join(copy_of(tree))
    with pytest.raises(DataError, match=r"shards begun: 1/3, 3/3"):
        join(copy_of(tree))
    resize_tree(tree, [8, 12], shard=(2, 3))
    assert join(copy_of(tree)) == load_manifest(copy_of(tree))
    assert tree_hash(Path(f"{tree}-sz")) == whole[1]


@pytest.mark.slow
def test_join_of_shards_that_nobody_joined(tree, whole):
    """The last shard was killed after its last record."""
    resize_tree(tree, [8, 12], shard=(1, 2))
    place = copy_of(tree) / ".partial"
    kept = shutil.copytree(place, tree.parent / "kept")
    resize_tree(tree, [8, 12], shard=(2, 2))
    (copy_of(tree) / "manifest.json").unlink()
    shutil.copytree(kept, place)
    with pytest.raises(DataError, match="not made yet"):
        join(copy_of(tree))
    resize_tree(tree, [8], shard=(2, 2))
    assert tree_hash(Path(f"{tree}-sz")) == whole[1]


def test_another_number_of_shards_goes_on_with_what_is_made(tree, whole):
    resize_tree(tree, [8, 12], shard=(1, 3))
    made = {path: path.stat().st_mtime_ns for path in copy_of(tree).glob("*/*/*.JPEG")}
    assert len(made) == 12
    resize_tree(tree, [8, 12])
    assert made == {path: path.stat().st_mtime_ns for path in made}
    assert tree_hash(Path(f"{tree}-sz")) == whole[1]


def test_shards_of_different_rules_are_refused(tree):
    resize_tree(tree, [8], shard=(1, 2))
    with pytest.raises(DataError, match=r"was begun with .*quality=90.*, now .*quality=50"):
        resize_tree(tree, [8], rule=Rule(quality=50), shard=(2, 2))


@pytest.mark.slow
def test_shards_run_at_the_same_time(tree, whole):
    commands = [
        [sys.executable, "-m", "data_prep", "resize", str(tree), "--sizes", "8", "12", "--shard", f"{part}/3"]
        for part in (1, 2, 3)
    ]
    running = [
        subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    assert [process.wait(600) for process in running] == [0, 0, 0]
    for process in running:
        process.stdout.close()
    assert tree_hash(Path(f"{tree}-sz")) == whole[1]


def test_one_shard_has_one_process(tree):
    resize_tree(tree, [8], shard=(1, 2))
    with one_writer(copy_of(tree) / ".partial/2-of-2"), pytest.raises(DataError, match="another process"):
        resize_tree(tree, [8], shard=(2, 2))


@pytest.mark.slow
def test_a_file_that_changed_after_its_record_is_made_again(tree, whole):
    resize_tree(tree, [8, 12], shard=(1, 2))
    first, second, *_ = sorted(copy_of(tree).glob("train/*/*.JPEG"))
    first.write_bytes(b"short")
    second.unlink()
    resize_tree(tree, [8, 12], shard=(2, 2))
    resize_tree(tree, [8, 12], shard=(1, 2))
    assert tree_hash(Path(f"{tree}-sz")) == whole[1]


@pytest.mark.slow
def test_a_torn_record_is_cut_off(tree, whole):
    resize_tree(tree, [8, 12], shard=(1, 2))
    for size in (8, 12):
        path = copy_of(tree, size) / ".partial/1-of-2/copies.journal"
        path.write_bytes(path.read_bytes()[:-5])
    resize_tree(tree, [8, 12], shard=(1, 2))
    path = copy_of(tree) / ".partial/1-of-2/copies.journal"
    assert path.stat().st_size == 18 * journals.RECORD.itemsize
    resize_tree(tree, [8, 12], shard=(2, 2))
    assert tree_hash(Path(f"{tree}-sz")) == whole[1]


def test_lookup_wants_path_and_size_and_takes_the_latest(tmp_path):
    hashes = journals.path_hashes([b"a", b"b", b"c"])
    (tmp_path / "1-of-1").mkdir()
    with journals.opened(tmp_path / "1-of-1") as file:
        for path, source, length in ((0, 10, 1), (1, 20, 2), (0, 10, 3)):
            file.write(np.array((hashes[path], source, 4, 5, length, 0), journals.RECORD).tobytes())
    records = journals.read(tmp_path)
    found = journals.lookup(records, hashes, np.array([10, 21, 30]))
    assert (found >= 0).tolist() == [True, False, False] and records["bytes"][found[0]] == 3
    assert journals.lookup(journals.read(tmp_path / "none"), hashes, np.zeros(3)).tolist() == [-1, -1, -1]


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "a/b", "1/2/3", "-1/2", "1/99999999999", "²/3"])
def test_bad_shards(text):
    with pytest.raises(DataError, match="--shard"):
        parse_shard(text)
    assert parse_shard("2/4") == (2, 4)


def test_a_folder_of_something_else_is_left_alone(tree):
    """It was filled with copies; the stranger was told at the end, or not at all."""
    copy_of(tree).mkdir(parents=True)
    (copy_of(tree) / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"photos-sz/8: is there already .* \(it holds notes.txt\)\. Delete or rename"):
        resize_tree(tree, [8])
    assert [path.name for path in copy_of(tree).iterdir()] == ["notes.txt"]


def test_join_elsewhere(tmp_path):
    with pytest.raises(DataError, match="no copy and no shards"):
        join(tmp_path)
    with pytest.raises(DataError, match="not a folder like ROOT-sz/160"):
        source_root(tmp_path)
    assert source_root(Path("/data/photos-sz/160")) == Path("/data/photos")


@pytest.mark.slow
def test_a_relative_root(tree, whole, monkeypatch):
    monkeypatch.chdir(tree.parent)
    resize_tree("photos", [8, 12], shard=(1, 2))
    monkeypatch.chdir(copy_of(tree))
    os.chdir("..")
    resize_tree("../photos", [8, 12], shard=(2, 2))
    assert tree_hash(Path(f"{tree}-sz")) == whole[1]
