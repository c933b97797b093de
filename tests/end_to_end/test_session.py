"""From the flags to a run: what a run remembers of its start, and what it refuses. Most were bugs once."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import PHASES, events, flags, tiny_job, train

from data_prep import load_manifest, open_packed
from data_prep.files import write_npy
from data_prep.formats.manifest import save_manifest
from data_prep.formats.packed import content_digest, describe_packed
from dawn import read_run
from dawn.runlog.records import Validation
from phases import DataPhase, Schedule
from training.__main__ import main
from training.config.config import Config
from training.config.parser import config_from
from training.config.schedule import resolved_schedule
from training.data.loader import open_loader
from training.distributed.env import Env
from training.engine.trainer import warn_of_guessing

REPOSITORY = Path(__file__).resolve().parents[2]
TWO_FOLDERS = (
    "[{'ep': 0, 'sz': 12, 'bs': 60}, {'ep': 1, 'sz': 12, 'bs': 60, 'trndir': '-dark'}, {'ep': (0, 2), 'lr': (0.1, 0)}]"
)
CPU = Env(torch.device("cpu"))


def darker_copy(toy, folder):
    """The toy images with half their brightness: another folder for another phase."""
    shutil.copytree(toy, folder)
    (folder / "manifest.json").unlink()
    splits = open_packed(toy)
    for name, packed in splits.items():
        write_npy(folder / f"{name}.images.npy", packed.images.shape, np.uint8, [np.asarray(packed.images) // 2])
    manifest = load_manifest(toy)
    described = {name: describe_packed(folder, name, len(manifest.classes)) for name in splits}
    save_manifest(folder, replace(manifest, splits=described, sha256="0" * 64))
    return folder


def test_a_schedule_keeps_its_number_of_devices_over_a_resume(toy, tmp_path):
    """The list alone was saved, so --scale-lr of a resumed run gave another learning rate."""
    text = json.dumps({"world_size": 4, "phases": [{"ep": 0, "sz": 12, "bs": 60}, {"ep": [0, 1], "lr": [0.2, 0.0]}]})
    assert train(toy, tmp_path / "run", "--phases", text, "--scale-lr", "--inject-fault", term(0, 1)) == 75
    saved = config_from(["--resume", str(tmp_path / "run")])
    assert resolved_schedule(saved, 1, print).lr_at(0.5) == pytest.approx(0.1 / 4)
    assert main(["--resume", str(tmp_path / "run"), "--no-tensorboard"]) == 0


def term(epoch: int, step: int) -> str:
    return json.dumps({"kind": "term", "epoch": epoch, "step": step})


def test_every_phase_is_normalised_like_the_first_whatever_it_reads(toy, tmp_path):
    """The statistics were those of the first folder of this process: another one after a resume in a later phase."""
    shutil.copytree(toy, tmp_path / "set")
    darker_copy(toy, tmp_path / "set-dark")
    config = Config(data=str(tmp_path / "set"), phases=TWO_FOLDERS)
    means = []
    for suffix in ("", "-dark"):
        loader = open_loader(config, Schedule.parse(config.phases), load_manifest(toy), CPU, torch.float32)
        loader.set_phase(DataPhase(0, 12, 60, trndir=suffix, val_sz=12, val_bs=60))
        means.append(loader.mean)
    assert torch.equal(*means)
    assert content_digest([open_packed(toy)["train"]]) != content_digest([open_packed(tmp_path / "set-dark")["train"]])


def test_a_changed_folder_of_a_later_phase_is_noticed_on_resume(toy, tmp_path, capsys):
    shutil.copytree(toy, tmp_path / "set")
    dark = darker_copy(toy, tmp_path / "set-dark")
    run = tmp_path / "run"
    assert train(tmp_path / "set", run, "--phases", TWO_FOLDERS, "--inject-fault", term(0, 2)) == 75
    save_manifest(dark, replace(load_manifest(dark), sha256="1" * 64))
    assert main(["--resume", str(run), "--no-tensorboard"]) == 2
    assert "dataset-dark: 000000000000 in the checkpoint, 111111111111 now" in capsys.readouterr().err


def test_a_checkpoint_is_not_continued_in_the_folder_of_another_run(toy, tmp_path, capsys):
    for name in ("a", "b"):
        assert train(toy, tmp_path / name, "--inject-fault", term(0, 2)) == 75
    before = (tmp_path / "b" / "run.jsonl").read_bytes()
    assert main(["--resume", str(tmp_path / "a"), "--logdir", str(tmp_path / "b")]) == 2
    assert "another run" in capsys.readouterr().err
    assert (tmp_path / "b" / "run.jsonl").read_bytes() == before


def test_a_run_folder_called_logdir_can_be_resumed(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(toy, tmp_path / "logdir", "--inject-fault", term(0, 1)) == 75
    assert main(["--resume", "logdir", "--no-tensorboard"]) == 0


def test_evaluating_a_run_without_a_checkpoint_is_refused(toy, tmp_path, capsys):
    """It validated random weights."""
    assert train(toy, tmp_path / "run", "--inject-fault", term(0, 1)) == 75
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert main(["--resume", str(tmp_path / "run"), "--evaluate"]) == 2
    assert "no checkpoint there to evaluate" in capsys.readouterr().err


def test_rectangular_validation_of_packed_images_is_refused(toy, tmp_path, capsys):
    phases = PHASES.replace("'bs': 40", "'bs': 40, 'rect_val': True")
    assert train(toy, tmp_path / "run", "--phases", phases) == 2
    assert "rect_val" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_the_end_of_a_run_names_tsv_entry_log_and_picture(toy, tmp_path, capfd):
    assert train(toy, tmp_path / "run", "--chart") == 0
    out = capfd.readouterr().out
    for name in ("result.tsv", "entry.draft.json", "run.jsonl", "accuracy.png"):
        assert str(tmp_path / "run" / name) in out and (tmp_path / "run" / name).exists()


def test_a_run_whose_report_cannot_be_written_says_so_and_keeps_its_code(toy, tmp_path, capfd):
    """A folder is in the way of its picture, and the disk of a text log is full."""
    (tmp_path / "run" / "accuracy.png").mkdir(parents=True)
    (tmp_path / "run" / "debug.log").symlink_to("/dev/full")
    assert train(toy, tmp_path / "run", "--epochs", "1", "--chart") == 0
    out, err = capfd.readouterr()
    assert f"no report: {tmp_path / 'run' / 'accuracy.png'}: cannot be written (Is a directory)" in out
    assert err == "" and str(tmp_path / "run" / "run.jsonl") in out and "outcome" in out
    assert "text logs or TensorBoard are not whole (No space left on device)" in out
    assert events(tmp_path / "run", "stop")[0]["exit_code"] == 0


def test_the_log_says_what_every_parameter_group_trains_with(toy, tmp_path):
    with tiny_job(toy, tmp_path / "run", "--optimizer", "muon", "--bias-lr", "3", "--no-bn-wd", "--nesterov") as job:
        trained = sum(p.numel() for p in job.state.model.parameters() if p.requires_grad)
    groups = events(tmp_path / "run", "start")[0]["optimizer"]["groups"]
    assert sum(group["parameters"] for group in groups) == trained
    facts = [(g["optimizer"], g["lr_factor"], g["momentum"], g["weight_decay"]) for g in groups]
    assert facts[0] == ("Muon", 1.0, 0.6, 0.0) and ("SGD", 3.0, 0.9, 0.0) in facts


def test_no_bn_wd_is_a_yes_on_the_command_line():
    """argparse's own on/off flags read --no-bn-wd as false, so it did nothing."""
    values = [config_from(["D", *start, *flag]).no_bn_wd for start, flag in SWITCHED]
    assert values == [False, True, True, False]
    assert config_from(["D", "--recipe", "toy", "--no-nesterov"]).nesterov is False


