"""How runs end: signals, a loss that is not finite, crashes, damaged checkpoints, other settings, a full disk, and two
runs in one folder. Each end has its exit code and, where the user can help it, one line."""

import hashlib
import json
import os
import pickle
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import run_toy
import torch
from run_toy import EVERY_STEP, KILLED, STEPS, VARIANTS, events, fault, result, toy_arguments, undisturbed

from data_prep.sources.toy import prepare_toy
from dawn import read_run
from dawn.runlog.clock import RUN_LABELS, SETUP_LABELS
from training.engine.checkpoint import INDEX, load, read_index
from training.engine.state import NEVER
from training.errors import ConfigError


@pytest.fixture(scope="module")
def base(toy) -> Path:
    """The folder of the toy dataset; the undisturbed runs of this session are made beside it, each once."""
    run_toy.start_server()
    return toy.parent


@pytest.fixture(scope="module")
def killed_once(base) -> Path:
    """A run killed in the middle of epoch 1, with checkpoints of that step and of the one before."""
    folder = base / "killed once"
    arguments = toy_arguments(base / "toy", folder, "--checkpoint-minutes", EVERY_STEP)
    assert run_toy.run(*arguments, *fault("kill", epoch=1, step=3)).code == KILLED
    return folder


@pytest.fixture
def killed(killed_once, tmp_path) -> Path:
    """A copy of it to damage."""
    return shutil.copytree(killed_once, tmp_path / "run")


def stop_line(folder: Path) -> dict:
    return events(folder, "stop")[-1]


def newest(folder: Path, generation: int = 0) -> Path:
    return folder / "checkpoints" / read_index(folder / "checkpoints")[generation]["file"]


# signals


@pytest.mark.parametrize(("epoch", "step"), [(0, 0), pytest.param(1, 2, marks=pytest.mark.faults)])
def test_sigterm_saves_and_the_run_goes_on_identically(base, tmp_path, epoch, step):
    folder = tmp_path / "run"
    ended = run_toy.run(*toy_arguments(base / "toy", folder), *fault("term", epoch=epoch, step=step))
    assert ended.code == 75 and not ended.err
    assert f"preempted: SIGTERM after {sum(STEPS[:epoch], step) * 40} images" in ended.out
    assert stop_line(folder)["outcome"] == "preempted" and stop_line(folder)["exit_code"] == 75
    assert len(events(folder, "fault")) == 1
    assert run_toy.run("--resume", folder).code == 3
    assert result(folder) == result(undisturbed(base))
    resumed = events(folder, "start")[1]["resumed_from"]
    assert (resumed["epoch"], resumed["step"]) == (epoch, step)


@pytest.mark.faults
def test_ctrl_c_twice(base, tmp_path):
    """The command as a user starts it; the second Ctrl-C does not cut the save off."""
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "training", *toy_arguments(base / "toy", folder, *VARIANTS["long"])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run_toy.wait_for(folder, "epoch")
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=run_toy.SECONDS)
    assert process.returncode == 75 and not err
    assert "preempted: SIGINT after" in out and stop_line(folder)["outcome"] == "preempted"
    assert run_toy.run("--resume", folder).code == 3
    assert result(folder) == result(undisturbed(base, "long"))


@pytest.mark.faults
def test_sigterm_during_validation(base, tmp_path):
    """The epoch's steps are saved; only its validation is repeated."""
    folder = tmp_path / "run"
    child = run_toy.Child(toy_arguments(base / "toy", folder, *VARIANTS["slow validation"]))
    run_toy.wait_for(folder, "step", 2)  # the first and the last of epoch 0
    child.signal(signal.SIGTERM)
    assert child.wait().code == 75
    assert not events(folder, "epoch")
    assert run_toy.run("--resume", folder).code == 3
    resumed = events(folder, "start")[1]["resumed_from"]
    assert (resumed["epoch"], resumed["step"]) == (0, STEPS[0])
    assert result(folder) == result(undisturbed(base, "slow validation"))


# a loss that is not finite


def test_nan_ends_the_run_as_diverged(base, tmp_path):
    """The checkpoints left are from before the NaN, although each step saves and the loss is read later."""
    folder = tmp_path / "run"
    arguments = toy_arguments(base / "toy", folder, "--checkpoint-minutes", EVERY_STEP, *fault("nan", epoch=1, step=2))
    ended = run_toy.run(*arguments)
    assert ended.code == 4 and not ended.err
    assert "diverged: the training loss was not finite at epoch 2, step 3" in ended.out
    stop = stop_line(folder)
    assert (stop["outcome"], stop["exit_code"], len(events(folder, "fault"))) == ("diverged", 4, 1)
    state = load(folder, run_toy.refuse)["state"]
    assert state["counters"]["epoch"] == 1 and state["counters"]["step"] == 2 and state["sums"][0]["bad_step"] == NEVER
    assert all(torch.isfinite(value.float()).all() for value in state["model"].values())
    assert "has ended (diverged)" in refused("--resume", folder)


