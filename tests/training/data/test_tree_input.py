"""Copies of a dataset that do not fit each other, found before any training is done: one line, exit code 2."""

import json
import shutil

import pytest
from refusals import training_refused as refused
from tiny_run import events, flags

from data_prep.trees.adopt import adopt
from data_prep.trees.resize import resize_tree
from training.__main__ import main

PHASES = [
    {"ep": 0, "sz": 24, "bs": 40, "trndir": "-sz/32"},
    {"ep": 1, "sz": 32, "bs": 50, "trndir": "", "rect_val": True},
    {"ep": (0, 2), "lr": (0.1, 0.0)},
]
TREE = ("--phases", repr(PHASES), "--shift", "0", "--loader", "torchvision", "--workers", "0")


@pytest.fixture(scope="module")
def made(toy, tmp_path_factory):
    """A folder with the toy dataset and its copy at 32 px. Read only."""
    folder = tmp_path_factory.mktemp("copies")
    shutil.copytree(toy, folder / "data")
    resize_tree(folder / "data", [32])
    return folder


@pytest.fixture
def data(made, tmp_path):
    """The same to change."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "data"


def arguments(data, *more: str) -> list[str]:
    return flags(data, data.parent / "run", *TREE, *more)


def changed_copy(data, capsys, change) -> None:
    """Let `change` alter the copy's files, and index it anew."""
    copy = data.parent / "data-sz" / "32"
    change(copy)
    adopt(copy, again=True)
    capsys.readouterr()


def test_a_run_goes_through_copies_and_the_full_tree(data):
    """Also the strength and the resize of a phase are in its line. Inspection names classes and files: it had numbers
    where the first phase reads a copy."""
    phases = [{**PHASES[0], "aug": 0.5}, {**PHASES[1], "val_resize": 1.25}, PHASES[2]]
    more = ("--policy", "autoaugment", "--random-erasing", "0.2", "--inspect", "light")
    assert main(arguments(data, "--phases", repr(phases), *more)) == 0
    folder = data.parent / "run"
    assert [(e["size"], e["trndir"], e["rect_val"]) for e in events(folder, "phase")] == [
        (24, "-sz/32", False),
        (32, "", True),
    ]
    rows = events(folder)
    assert [row["images"] for row in rows] == [240, 200] and all(row["validation"]["images"] == 60 for row in rows)
    assert [e["dropped_images"] for e in events(folder, "phase")] == [0, 40]  # 240 images in batches of 50
    assert "leaves out 40 training images" in (folder / "verbose.log").read_text()
    assert events(folder, "start")[0]["loader"] == "torchvision"
    assert "\nvalidation/disc/" in (folder / "inspect" / "worst.csv").read_text()
    assert [(e["aug"], e["val_resize"]) for e in events(folder, "phase")] == [(0.5, None), (1.0, 1.25)]


def test_a_folder_missing_for_one_phase_only(data, capsys):
    shutil.rmtree(data.parent / "data-sz")
    refused(capsys, arguments(data), "data-sz/32", "python -m data_prep resize", "--sizes 32")


def test_dry_run_names_the_missing_folder(data, capsys):
    shutil.rmtree(data.parent / "data-sz")
    assert main(arguments(data, "--dry-run")) == 0
    out = capsys.readouterr().out
    assert "data-sz/32" in out and "python -m data_prep resize" in out


def test_a_copy_lacks_a_class(data, capsys):
    changed_copy(data, capsys, lambda copy: [shutil.rmtree(copy / split / "disc") for split in ("train", "validation")])
    refused(capsys, arguments(data), "adds disc")


def test_a_copy_lacks_an_image(data, capsys):
    changed_copy(data, capsys, lambda copy: next((copy / "train" / "disc").glob("*.jpg")).unlink())
    refused(capsys, arguments(data), "240 train images, 239", "40 and 39 of class disc")


def test_a_file_that_is_gone_or_changed(data, capsys):
    path = next((data / "train" / "ring").glob("*.jpg"))
    content = path.read_bytes()
    path.write_bytes(content + b"\0")
    refused(capsys, arguments(data), path.name, f"has {len(content) + 1} bytes")
    path.unlink()
    refused(capsys, arguments(data), path.name, "is missing")


def test_the_dataset_changed_between_save_and_resume(data, capsys):
    stop = json.dumps({"kind": "term", "epoch": 0, "step": 2})
    assert main(arguments(data, "--inject-fault", stop)) == 75
    changed_copy(data, capsys, swap_two_files)
    refused(capsys, ["--resume", str(data.parent / "run")], "not the same experiment", "dataset-sz/32")


def swap_two_files(copy) -> None:
    first, second = sorted((copy / "train" / "ring").glob("*.jpg"))[:2]
    first.write_bytes(second.read_bytes())


@pytest.mark.slow
def test_no_pickle_beside_a_dataset_is_opened(data, tmp_path):
    """The 2018 code read sorted_idxar.p from the data folder."""
    marker = tmp_path / "opened"
    (data / "sorted_idxar.p").write_bytes(b"cposix\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR.")
    assert main(arguments(data, "--epochs", "1")) == 0
    assert not marker.exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--loader", "memory"), ("no packed images", "data-sz/32")),
        (("--loader", "packed"), ("data-sz/32", "python -m data_prep pack")),
        (("--shift", "2"), ("--shift", "memory loader")),
        (("--cutout", "2"), ("--cutout", "memory loader")),
        (("--brightness", "0.1"), ("--brightness 0.1", "memory loader", "--brightness 0")),
        (("--contrast", "0.1"), ("--contrast 0.1", "memory loader", "--contrast 0")),
        (("--no-antialias",), ("--no-antialias", "memory loader", "--antialias")),
        (("--policy", "timm-randaugment", "--policy-magnitude", "12"), ("--policy-magnitude 12", "end at 10")),
        (("--repeated-augmentation", "3", "--flip", "alternating"), ("--repeated-augmentation 3", "--flip random")),
    ],
)
def test_a_loader_that_the_data_or_the_flags_do_not_fit(made, capsys, more, words):
    refused(capsys, arguments(made / "data", *more), *words)


def test_a_warning_before_phases_that_read_far_larger_images(made, tmp_path, capsys):
    small = json.dumps([{"ep": 0, "sz": 12, "bs": 40}, {"ep": [0, 1], "lr": 0.1}])
    assert main(flags(made / "data", tmp_path / "run", *TREE, "--phases", small)) == 0
    err = capsys.readouterr().err
    assert err.startswith("warning: the phase at epoch 0 trains at 12 px") and "--sizes 32" in err
