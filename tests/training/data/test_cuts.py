"""A tree whose files are laid out for cuts: the loader cuts windows out of them and shows the very same pictures."""

import io
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from refusals import training_refused as refused
from segmented_jpeg import index_segments, segmented
from tiny_run import flags
from tree_runs import PHASE, levels, psnr

from data_prep import DataError, load_manifest
from data_prep.formats.image_index import open_index
from data_prep.trees.adopt import adopt
from phases import Schedule
from training.config.config import Config
from training.data.holdout import with_holdout
from training.data.loader import open_loader
from training.distributed.env import Env

SMALL = replace(PHASE, sz=24, bs=8, min_scale=0.08)
KINDS = ("4:4:4", "4:2:2", "4:2:0", "grey")
PHASES = "[{'ep':0,'sz':24,'bs':8},{'ep':(0,1),'lr':0.1}]"


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> tuple[Path, Path]:
    """18 + 6 images of about 300 x 330 pixels, one of them progressive; the second tree has an index of segments."""
    plain, cut = (tmp_path_factory.mktemp("cuts") / name for name in ("plain", "crops"))
    for split, count in (("train", 18), ("validation", 6)):
        for number in range(count):
            path = plain / split / "ab"[number % 2] / f"{number:02}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(segmented(300 + 3 * number, 320 + number % 3 * 8, KINDS[number % 4], 1 + number % 4 // 3))
    progressive = plain / "train/a/00.JPEG"
    buffer = io.BytesIO()
    Image.open(progressive).save(buffer, "JPEG", progressive=True)
    progressive.write_bytes(buffer.getvalue())
    adopt(plain)
    shutil.copytree(plain, cut)
    index_segments(cut)
    return plain, cut


def loader_of(root: Path, name: str = "threads", holdout: int = 0, workers: int = 0):
    config = Config(data=str(root), phases=PHASES, loader=name, seed=5, workers=workers, holdout=holdout)
    dataset = with_holdout(config, load_manifest(root), name)
    loader = open_loader(config, Schedule.parse(PHASES), dataset, Env(torch.device("cpu"), 0, 1), torch.float32)
    loader.set_phase(SMALL)
    return loader


def opened_bytes(monkeypatch) -> list[int]:
    """How much os.pread gives from now on, by call."""
    lengths, pread = [], os.pread

    def counted(file: int, length: int, offset: int) -> bytes:
        lengths.append(length)
        return pread(file, length, offset)

    monkeypatch.setattr(os, "pread", counted)
    return lengths


@pytest.mark.parametrize(("name", "holdout"), [("threads", 0), ("threads", 4), ("torchvision", 0), ("dali", 0)])
def test_cut_windows_are_the_pictures_of_whole_files(trees, monkeypatch, name, holdout):
    if name == "dali":
        pytest.importorskip("nvidia.dali", reason="needs DALI: pip install nvidia-dali-cuda130")
    resizer = "dali" if name == "dali" else "torchvision"  # of its own: against torch's, noise of this kind has 43 dB
    whole, cut = loader_of(trees[0], resizer, holdout), loader_of(trees[1], name, holdout)
    plain = list(whole.train(1))
    read = opened_bytes(monkeypatch)
    batches = list(cut.train(1))
    assert read and len(batches) == len(plain)
    for one, other in zip(batches, plain, strict=True):
        assert torch.equal(one.targets, other.targets) and torch.equal(one.rows, other.rows)
        assert psnr(levels(cut, one.images), levels(whole, other.images)).min() > 50  # a resizer's rounding
    for one, other in zip(cut.validation(), whole.validation(), strict=True):
        assert psnr(levels(cut, one.images), levels(whole, other.images)).min() > 50
    whole.close(), cut.close()


@pytest.mark.slow
def test_the_workers_of_torchvision_cut_too(trees):
    whole, cut = loader_of(trees[0], "torchvision"), loader_of(trees[1], "torchvision", workers=2)
    for one, other in zip(cut.train(1), whole.train(1), strict=True):
        assert torch.equal(one.images, other.images)
    path = next((trees[1] / "train").glob("*/01.JPEG"))
    original = path.read_bytes()
    path.write_bytes(original[:-1])
    with pytest.raises(DataError, match=r"JPEG: \d+ bytes, the index of its segments says \d+"):
        list(cut.train(1))
    path.write_bytes(original)
    whole.close(), cut.close()


def test_processes_cut_too(trees):
    loader, threads = loader_of(trees[1], "processes", workers=2), loader_of(trees[1])
    for one, other in zip(loader.train(1), threads.train(1), strict=True):
        assert torch.equal(one.images, other.images)
    loader.close(), threads.close()


def test_less_than_the_files_is_read(trees, monkeypatch):
    loader, read = loader_of(trees[1]), opened_bytes(monkeypatch)
    batches = list(loader.train(0))
    loader.close()
    sizes = open_index(trees[1])["train"].bytes[torch.cat([batch.rows for batch in batches]).numpy()]
    assert 0 < sum(read) < 0.8 * sizes.sum()


@pytest.mark.parametrize("name", ["threads", "processes", "dali"])
def test_a_file_that_has_changed_since_is_named(trees, tmp_path, name):
    if name == "dali":
        pytest.importorskip("nvidia.dali", reason="needs DALI: pip install nvidia-dali-cuda130")
    root = Path(shutil.copytree(trees[1], tmp_path / "crops"))
    for path in root.glob("train/*/*.JPEG"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    loader = loader_of(root, name)
    with pytest.raises(DataError, match=r"JPEG: other pixels than when .* check .* \(rank 0, image \d+ of train\)"):
        list(loader.train(0))
    shutil.copytree(trees[1], root, dirs_exist_ok=True)
    assert len(list(loader.train(0))) == loader.steps, "the next pass is not disturbed"
    loader.close()


@pytest.mark.parametrize("name", ["threads", "torchvision", "dali"])
def test_an_exchanged_file_is_named_where_it_is_shown_whole(trees, tmp_path, name):
    if name == "dali":
        pytest.importorskip("nvidia.dali", reason="needs DALI: pip install nvidia-dali-cuda130")
    root = Path(shutil.copytree(trees[1], tmp_path / "crops"))
    for path in root.glob("train/*/*.JPEG"):
        with Image.open(path) as image:
            image.load()
        image.save(path, quality=50)
    loader = loader_of(root, name)
    loader.set_phase(replace(SMALL, min_scale=1.0))
    with pytest.raises(DataError, match=r"JPEG: \d+ bytes, the index of its segments says .* check .* \(rank 0, image"):
        list(loader.train(0))
    loader.close()


def test_a_pass_of_dali_that_was_left_while_pictures_were_cut_leaves_no_trace(trees):
    pytest.importorskip("nvidia.dali", reason="needs DALI: pip install nvidia-dali-cuda130")
    loader = loader_of(trees[1], "dali")
    loader.set_phase(replace(SMALL, bs=3))
    whole = [batch.images for batch in loader.train(0)]
    left = loader.train(0)
    next(left)
    left.close()
    assert all(map(torch.equal, (batch.images for batch in loader.train(0, 2)), whole[2:])) and len(whole) == 6
    loader.close()


def test_a_lost_index_of_segments_is_one_line_before_training(trees, tmp_path, capsys):
    root = Path(shutil.copytree(trees[1], tmp_path / "photos-crops"))
    (root / "train.segments.npy").unlink()
    arguments = flags(root, tmp_path / "run", "--phases", PHASES, "--shift", "0", "--loader", "threads")
    refused(capsys, arguments, "train.segments.npy", f"index-crops {tmp_path / 'photos'}")