def refused(*arguments: object) -> str:
    """The one line of a run that exit code 2 ends."""
    ended = run_toy.run(*arguments)
    assert ended.code == 2
    return ended.error()


# outcomes


@pytest.mark.parametrize(
    ("flags", "code", "outcome", "epochs"),
    [
        (["--target", "20", "--stop-at-target"], 0, "target_reached", 1),
        pytest.param(["--target", "20"], 0, "target_reached", 3, marks=pytest.mark.faults),
        pytest.param(["--target", ""], 0, "finished", 3, marks=pytest.mark.faults),
    ],
)
def test_outcome_and_exit_code(base, tmp_path, flags, code, outcome, epochs):
    assert run_toy.run(*toy_arguments(base / "toy", tmp_path / "run"), *flags).code == code
    check_end(tmp_path / "run", code, outcome, epochs)


def test_outcome_of_a_missed_target(base):
    check_end(undisturbed(base), 3, "finished_without_target", 3)


def check_end(folder: Path, code: int, outcome: str, epochs: int) -> None:
    run = read_run(folder)
    assert (run.stop.outcome, run.stop.exit_code, len(run.rows)) == (outcome, code, epochs)
    assert f"has ended ({outcome})" in refused("--resume", folder)


def test_clock_of_a_finished_run_is_a_partition(base):
    run = read_run(undisturbed(base))
    seconds, clock = run.stop.seconds, run.stop.clock
    setup = sum(seconds[label] for label in SETUP_LABELS)
    counted = {label: seconds[label] for label in RUN_LABELS}
    assert clock["total"] == pytest.approx(sum(counted.values()), abs=1e-6)
    assert clock["dawn"] == pytest.approx(clock["total"] - seconds["eval"] - seconds["checkpoint"], abs=1e-6)
    assert clock["cold"] == pytest.approx(clock["total"] + setup, abs=1e-6)
    assert min(seconds.values()) >= 0 and {label for label in RUN_LABELS if not counted[label]} == {"inspect"}
    assert sum(sum(row.seconds.values()) for row in run.rows) <= clock["total"]


@pytest.mark.faults
def test_crash_and_resume(base, tmp_path):
    """Out of memory in the validation of epoch 1: exit code 1, the traceback on the terminal and in debug.log; the run
    can go on from the end of epoch 0."""
    large = {"ep": 1, "sz": 12, "bs": 40, "val_sz": 512, "val_bs": 60}  # 1.5 GB after the first convolution
    folder, phases = tmp_path / "run", repr([{"ep": 0, "sz": 12, "bs": 40}, large, {"ep": (0, 2), "lr": 0.1}])
    arguments = toy_arguments(base / "toy", folder, "--phases", phases)
    ended = run_toy.run(*arguments, limit=(resource.RLIMIT_DATA, 2 * 10**9))
    assert ended.code == 1 and "Traceback" in ended.err and "can't allocate memory" in ended.err
    stop = stop_line(folder)
    assert (stop["outcome"], stop["exit_code"], stop["epoch"], stop["step"]) == ("crashed", 1, 1, STEPS[0])
    assert stop["detail"].startswith("RuntimeError: ") and "Traceback" in (folder / "debug.log").read_text()
    assert run_toy.run("--resume", folder, *fault("term", epoch=1, step=5)).code == 75
    assert events(folder, "start")[1]["resumed_from"]["epoch"] == 1 and len(read_run(folder).rows) == 1


@pytest.mark.faults
def test_dataset_deleted_under_a_run(base, toy, tmp_path):
    """Bad input also when it turns bad late: one line and exit code 2, in the log too."""
    for name in ("data", "data-b"):
        shutil.copytree(toy, tmp_path / name, ignore=shutil.ignore_patterns("*.jpg"))
    phases = [{"ep": 0, "sz": 12, "bs": 40}, {"ep": 12, "sz": 16, "bs": 40, "trndir": "-b"}, {"ep": (0, 13), "lr": 0.1}]
    folder = tmp_path / "run"
    child = run_toy.Child(toy_arguments(tmp_path / "data", folder, "--phases", repr(phases)))
    run_toy.wait_for(folder, "phase")
    shutil.rmtree(tmp_path / "data-b")
    ended = child.wait()
    assert ended.code == 2 and str(tmp_path / "data-b") in ended.error()
    stop = stop_line(folder)
    assert (stop["outcome"], stop["exit_code"], stop["epoch"]) == ("crashed", 2, 12)


