"""The four commands from outside: light help, dry run, and every bad input as one line and exit code 2."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import training_refused as refused
from tiny_run import PHASES, flags, train

from data_prep.formats.manifest import Manifest, save_manifest
from data_prep.formats.packed import SPLITS, content_digest, describe_packed, read_packed, write_packed
from training.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
NO_TORCH = """
import sys
from importlib import import_module
module, arguments = sys.argv[1], sys.argv[2:]
try:
    code = import_module(f"{module}.__main__").main(arguments)
except SystemExit as stop:
    code = stop.code
heavy = {"torch", "torchvision", "timm", "matplotlib", "tensorboard"} & sys.modules.keys()
sys.exit(f"imported {heavy}" if heavy else code)
"""


def light(*arguments: str) -> subprocess.CompletedProcess:
    """A command in a fresh interpreter; its exit code is 0 only if torch stayed out."""
    command = [sys.executable, "-c", NO_TORCH, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def packed_dataset(root: Path, labels: list[int], classes: tuple[str, ...]) -> Path:
    """A packed dataset of grey noise with a manifest of its own."""
    root.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    for split in SPLITS:
        write_packed(root, split, [images], np.array(labels), 32)
    splits = {split: describe_packed(root, split, len(classes)) for split in SPLITS}
    digest = content_digest([read_packed(root, split) for split in SPLITS])
    save_manifest(root, Manifest("noise", "noise", "a test", classes, splits, digest, "a test"))
    return root


@pytest.mark.parametrize("module", ["training", "phases", "data_prep", "dawn"])
def test_help_is_light(module):
    done = light(module, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ") and done.stderr == ""


def test_dry_run_prints_config_and_schedule(toy, tmp_path, capsys):
    assert main(flags(toy, tmp_path / "run", "--dry-run")) == 0
    out = capsys.readouterr().out
    assert "width              0.125\n" in out and "precision          fp32\n" in out
    assert "total: 2 epochs, 10 steps, 480 images" in out
    assert not (tmp_path / "run").exists()


def test_recipes_and_bad_input_need_no_torch():
    done = light("training", "recipes")
    assert done.returncode == 0 and "cifar10-demo" in done.stdout and "toy" in done.stdout
    done = light("training", "DATA", "--recipe", "cifar10-dem")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("command", ["training recipes --markdown", "phases list"])
@pytest.mark.parametrize("buffered", ["", pytest.param("1", marks=pytest.mark.slow)])
def test_output_that_nobody_reads_is_no_traceback(command, buffered):
    """`python -m training recipes | head -1`"""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": buffered},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_recipes_takes_no_other_words(capsys):
    refused(capsys, ["recipes", "toy"], "unrecognized arguments: toy", "python -m training recipes --help")


def test_a_dataset_folder_with_a_reserved_name_needs_a_dot(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(toy)
    assert main(["recipes"]) == 0 and "cifar10-demo" in capsys.readouterr().out
    assert main(["./recipes", "--recipe", "toy", "--dry-run"]) == 0
    assert "total: 6 epochs, 24 steps" in capsys.readouterr().out


def test_world_size_comes_from_torchrun_and_warns(toy, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([str(toy), "--recipe", "toy", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("warning: toy was made for a global batch of 60") and err.count("\n") == 1
    assert "total: 6 epochs, 12 steps" in out
    assert main([str(toy), "--recipe", "toy", "--dry-run", "--scale-lr"]) == 0
    assert capsys.readouterr().err == ""


def test_ranks_that_cannot_meet_are_refused(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(capsys, flags(toy, tmp_path / "run"), "WORLD_SIZE=2", "RANK is not set", "torchrun")
    monkeypatch.setenv("RANK", "0")
    refused(capsys, flags(toy, tmp_path / "run"), "RANK=0, WORLD_SIZE=2", "MASTER_ADDR", "--dist-url")
    assert not (tmp_path / "run").exists()


BAD_FLAGS = {
    "unknown flag": (["--momentun", "0.9"], "--momentun"),
    "abbreviation": (["--mom", "0.9"], "--mom"),
    "flag of several lines": (["--x\ny\nz"], "--x y z"),
    "value of several lines": (["--seed", "1\n2"], "--seed"),
    "no number": (["--momentum", "abc"], "--momentum"),
    "not finite": (["--weight-decay", "inf"], "--weight-decay"),
    "NaN": (["--width", "nan"], "--width"),
    "no choice": (["--flip", "sometimes"], "--flip", "alternating"),
    "missing value": (["--seed"], "--seed"),
    "negative epochs": (["--epochs", "-1"], "--epochs -1", "from 0"),
    "negative batch": (["--batch-size", "-5"], "--batch-size -5"),
    "huge integer": (["--seed", "9" * 5000], "--seed"),
    "unknown recipe": (["--recipe", "cifar10-dem"], "Did you mean 'cifar10-demo'?"),
    "far recipe": (["--recipe", "zzz"], "unknown recipe. Known: cifar10-demo, "),
    "unknown preset": (["--phases", "imagenet18-2"], "imagenet18-1"),
    "bad phases": (["--phases", "[{'ep': 0, 'sz': 12, 'bs': 60}]"], "lr"),
    "phases that would run code": (["--phases", "__import__('os').system('true')"],),
    "target 0": (["--target", "0"], "--target '0'"),
    "target 101": (["--target", "101"], "--target '101'"),
    "target abc": (["--target", "abc"], "--target 'abc'"),
    "unknown model": (["--model", "resnet5"], "Did you mean", "resnet50"),
    "image too small for the model": (["--phases", PHASES.replace("12", "8")], "--model cifarnet", "8 px"),
    "batch larger than the dataset": (["--batch-size", "241"], "batch 241", "240 training images"),
    "shift beyond the image": (["--shift", "32"], "--shift 32", "32 px"),
    "an average never updated": (["--ema-decay", "0.9", "--ema-every", "5"], "--ema-every 5", "4 steps"),
    "unprepared directory": (["--phases", PHASES.replace("'sz': 16", "'sz': 16, 'trndir': '-sz/8'")], "toy-sz/8"),
    "resume of nothing": (["--resume", "/nowhere/run"], "--resume /nowhere/run: there is no such folder or file"),
    "resume of no run": (["--resume", "/usr"], "/usr: no run there (config.json: No such file"),
    "a recipe's setting for another loader": (
        ["--recipe", "toy", "--loader", "threads"],
        "--shift 2 (of --recipe toy): for the memory loader",
        "Leave it off: --shift 0",
    ),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_bad_flags_are_one_line_and_leave_nothing_behind(case, toy, tmp_path, capsys):
    more, *words = BAD_FLAGS[case]
    refused(capsys, flags(toy, tmp_path / "run", *more), *words)
    assert list(tmp_path.iterdir()) == []


def test_nothing_given(capsys):
    refused(capsys, [], "no dataset folder given", "python -m data_prep")
    refused(capsys, ["DATA"], "no schedule", "--recipe")
    refused(capsys, ["--resume"], "--resume: name a run folder")


@pytest.mark.parametrize("content", [b"\xff[", b"[1]", b'{"epochs": ', b'{"no": 1}', b"[" * 100_000])
def test_a_config_that_is_none_is_one_line_of_resume(tmp_path, capsys, content):
    (tmp_path / "config.json").write_bytes(content)
    refused(capsys, ["--resume", str(tmp_path)], f"{tmp_path / 'config.json'}: not a configuration")


def test_a_run_is_not_put_into_a_dataset(toy, capsys):
    before = sorted(toy.iterdir())
    refused(capsys, flags(toy, toy), f"--logdir {toy}: is a dataset")
    assert sorted(toy.iterdir()) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none(toy, tmp_path, capsys):
    refused(capsys, flags(toy, tmp_path / "run", "--device", "cuda"), "--device cuda", "cpu")
    assert list(tmp_path.iterdir()) == []


def test_missing_dataset(tmp_path, capsys):
    refused(capsys, flags(tmp_path / "none", tmp_path / "run"), f"no dataset at {tmp_path / 'none'}", "data_prep")


@pytest.mark.parametrize("name", ["manifest.json", "train.images.npy", "validation.labels.npy"])
def test_half_dataset(toy, tmp_path, capsys, name):
    shutil.copytree(toy, tmp_path / "half")
    (tmp_path / "half" / name).unlink()
    refused(capsys, flags(tmp_path / "half", tmp_path / "run"), str(tmp_path / "half"), name)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["validation.images.npy", "validation.labels.npy"])
def test_changed_dataset(toy, tmp_path, capsys, name):
    shutil.copytree(toy, tmp_path / "changed")
    path = tmp_path / "changed" / name
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    refused(capsys, flags(tmp_path / "changed", tmp_path / "run"), str(path), "SHA-256")
    assert not (tmp_path / "run").exists()


def test_one_class(tmp_path, capsys):
    data = packed_dataset(tmp_path / "data", [0] * 240, ("only",))
    refused(capsys, flags(data, tmp_path / "run"), "1 class", "at least two")


def test_a_phase_directory_with_other_images(toy, tmp_path, capsys):
    (tmp_path / "data").symlink_to(toy)
    packed_dataset(tmp_path / "data-other", [0, 1] * 120, ("cat", "dog"))
    phases = PHASES.replace("'sz': 16", "'sz': 16, 'trndir': '-other'")
    arguments = flags(tmp_path / "data", tmp_path / "run", "--phases", phases)
    refused(capsys, arguments, "data-other", "lacks cross, disc, ring; adds cat, dog")


def test_three_classes_train_with_top_3(tmp_path):
    data = packed_dataset(tmp_path / "data", [0, 1, 2] * 80, ("a", "b", "c"))
    assert train(data, tmp_path / "run", "--epochs", "1") == 0
    lines = (tmp_path / "run" / "run.jsonl").read_text().splitlines()
    counts = next(json.loads(line)["validation"] for line in lines if '"epoch", "attempt"' in line)
    assert counts["k5"] == 3 and counts["correct5"] == counts["images"] == 240


def test_logdir_that_is_a_file(toy, tmp_path, capsys):
    (tmp_path / "run").write_text("not a folder")
    refused(capsys, flags(toy, tmp_path / "run"), f"--logdir {tmp_path / 'run'}: cannot write there")
    assert (tmp_path / "run").read_text() == "not a folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_logdir_without_permission(toy, tmp_path, capsys):
    tmp_path.chmod(0o500)
    refused(capsys, flags(toy, tmp_path / "run"), "cannot write there")


def test_logdir_of_another_run(toy, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.jsonl").write_text("{}\n")
    refused(capsys, flags(toy, tmp_path / "run"), "holds another run", "--resume")
    assert (tmp_path / "run" / "run.jsonl").read_text() == "{}\n"
