"""Checkpoints whose index is lost: found and verified by the names of the files."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from tiny_run import train

from training.engine.checkpoint import INDEX, Saver, load, read_index
from training.errors import ConfigError

OLD_RUN = Path(__file__).parents[2] / "fixtures/run_before_rooms"


def saved(folder: Path, *steps: int, attempt: int = 0) -> list[Path]:
    saver = Saver(folder, attempt=attempt)
    files = [saver.save({"state": {"counters": {"epoch": 1, "step": s}}, "weights": torch.ones(9)}) for s in steps]
    for seconds, file in enumerate(files, start=1):
        if file.exists():
            os.utime(file, (seconds, seconds))
    return files


def step_of(place: Path, notes: list[str]) -> int:
    return load(place, notes.append)["state"]["counters"]["step"]


def test_a_lost_index_and_a_damaged_newest_file(tmp_path):
    older, newest = saved(tmp_path, 3, 4)
    (tmp_path / "checkpoints" / INDEX).unlink()
    newest.write_bytes(newest.read_bytes()[:-9] + b"\0" * 9)
    notes = []
    assert step_of(tmp_path, notes) == 3
    assert len(notes) == 2 and f"{newest}: damaged" in notes[1] and "falling back" in notes[1]
    older.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"no whole checkpoint there \(2 damaged\)"):
        load(tmp_path, notes.append)


def test_a_save_keeps_the_whole_checkpoint_that_the_run_went_on_from(tmp_path):
    older, newest = saved(tmp_path, 3, 4)
    newest.write_bytes(newest.read_bytes()[:-9] + b"\0" * 9)
    (now,) = saved(tmp_path, 5, attempt=1)
    assert [place["file"] for place in read_index(tmp_path / "checkpoints")] == [now.name, older.name]
    now.write_bytes(b"")
    assert step_of(tmp_path, []) == 3 and not newest.exists()


@pytest.mark.parametrize("times", [(1, 2), (2, 1), (1, 1)])
def test_without_index_the_last_attempt_is_the_newest_whatever_the_file_times(tmp_path, times):
    """A run that went on from an older checkpoint than its newest; then its folder was copied."""
    files = [*saved(tmp_path, 9), *saved(tmp_path, 4, attempt=1)]
    (tmp_path / "checkpoints" / INDEX).write_text("")
    for file, seconds in zip(files, times, strict=True):
        os.utime(file, (seconds, seconds))
    notes = []
    assert step_of(tmp_path, notes) == 4 and f"{files[1].name} first" in notes[0]


def test_without_index_the_last_step_of_an_attempt_is_the_newest_whatever_the_file_times(tmp_path):
    older, newest = saved(tmp_path, 99_999, 1_000_000)  # not the order of the names
    (tmp_path / "checkpoints" / INDEX).unlink()
    os.utime(older, (9, 9))
    assert step_of(tmp_path, []) == 1_000_000
    newest.write_bytes(b"")
    notes = []
    assert step_of(tmp_path, notes) == 99_999 and f"{newest}: the file is empty" in notes[1]


def test_a_save_after_the_index_is_lost_keeps_the_generation_before(tmp_path):
    saved(tmp_path, 3, 4)
    (tmp_path / "checkpoints" / INDEX).unlink()
    (newest,) = saved(tmp_path, 5)
    newest.unlink()
    notes = []
    assert step_of(tmp_path, notes) == 4 and len(notes) == 1


def test_a_named_file_needs_no_index(tmp_path):
    older, _ = saved(tmp_path, 3, 4)
    shutil.copy(older, tmp_path / older.name)
    notes = []
    assert step_of(tmp_path / older.name, notes) == 3 and not notes
    with pytest.raises(ConfigError, match="no whole checkpoint"):
        load(shutil.copy(older, tmp_path / "best.pt"), notes.append)
    with pytest.raises(ConfigError, match="no whole checkpoint"):
        load(tmp_path / "gone" / older.name, notes.append)


def test_an_index_of_an_old_run_is_found_again(tmp_path):
    shutil.copytree(OLD_RUN, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / INDEX).unlink()
    notes = []
    assert load(tmp_path / "run", notes.append)["state"]["counters"]["step"] == 3
    assert len(notes) == 1 and "(1 found)" in notes[0]


def test_a_checkpoint_that_is_a_pointer_is_called_so(tmp_path):
    """In the run, by its own name or any other."""
    pointer, notes = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", []
    _, newest = saved(tmp_path, 1, 2)
    newest.write_bytes(pointer)
    assert step_of(tmp_path, notes) == 1 and "lfs pull" in notes[0] and "damaged" not in notes[0]
    (tmp_path / "best.pt").write_bytes(pointer)
    with pytest.raises(ConfigError, match="lfs pull"):
        load(tmp_path / "best.pt", notes.append)


FIVE_EPOCHS = "[{'ep': 0, 'sz': 12, 'bs': 120}, {'ep': (0, 5), 'lr': (0.1, 0.0)}]"


def test_checkpoints_every_third_epoch_and_at_the_end(toy, tmp_path):
    more = ("--phases", FIVE_EPOCHS, "--eval-from", "4", "--checkpoint-every", "3")
    assert train(toy, tmp_path / "run", *more) == 0
    assert [generation["epoch"] for generation in read_index(tmp_path / "run" / "checkpoints")] == [5, 3]
