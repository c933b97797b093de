"""Every reader of files says what a file is that is something else, in one line, and never that it is corrupt."""

import gzip

import numpy as np
import pytest

from data_prep import DataError, load_manifest
from data_prep.formats.image_index import ImageIndex, check_images
from data_prep.formats.manifest import Manifest, Split, check_files
from dawn import RunError, read_run
from dawn.dawnbench.check import check_entry
from dawn.importers.read import read_curves
from dawn.leaderboard.read import read_folder
from dawn.reports.cost import load_table
from phases import PhaseError, Schedule
from training.config.saved import read_config
from training.errors import ConfigError

ODD = {
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "lfs pull"),
    "page": (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "an HTML or XML page"),
    "gzip": (gzip.compress(b"{}", mtime=0), "gunzip"),
    "utf-16": ('[{"ep": 0}]\n'.encode("utf-16"), "UTF-16"),
}
SPLIT = Split(1, (1,), (1, 1), (1, 1), {"log.npz": {"bytes": 12345, "sha256": "0" * 64}})
DATASET = Manifest("toy", "", "", ("a",), {"train": SPLIT, "validation": SPLIT}, "0" * 64, "")
INDEX = ImageIndex(np.array([b"log.npz"]), *(np.array([n]) for n in (0, 1, 1, 12345)))
READERS = {
    "import": ("run.log", read_curves, RunError),
    "run.jsonl": ("run.jsonl", read_run, RunError),
    "prices": ("prices.json", load_table, RunError),
    "phases": ("my.json", lambda path: Schedule.parse(str(path)), PhaseError),
    "manifest": ("manifest.json", lambda path: load_manifest(path.parent), DataError),
    "files of a dataset": ("log.npz", lambda path: check_files(path.parent, DATASET), DataError),
    "images": ("log.npz", lambda path: check_images(path.parent, INDEX), DataError),
    "config.json": ("config.json", lambda path: read_config(path.parent), ConfigError),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_something_else_is_called_so_by_every_reader(tmp_path, reader, odd):
    (name, read, error), (data, words) = READERS[reader], ODD[odd]
    (tmp_path / name).write_bytes(data)
    if (reader, odd) == ("import", "utf-16"):
        words = "of no kind that is known"  # it is read as text
    with pytest.raises(error, match=words) as caught:
        read(tmp_path / name)
    text = str(caught.value)
    assert name in text and "\n" not in text and "corrupt" not in text and "JSON (" not in text


@pytest.mark.parametrize("odd", ODD)
def test_an_entry_that_is_something_else_is_called_so_by_check_and_board(tmp_path, odd):
    data, words = ODD[odd]
    folder = tmp_path / "CIFAR10" / "train"
    folder.mkdir(parents=True)
    for name in ("x.json", "x.tsv"):
        (folder / name).write_bytes(data)
    problems = check_entry(folder / "x.json", "CIFAR10").problems
    assert [text.partition(":")[0] for text in problems] == ["JSON", "TSV"] and all(words in text for text in problems)
    ((_, reason),) = read_folder(tmp_path).broken
    assert words in reason and reason.startswith("JSON: ")