# damaged checkpoints


def test_every_damage_is_seen(killed):
    """Cut at many lengths, or one byte changed anywhere: the older generation is loaded, never the damaged one."""
    path, whole = newest(killed), newest(killed).read_bytes()
    damaged = [whole[: len(whole) * part // 16] for part in range(16)] + [whole[:-1], whole + b"\0"]
    for place in range(0, len(whole), len(whole) // 16):
        damaged.append(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    for data in damaged:
        path.write_bytes(data)
        warnings = []
        assert load(killed, warnings.append)["state"]["counters"]["step"] == 2
        assert len(warnings) == 1 and path.name in warnings[0]
    path.write_bytes(whole)
    assert load(killed, run_toy.refuse)["state"]["counters"]["step"] == 3


def test_a_missing_checkpoint_falls_back_and_ends_identically(base, killed):
    """Damaged ones are as this one: test_every_damage_is_seen."""
    path = newest(killed)
    path.unlink()
    ended = run_toy.run("--resume", killed)
    assert ended.code == 3
    assert ended.err.count("\n") == 1 and ended.err.startswith(f"warning: {path}: ")
    assert "falling back to the checkpoint before" in ended.err
    assert events(killed, "start")[1]["resumed_from"]["step"] == 2
    assert result(killed) == result(undisturbed(base))


def test_both_generations_damaged(killed):
    for generation in (0, 1):
        newest(killed, generation).write_bytes(b"x")
    ended = run_toy.run("--resume", killed)
    assert ended.code == 2
    *warnings, error = ended.err.splitlines()
    assert len(warnings) == 2 and all(line.startswith("warning: ") for line in warnings)
    assert error.startswith("error: ") and "no whole checkpoint there (2 damaged)" in error


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"file": "x"}', '[{"file": "../../x", "bytes": 1}]', "[" * 99999])
def test_a_damaged_index_is_replaced_by_the_names_of_the_files(killed, text):
    (killed / "checkpoints" / INDEX).write_text(text)
    notes = []
    assert load(killed, notes.append)["state"]["counters"]["step"] == 3
    assert len(notes) == 1 and "reading the checkpoints themselves (2 found)" in notes[0]
    assert "the newest by attempt, epoch and step" in notes[0]


def test_without_index_and_files_there_is_nothing_to_load(killed):
    shutil.rmtree(killed / "checkpoints")
    with pytest.raises(ConfigError, match="no whole checkpoint there"):
        load(killed, run_toy.refuse)


def test_a_resume_without_index_ends_identically(base, killed):
    (killed / "checkpoints" / INDEX).unlink()
    ended = run_toy.run("--resume", killed)
    assert ended.code == 3 and ended.err.count("\n") == 1 and "reading the checkpoints themselves" in ended.err
    assert result(killed) == result(undisturbed(base))
    assert len(read_index(killed / "checkpoints")) == 2


class Touch:
    """Unpickled without care, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_pickle_that_runs_code_is_not_run(killed, tmp_path, form):
    """Also when the index vouches for it."""
    path, marker = newest(killed), tmp_path / "marker"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Touch(marker), protocol=2))
    else:
        torch.save({"identity": {}, "state": Touch(marker)}, path)
    data = path.read_bytes()
    index = read_index(path.parent)
    index[0] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path.parent / INDEX).write_text(json.dumps(index))
    warnings = []
    assert load(killed, warnings.append)["state"]["counters"]["step"] == 2
    assert len(warnings) == 1 and "not a checkpoint" in warnings[0]
    assert not marker.exists()


# another experiment


def test_every_changed_setting_is_listed(killed):
    phases = repr([{"ep": 0, "sz": 12, "bs": 40}, {"ep": (0, 3), "lr": (0.1, 0.0)}])
    line = refused("--resume", killed, "--seed", "1", "--width", "0.25", "--phases", phases)
    for text in ("seed: 0 in the checkpoint, 1 now", "width: 0.125 in the checkpoint, 0.25 now", "phases: ["):
        assert text in line
    assert line.count(" in the checkpoint, ") == 3 and len(events(killed, "start")) == 1


def test_another_dataset(base, killed):
    prepare_toy(base / "other", images=240, classes=5)
    line = refused(base / "other", "--resume", killed)
    assert "dataset: " in line and line.count(" in the checkpoint, ") == 1


def test_another_thread_count_only_warns(killed):
    ended = run_toy.run("--resume", killed, "--threads", "2", *fault("term", epoch=1, step=3))
    assert ended.code == 75
    assert ended.err.startswith("warning: threads was 1 and is now 2: ") and ended.err.count("\n") == 1


# a full disk


def test_disk_full_while_saving(base, killed):
    """The kernel refuses to let the checkpoint grow: one line, and the older generations are still there."""
    before = load(killed, run_toy.refuse)["state"]["counters"]
    ended = run_toy.run("--resume", killed, limit=(resource.RLIMIT_FSIZE, 100_000))
    assert ended.code == 2 and "cannot save the checkpoint (File too large)" in ended.error()
    assert f"--resume {killed}" in ended.error()
    assert load(killed, run_toy.refuse)["state"]["counters"] == before
    assert (stop_line(killed)["outcome"], stop_line(killed)["exit_code"]) == ("crashed", 2)
    assert len(read_run(killed).attempts) == 2
    assert run_toy.run("--resume", killed).code == 3
    assert result(killed) == result(undisturbed(base))


@pytest.mark.faults
def test_disk_full_for_the_log(base, killed):
    """A run without a log is void, so it ends; the log stays whole."""
    most = (killed / "run.jsonl").stat().st_size + 100
    ended = run_toy.run("--resume", killed, limit=(resource.RLIMIT_FSIZE, most))
    assert ended.code == 2 and f"{killed / 'run.jsonl'}: cannot write there" in ended.error()
    assert len(read_run(killed).attempts) == 1 and not read_run(killed).torn
    assert run_toy.run("--resume", killed).code == 3
    assert result(killed) == result(undisturbed(base))


@pytest.mark.faults
def test_disk_full_of_a_real_disk(base, tmp_path):
    """A file system that fills up during the run; needs root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=104m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")
    try:
        child = run_toy.Child(toy_arguments(base / "toy", disk / "run", *VARIANTS["long"]))
        run_toy.wait_for(disk / "run", "epoch", 2)
        with pytest.raises(OSError, match="No space left"), open(disk / "filler", "wb", buffering=0) as filler:
            while filler.write(bytes(2**20)):
                pass
        ended = child.wait()
        assert ended.code == 2 and "No space left on device" in ended.error()
        assert len(read_run(disk / "run").rows) >= 2
        load(disk / "run", run_toy.refuse)
        assert "MiB of disk are free" in refused("--resume", disk / "run")
        (disk / "filler").unlink()
        assert run_toy.run("--resume", disk / "run").code == 3
        assert result(disk / "run") == result(undisturbed(base, "long"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# the run folder


@pytest.mark.faults
def test_two_runs_in_one_folder(base, tmp_path):
    folder = tmp_path / "run"
    first = run_toy.Child(toy_arguments(base / "toy", folder, *VARIANTS["long"], "--eval-from", "11"))
    run_toy.wait_for(folder, "start")
    first.signal(signal.SIGSTOP)
    assert "another run (process " in refused(*toy_arguments(base / "toy", folder))
    assert "another run (process " in refused("--resume", folder)
    first.signal(signal.SIGCONT)
    assert first.wait().code == 3
    assert len(events(folder, "start")) == 1


def test_folder_of_another_run(base):
    folder = undisturbed(base)
    before = (folder / "run.jsonl").read_bytes()
    line = refused(*toy_arguments(base / "toy", folder))
    assert f"--logdir {folder}: holds another run. Go on with it: --resume {shlex.quote(str(folder))}" in line
    assert (folder / "run.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["file", "file/run", "/proc/run"])
def test_folder_that_cannot_be_made(base, tmp_path, name):
    (tmp_path / "file").write_text("")
    assert "cannot write there" in refused(*toy_arguments(base / "toy", tmp_path / name))


def test_folder_that_may_not_be_written(base, tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    if os.access(tmp_path / "run", os.W_OK):
        pytest.skip("root may write everywhere")
    assert "cannot write there (Permission denied)" in refused(*toy_arguments(base / "toy", tmp_path / "run"))


def test_nothing_to_resume(base, tmp_path):
    assert "no run there" in refused("--resume", tmp_path)
    (tmp_path / "config.json").write_text((undisturbed(base) / "config.json").read_text())
    assert "no run.jsonl there" in refused("--resume", tmp_path)


def test_resume_with_an_empty_log_starts_from_the_beginning(base, killed):
    """Killed between opening the log and its first line."""
    shutil.rmtree(killed / "checkpoints")
    (killed / "run.jsonl").write_text("")
    ended = run_toy.run("--resume", killed)
    assert ended.code == 3 and "no checkpoint yet, starting from the beginning" in ended.err
    assert result(killed) == result(undisturbed(base)) and len(read_run(killed).attempts) == 1