PLAIN, TOY = ["--phases", PHASES], ["--recipe", "toy"]
SWITCHED = ((PLAIN, []), (PLAIN, ["--no-bn-wd"]), (TOY, []), (TOY, ["--bn-wd"]))


def test_two_attempts_of_a_run_are_one_curve_in_tensorboard(toy, tmp_path):
    """A resume at the border of an epoch hid that epoch's validation."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = flags(toy, tmp_path / "run", "--tensorboard")
    assert main([*run, "--inject-fault", term(1, 0)]) == 75
    assert main(["--resume", str(tmp_path / "run")]) == 0
    accumulator = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0})
    accumulator.Reload()
    assert [e.step for e in accumulator.Scalars("losses/test_1")] == [240, 480]


@pytest.mark.faults
def test_a_closed_output_does_not_end_the_run(toy, tmp_path):
    """`python -m training ... | head -1` ended as crashed."""
    command = [sys.executable, "-m", "training", *flags(toy, tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(600) == 0, process.stderr.read()
    assert events(tmp_path / "run", "stop")[0]["outcome"] == "finished"
    process.stderr.close()


def test_start_epoch_skips_and_every_report_says_so(toy, tmp_path, capsys):
    """Its log was once no run: epochs had to begin at 0."""
    assert train(toy, tmp_path / "run", "--start-epoch", "1") == 0
    run = read_run(tmp_path / "run")
    assert [row.epoch for row in run.rows] == [1] and run.rows[0].images_seen == 240
    assert "it began at epoch 1" in capsys.readouterr().out
    assert "a trial: it began at epoch 1" in (tmp_path / "run/entry.draft.json").read_text()


def test_start_epoch_beyond_the_schedule_is_refused(toy, tmp_path, capsys):
    assert train(toy, tmp_path / "run", "--start-epoch", "2") == 2
    assert "--start-epoch 2: the schedule has 2 epochs" in capsys.readouterr().err


def test_short_epochs_are_eleven_steps_and_a_trial(toy, tmp_path, capsys):
    phases = "[{'ep': 0, 'sz': 12, 'bs': 20}, {'ep': (0, 1), 'lr': (0.0, 0.12)}]"
    assert train(toy, tmp_path / "run", "--short-epoch", "--phases", phases) == 0
    row = read_run(tmp_path / "run").rows[0]
    assert (row.steps, row.images) == (11, 220) and row.lr == pytest.approx((0.01, 0.11))  # of an epoch of 12 steps
    assert "its epochs were cut short" in capsys.readouterr().out


def test_an_accuracy_of_guessing_is_told(toy, tmp_path, capsys):
    """10 of 60 in 6 classes."""
    with tiny_job(toy, tmp_path / "run") as job:
        for correct in (11, 10):
            warn_of_guessing(job, 1, Validation(correct, 50, 60, 16, "model", "none", 5))
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert len(told) == 1 and "16.67 % top-1 in epoch 2 is what guessing among 6 classes gives" in told[0]
