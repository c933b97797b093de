"""The run folder: where it may lie, what its name may be, and what a start that fails leaves there."""

import fcntl
import os
import shutil

import pytest
from refusals import training_refused
from tiny_run import events, flags, train

from training.config.config import Config
from training.errors import ConfigError
from training.runs.folder import begun, check_name, open_folder


@pytest.mark.parametrize("inside", [".", "train", "train/disc", "new/deep"])
def test_a_run_folder_inside_its_dataset(toy, tmp_path, capsys, inside):
    before = sorted(os.walk(toy))
    (tmp_path / "link").symlink_to(toy)
    for place in (toy / inside, tmp_path / "link" / inside):
        training_refused(capsys, flags(toy, place), f"--logdir {place}: ", "Name another folder")
    assert sorted(os.walk(toy)) == before


def test_a_run_folder_inside_a_copy_or_another_dataset(tmp_path):
    copy = tmp_path / "images-sz" / "160"
    copy.mkdir(parents=True)
    (copy / "manifest.json").touch()
    with pytest.raises(ConfigError, match=f"lies inside the dataset {copy}"):  # noqa: SIM117
        with open_folder(Config(data=str(tmp_path / "images"), logdir=str(copy / "train" / "run"))):
            pass
    assert os.listdir(copy) == ["manifest.json"]


def test_a_run_folder_that_holds_a_dataset_is_fine(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").touch()
    with open_folder(Config(data=str(tmp_path / "data"), logdir=str(tmp_path))) as folder:
        assert folder == tmp_path


def test_a_name_that_tensorboard_cannot_encode(toy, tmp_path, capsys):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/r\xfcn")
    for flag in ("--tensorboard", "--no-tensorboard"):
        training_refused(capsys, flags(toy, name, flag), "r\\xfcn: the name is not UTF-8", "Name another folder")
    assert os.listdir(tmp_path) == []
    check_name(tmp_path / "ünï 🙂")


def failed_start(folder, error: BaseException) -> None:
    with pytest.raises(type(error)):  # noqa: SIM117
        with open_folder(Config(data="elsewhere", logdir=str(folder))):
            (folder / "run.jsonl").touch()
            (folder / "checkpoints").mkdir()
            (folder / "checkpoints" / "x").touch()
            raise error


@pytest.mark.parametrize("error", [ConfigError("bad"), RuntimeError("worse"), KeyboardInterrupt()])
def test_a_start_that_fails_leaves_no_folder(tmp_path, error):
    failed_start(tmp_path / "new", error)
    assert os.listdir(tmp_path) == []


def test_a_start_that_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    failed_start(tmp_path, ConfigError("bad"))
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_second_run_leaves_the_folder_of_the_first(tmp_path):
    folder = tmp_path / "run"
    config = Config(data="elsewhere", logdir=str(folder))
    with open_folder(config):
        (folder / "config.json").touch()
        with pytest.raises(ConfigError, match=r"another run .* writes there"), open_folder(config):
            pass
        assert sorted(os.listdir(folder)) == ["config.json", "run.lock"]


def test_an_empty_log_of_a_killed_start_is_no_run(toy, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.jsonl").touch()
    assert not begun(tmp_path / "run")
    assert train(toy, tmp_path / "run", "--epochs", "1") in (0, 3)
    assert begun(tmp_path / "run") and len(events(tmp_path / "run")) == 1


def test_errors_of_a_resume_speak_of_the_flag_that_was_given(tmp_path):
    """The folder by --resume, also by a checkpoint in it; by --logdir where both are given."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "run.jsonl").write_text('{"event": "start", "attempt": 0}\n')
    for resume in (run, run / "checkpoints" / "x.pt"):
        config = Config(data="elsewhere", resume=str(resume), logdir=str(run))
        with open_folder(config), pytest.raises(ConfigError, match=f"--resume {run}: another run .* Wait until"):  # noqa: SIM117
            with open_folder(config):
                pass
    elsewhere = Config(data=str(tmp_path), resume=str(run), logdir=str(tmp_path / "new"))
    with pytest.raises(ConfigError, match=f"--logdir {tmp_path / 'new'}: "), open_folder(elsewhere):
        pass


def before_the_lock(monkeypatch, *actions) -> None:
    """What another command does between this start's look at the folder and its lock, once each."""
    system, waiting = fcntl.flock, list(actions)

    def flock(lock: int, how: int) -> None:
        if waiting:
            waiting.pop(0)()
        system(lock, how)

    monkeypatch.setattr(fcntl, "flock", flock)


def test_files_that_another_command_puts_there_before_the_lock_stay(tmp_path, monkeypatch):
    folder = tmp_path / "new"
    before_the_lock(monkeypatch, (folder / "detect.jsonl").touch)
    failed_start(folder, RuntimeError("worse"))
    assert os.listdir(folder) == ["detect.jsonl"]


@pytest.mark.parametrize("times", [1, 3])
def test_a_folder_that_another_failed_start_removes_before_the_lock_is_made_again(tmp_path, monkeypatch, times):
    before_the_lock(monkeypatch, *[lambda: shutil.rmtree(tmp_path / "new")] * times)
    with open_folder(Config(data="elsewhere", logdir=str(tmp_path / "new"))) as folder:
        assert os.listdir(folder) == ["run.lock"]
        with pytest.raises(ConfigError, match=r"another run .* writes there"):  # noqa: SIM117
            with open_folder(Config(data="elsewhere", logdir=str(folder))):
                pass
    assert os.listdir(folder) == ["run.lock"]


def test_a_folder_that_others_remove_again_and_again_is_refused(tmp_path, monkeypatch):
    before_the_lock(monkeypatch, *[lambda: shutil.rmtree(tmp_path / "new")] * 99)
    with pytest.raises(ConfigError, match="begins and ends there"):  # noqa: SIM117
        with open_folder(Config(data="elsewhere", logdir=str(tmp_path / "new"))):
            pass
