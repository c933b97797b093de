"""Copies of 256 px and more: `resize` writes them so that windows can be cut out of them, with an index of segments."""

import os
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pytest
import simplejpeg
from picture_tree import jpeg, make_tree

from data_prep import load_manifest
from data_prep.crops.segments import has_segments, open_segments, segment_names
from data_prep.engines.local import Local
from data_prep.files import LOCK
from data_prep.formats.image_index import open_index
from data_prep.formats.manifest import save_manifest
from data_prep.trees.adopt import adopt
from data_prep.trees.check import check_dataset
from data_prep.trees.resize import resize_tree as resize_in_processes
from data_prep.trees.shrink import CUT_FROM
from data_prep.trees.storage import plan_storage

resize_tree = partial(resize_in_processes, engine=Local(1))
SMALLER = CUT_FROM - 1
SPLITS = ("train", "validation")


@pytest.fixture
def tree(tmp_path):
    """Six images of 3 classes, one of them small enough to be copied as it is."""
    root = make_tree(tmp_path / "photos", train=1, validation=1)
    for number, path in enumerate(sorted(root.glob("*/*/*.JPEG"))):
        path.write_bytes(jpeg(300 + 20 * number, 280, number) if number else jpeg(200, 150))
    adopt(root)
    return root


def copy_of(tree: Path, size: int = CUT_FROM) -> Path:
    return Path(f"{tree}-sz/{size}")


def changed_at(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != LOCK}


def test_windows_are_cut_out_of_copies_of_256_px_and_more(tree, capsys):
    """The pixels are those of the whole copy; the image that was copied as it is has none to cut."""
    resize_tree(tree, [CUT_FROM, SMALLER])
    assert f"{copy_of(tree)}: windows can be cut out of 5 of 6 images" in capsys.readouterr().out
    assert not has_segments(load_manifest(copy_of(tree, SMALLER)), SPLITS)
    segments, generator, cuts = open_segments(copy_of(tree)), random.Random(0), 0
    for split, index in open_index(copy_of(tree)).items():
        for row, path in enumerate(index.paths.tolist()):
            file = os.fsencode(copy_of(tree)) + b"/" + path
            whole = simplejpeg.decode_jpeg(Path(os.fsdecode(file)).read_bytes())
            top, left = (generator.randrange(side) for side in whole.shape[:2])
            window = top, left, generator.randint(1, len(whole) - top), generator.randint(1, whole.shape[1] - left)
            piece = segments[split].piece(file, row, window)
            if piece is None:
                continue
            y, x, height, width = piece.window
            found = simplejpeg.decode_jpeg(piece.data)[y : y + height, x : x + width]
            assert np.array_equal(found, whole[top : top + height, left : left + width])
            assert piece.size[0] * piece.size[1] <= (height + 32) * (width + 32)  # a segment is an MCU: 16 px
            cuts += 1
    assert cuts == 5


@pytest.mark.parametrize("lost", ["train.crops.npy", "validation.segments.npy"])
def test_a_lost_index_of_segments_is_written_again_without_the_images(tree, lost):
    resize_tree(tree, [CUT_FROM])
    before, place = changed_at(copy_of(tree)), copy_of(tree) / lost
    contents = place.read_bytes()
    place.unlink()
    resize_tree(tree, [CUT_FROM])
    assert place.read_bytes() == contents
    after = changed_at(copy_of(tree))
    assert {path: time for path, time in before.items() if path.suffix == ".JPEG"}.items() <= after.items()


def test_copies_of_an_earlier_version_stay_as_they_are(tree):
    """They have no index of segments."""
    resize_tree(tree, [CUT_FROM])
    copy, splits = copy_of(tree), {}
    manifest = load_manifest(copy)
    for split, facts in manifest.splits.items():
        names = segment_names(split)
        splits[split] = replace(facts, files={name: file for name, file in facts.files.items() if name not in names})
        for name in names:
            (copy / name).unlink()
    save_manifest(copy, replace(manifest, splits=splits))
    before = changed_at(copy)
    resize_tree(tree, [CUT_FROM])
    assert changed_at(copy) == before


def test_plan_storage_counts_the_index_of_segments(tree):
    (planned,) = (
        form for form in plan_storage(tree, [CUT_FROM], 100).forms if form.path == copy_of(tree) and not form.packed
    )
    resize_tree(tree, [CUT_FROM])
    arrays = [*copy_of(tree).glob("*.crops.npy"), *copy_of(tree).glob("*.segments.npy")]
    files = sum(path.stat().st_size for path in copy_of(tree).glob("*/*/*.JPEG"))
    assert planned.bytes == files + sum(np.load(path).nbytes for path in arrays) and len(arrays) == 4


def test_check_compares_the_bytes_of_cut_copies(tree, capsys):
    """A byte that decodes, but is not that of the index."""
    resize_tree(tree, [CUT_FROM])
    assert check_dataset(tree)
    path = sorted(copy_of(tree).glob("train/*/*.JPEG"))[-1]
    data = bytearray(path.read_bytes())
    data[2 * len(data) // 3] ^= 1
    path.write_bytes(data)
    assert not check_dataset(tree)
    assert path.name in capsys.readouterr().out


def test_in_a_store_they_are_those_of_a_folder(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files, store = fsspec.filesystem("memory"), "memory://cut-copies/photos"
    for path in tree.rglob("*.*"):
        files.pipe_file(f"{store}/{path.relative_to(tree)}", path.read_bytes())
    for _ in range(2):  # then lost images and a lost index are made again
        resize_tree(store, [CUT_FROM])
        resize_tree(tree, [CUT_FROM])
        made = {path.relative_to(copy_of(tree)): path.read_bytes() for path in copy_of(tree).rglob("*.*")}
        made.pop(Path(LOCK))
        found = {path: files.cat_file(f"{store}-sz/{CUT_FROM}/{path}") for path in made}
        assert found == made and len(files.find(f"{store}-sz/{CUT_FROM}")) == len(made)
        for lost in ("train/bee/0.JPEG", "train.segments.npy"):
            files.rm_file(f"{store}-sz/{CUT_FROM}/{lost}")
