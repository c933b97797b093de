"""The comparison of loaders keeps working: not how fast they are."""

import subprocess
import sys
from pathlib import Path

import pytest
from picture_tree import make_tree

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
    speed, memory = (line for line in done.stdout.splitlines() if line.startswith("| short side 160 packed"))
    columns = 2 if "note: FFCV all raw: not installed" in done.stdout else 3
    assert speed.count("|") == memory.count("|") == columns + 2
    assert "ours: packed: 128 px" in done.stdout
    assert not list(tmp_path.glob("*.beton"))
