"""The comparison of loaders keeps working: not how fast they are."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from benchmark_scripts import run_script
from picture_tree import make_tree
from segmented_jpeg import index_segments

from data_prep.trees.adopt import adopt
from data_prep.trees.pack import pack_tree

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "loaders.py"


@pytest.fixture
def tree(tmp_path):
    """Also as its own copy of "short side 160", which it is not."""
    for root in (tmp_path / "tree", tmp_path / "tree-sz" / "160"):
        adopt(make_tree(root))
    pack_tree(root)
    return tmp_path / "tree"


@pytest.mark.slow
def test_a_table_and_a_note_for_what_is_not_installed(tree, tmp_path):
    command = [sys.executable, SCRIPT, tree, "--rows", "packed-128", "--images", "8", "--batch", "4", "--rounds", "1"]
    command += ["--seconds", "0.01", "--workers", "1", "--ffcv-python", sys.executable, "--scratch", tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    speed, processor, memory = (line for line in done.stdout.splitlines() if line.startswith("| short side 160 packed"))
    columns = 2 if "note: FFCV all raw: not installed" in done.stdout else 3
    assert speed.count("|") == processor.count("|") == memory.count("|") == columns + 2
    assert "ours: packed: 128 px" in done.stdout
    assert not list(tmp_path.glob("*.beton"))


@pytest.mark.parametrize("name", ["by_processes", "cut_by_processes", "cut_by_threads", "packed"])
def test_our_loaders_make_a_batch(tree, tmp_path, monkeypatch, name):
    adopt(make_tree(tmp_path / "tree-sz/160-crops"))
    index_segments(tmp_path / "tree-sz/160-crops")
    monkeypatch.syspath_prepend(SCRIPT.parent)
    work = import_module("loader_work").Work(f"{tree}-sz/160", 16, 8, 4, 1, 0.25, str(tmp_path))
    batches = getattr(import_module("our_loaders"), name)(work)
    assert next(batches).shape == (4, 16, 16, 3)
    batches.close()


def test_a_tree_that_has_no_files_for_cutting_is_one_line(tmp_path, monkeypatch, capfd):
    adopt(make_tree(tmp_path / "tree"))
    code, _, err = run_script(monkeypatch, capfd, "loaders.py", tmp_path / "tree", "--rows", "originals-128")
    assert code == 2 and err.startswith(f"error: no dataset at {tmp_path}/tree-crops: "), err
    assert err.count("\n") == 1 and f"index-crops {tmp_path}/tree" in err


def test_a_tree_that_is_not_packed_is_one_line(tmp_path, monkeypatch, capfd):
    adopt(make_tree(tmp_path / "tree-sz/160"))
    code, _, err = run_script(monkeypatch, capfd, "loaders.py", tmp_path / "tree", "--rows", "packed-128")
    assert code == 2 and err.startswith(f"error: {tmp_path}/tree-sz/160: "), err
    assert err.count("\n") == 1 and f"pack {tmp_path}/tree-sz/160" in err


@pytest.mark.slow
def test_loaders_that_cut_have_columns_of_their_own(tree, tmp_path):
    adopt(make_tree(tmp_path / "tree-crops"))
    index_segments(tmp_path / "tree-crops")
    command = [sys.executable, SCRIPT, tree, "--rows", "originals-128", "--loaders", "ours: threads, cut"]
    command += ["--images", "8", "--batch", "4", "--rounds", "1", "--seconds", "0.01", "--workers", "1"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "| 2018 way | ours: threads, cut |" in done.stdout and "ours: threads, cut: 128 px" in done.stdout


def test_processor_time_counts_a_process_and_its_children(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    seconds = import_module("process_memory").processor_seconds
    before = seconds(os.getpid())
    subprocess.run([sys.executable, "-S", "-c", "import time\nwhile time.process_time() < 0.2: pass"], check=True)
    assert seconds(os.getpid()) - before > 0.15
