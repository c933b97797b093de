"""A run that is killed and resumed ends exactly as one that nothing happened to: weights, momentum, batch norm, EMA,
random numbers, images seen, and the counts of every epoch. Dropping any one of them from the checkpoint shows."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import run_toy
import torch
from run_toy import EVERY_STEP, KILLED, STEPS, events, fault, result, toy_arguments, undisturbed

from dawn import RunError, read_run
from dawn.__main__ import main as dawn
from dawn.runlog.writer import sealed
from training.data.dataset import has_dali
from training.engine.checkpoint import Saver, load, read_index

needs_dali = pytest.mark.skipif(not has_dali(), reason="needs DALI: pip install nvidia-dali-cuda130")


@pytest.fixture(scope="module")
def base(toy) -> Path:
    """The folder of the toy dataset; the undisturbed runs of this session are made beside it, each once."""
    run_toy.start_server()
    return toy.parent


def killed_run(base: Path, folder: Path, variant: str, *more: str) -> None:
    """Start a run that a fault kills; the fault's line is in the log exactly once."""
    assert run_toy.run(*toy_arguments(base / "toy", folder, *run_toy.VARIANTS[variant], *more)).code == KILLED
    assert len(events(folder, "fault")) == 1


def resumed_run(folder: Path, *more: str) -> run_toy.Ended:
    """Resume to the end (exit code 3: the toy run does not reach its target)."""
    ended = run_toy.run("--resume", folder, *more)
    assert ended.code == 3, ended.err
    return ended


def test_killed_before_many_steps_in_turn(base, tmp_path):
    """One attempt after another, each killed before a later step: the first, second and last step of each epoch, and so
    of each phase. Nothing is saved before the first of them."""
    folder = tmp_path / "run"
    places = [(epoch, step) for epoch, steps in enumerate(STEPS) for step in (0, 1, steps - 1)]
    start = toy_arguments(base / "toy", folder, "--checkpoint-minutes", EVERY_STEP)
    for place, (epoch, step) in enumerate(places):
        ended = run_toy.run(*(["--resume", folder] if place else start), *fault("kill", epoch=epoch, step=step))
        assert ended.code == KILLED and len(events(folder, "fault")) == place + 1
    resumed_run(folder)
    assert result(folder) == result(undisturbed(base))
    run = read_run(folder)
    assert [(a.resumed_from.epoch, a.resumed_from.step) for a in run.resumes[1:]] == places[1:]
    assert len(places) == 9
    assert run.resumes[0].resumed_from is None  # nothing was saved before the first step
    assert {start.run_id for start in run.attempts} == {run.start.run_id}


@pytest.mark.parametrize(
    ("variant", "epoch", "step", "minutes"),
    [
        ("muon", 2, 3, "0"),  # last step of all, checkpoints only at the ends of epochs
        pytest.param("parts of the record", 1, 2, EVERY_STEP, marks=pytest.mark.slow),  # of lookahead's four steps two
        pytest.param("dropout", 1, 2, EVERY_STEP, marks=pytest.mark.slow),
        pytest.param("torchvision", 1, 3, EVERY_STEP, marks=pytest.mark.slow),
        pytest.param("processes", 1, 4, EVERY_STEP, marks=pytest.mark.slow),
        pytest.param("threads", 1, 5, EVERY_STEP, marks=pytest.mark.slow),
        pytest.param("all parts", 1, 3, EVERY_STEP, marks=pytest.mark.slow),  # from packed files
        pytest.param("drawn parts", 1, 4, EVERY_STEP, marks=pytest.mark.slow),  # from arrays
        pytest.param("dali", 1, 3, EVERY_STEP, marks=[needs_dali, pytest.mark.slow]),
    ],
)
def test_killed_once(base, tmp_path, variant, epoch, step, minutes):
    folder = tmp_path / "run"
    killed_run(base, folder, variant, *fault("kill", epoch=epoch, step=step), "--checkpoint-minutes", minutes)
    resumed_run(folder)
    assert result(folder) == result(undisturbed(base, variant))


SAVES = [pytest.param(1, marks=pytest.mark.slow), 7, pytest.param(8, marks=pytest.mark.slow)]


@pytest.mark.parametrize("save", SAVES)  # of 7 in epoch 0: one a step, one at its end
def test_killed_in_the_middle_of_a_save(base, tmp_path, save):
    folder = tmp_path / "run"
    killed_run(base, folder, "muon", *fault("kill_in_save", save=save), "--checkpoint-minutes", EVERY_STEP)
    assert list((folder / "checkpoints").glob("*.tmp"))
    resumed_run(folder)
    assert result(folder) == result(undisturbed(base))
    assert not list((folder / "checkpoints").glob("*.tmp"))
    assert len(list((folder / "checkpoints").glob("*.pt"))) == 2


@pytest.fixture(scope="module")
def killed(base) -> Path:
    """A run with SGD killed in the middle of epoch 1, with a checkpoint of that very step."""
    folder = base / "killed"
    killed_run(base, folder, "sgd", *fault("kill", epoch=1, step=3), "--checkpoint-minutes", EVERY_STEP)
    return folder


def rewritten(killed: Path, folder: Path, change) -> Path:
    """A copy of the killed run whose checkpoint's state `change` has touched."""
    shutil.copytree(killed, folder)
    content = load(folder, run_toy.refuse)
    change(content["state"])
    Saver(folder).save(content)
    return folder


def drop_momentum(state: dict) -> None:
    for optimizer in state["optimizers"]:
        optimizer["state"] = {}


def drop_average(state: dict) -> None:
    state["average"] |= {f"module.{name}": value for name, value in state["model"].items()}


def drop_norms(state: dict) -> None:
    for name, value in state["model"].items():
        if "running" in name:
            value.fill_(float(name.endswith("var")))


def drop_weights(state: dict) -> None:
    state["model"] = {name: value.roll(1, 0) if value.dim() else value for name, value in state["model"].items()}


def drop_random_numbers(state: dict) -> None:
    state["rng"][0]["cpu"] = torch.Generator().manual_seed(1).get_state()


def drop_step(state: dict) -> None:
    state["counters"]["step"] = 0


def drop_images_seen(state: dict) -> None:
    state["counters"]["images_seen"] = 240


def drop_loss_sum(state: dict) -> None:
    state["sums"][0]["loss_sum"].zero_()


DROPS = [
    (drop_momentum, {"model", "optimizers", "epochs"}),
    pytest.param(drop_average, {"average"}, marks=pytest.mark.slow),
    pytest.param(drop_norms, {"model", "average"}, marks=pytest.mark.slow),
    pytest.param(drop_weights, {"model", "epochs"}, marks=pytest.mark.slow),
    (drop_random_numbers, {"rng"}),
    pytest.param(drop_loss_sum, {"epochs"}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("drop", "parts"), DROPS, ids=lambda value: getattr(value, "__name__", ""))
def test_negative_control(base, killed, tmp_path, drop, parts):
    """Resumed without this piece of state, the run ends otherwise: the comparison of the other tests sees it."""
    folder = rewritten(killed, tmp_path / "run", drop)
    resumed_run(folder)
    found, expected = result(folder), result(undisturbed(base, "sgd"))
    assert parts <= {name for name in expected if found[name] != expected[name]}


@pytest.mark.parametrize("drop", [drop_step, drop_images_seen])
def test_negative_control_of_the_counters(killed, tmp_path, drop):
    """Steps that were repeated, or images that were forgotten, would not pass the reader of the log."""
    folder = rewritten(killed, tmp_path / "run", drop)
    resumed_run(folder)
    with pytest.raises(RunError, match="not the sum of the epochs so far"):
        read_run(folder)


def test_rewriting_a_checkpoint_alone_changes_nothing(base, killed, tmp_path):
    folder = rewritten(killed, tmp_path / "run", lambda state: None)
    resumed_run(folder)
    assert result(folder) == result(undisturbed(base, "sgd"))


@pytest.mark.slow
def test_negative_control_of_random_numbers_in_training(base, tmp_path):
    """Dropout draws from torch's generator: without its state the weights come out otherwise."""
    before = tmp_path / "killed"
    killed_run(base, before, "dropout", *fault("kill", epoch=1, step=1), "--checkpoint-minutes", EVERY_STEP)
    folder = rewritten(before, tmp_path / "run", drop_random_numbers)
    resumed_run(folder)
    assert result(folder)["model"] != result(undisturbed(base, "dropout"))["model"]


def an_hour_longer(folder: Path) -> int:
    """Let the log's epochs tell of an hour more: no resumed attempt, however slow its start, takes as long. Returns the
    number of epochs."""
    lines = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["event"] == "epoch"]
    epochs[0]["seconds"]["train"] += 3600.0
    for epoch in epochs:
        epoch["clock"] = {name: seconds + 3600.0 for name, seconds in epoch["clock"].items()}
    link = ""
    with open(folder / "run.jsonl", "wb") as log:
        for line in lines:
            del line["chain"]
            written, link = sealed(json.dumps(line).encode(), link)
            log.write(written)
    return len(epochs)


def test_negative_control_of_the_clock(killed, tmp_path):
    """A resumed clock that began at zero again would not pass the reader of the log."""

    def drop_clock(state: dict) -> None:
        for ledger in state["clock"].values():
            ledger.update(dict.fromkeys(ledger, 0))

    folder = rewritten(killed, tmp_path / "run", drop_clock)
    lines = an_hour_longer(folder)
    assert run_toy.run("--resume", folder).code == 3
    assert len(events(folder, "epoch")) > lines
    with pytest.raises(RunError, match="does not go forward"):
        read_run(folder)


def test_clock_and_reports_of_a_resumed_run(killed, tmp_path, capsys):
    folder = shutil.copytree(killed, tmp_path / "run")
    ended = resumed_run(folder)
    run = read_run(folder)
    totals = [row.clock["total"] for row in run.rows]
    assert totals == sorted(totals) and totals[0] == events(folder, "epoch")[0]["clock"]["total"]
    resumed = events(folder, "start")[1]["resumed_from"]
    assert totals[0] < resumed["clock"]["total"] < totals[1]
    assert resumed["lost_seconds"] >= 0 and resumed["gap_seconds"] >= 0
    assert "going on at epoch 2, step 4" in ended.out and "seconds of the attempt before are lost" in ended.out
    made = (folder / "result.tsv").read_bytes()
    assert len(made.splitlines()) == 1 + len(STEPS)
    (folder / "result.tsv").unlink()
    assert dawn(["tsv", str(folder)]) == 0
    assert (folder / "result.tsv").read_bytes() == made
    capsys.readouterr()


@pytest.mark.slow
def test_seconds_lost_are_those_since_the_checkpoint(base, tmp_path):
    """Killed three times in epoch 1, with a checkpoint only at epochs' ends: each attempt lost its own steps, and none
    those of an earlier one."""
    folder = tmp_path / "run"
    last = fault("kill", epoch=1, step=5)
    killed_run(base, folder, "muon", *last, "--checkpoint-minutes", "0", "--print-freq", "1")
    assert run_toy.run("--resume", folder, *last).code == KILLED
    assert run_toy.run("--resume", folder, *fault("kill", epoch=1, step=1)).code == KILLED
    resumed_run(folder)
    lost = [start["resumed_from"]["lost_seconds"] for start in events(folder, "start")[1:]]
    assert lost[0] > 0 and lost[1] > 0 and 0 < lost[2] < max(lost[:2])
    assert result(folder) == result(undisturbed(base))


def test_target_reached_but_killed_before_the_stop_line(base, tmp_path):
    """The checkpoint says that the target was reached: the resumed run ends there and trains nothing more."""
    folder = tmp_path / "run"
    assert run_toy.run(*toy_arguments(base / "toy", folder, "--target", "20", "--stop-at-target")).code == 0
    before = result(folder)
    log = folder / "run.jsonl"
    log.write_text("".join(line for line in log.open() if '"event": "stop"' not in line))
    assert run_toy.run("--resume", folder).code == 0
    assert result(folder) == before and len(before["epochs"]) == 1
    assert read_run(folder).stop.outcome == "target_reached"


def test_killed_between_the_last_save_and_the_stop_line(base, tmp_path):
    folder = shutil.copytree(undisturbed(base), tmp_path / "run")
    log = folder / "run.jsonl"
    log.write_text("".join(line for line in log.open() if '"event": "stop"' not in line))
    resumed_run(folder)
    assert result(folder) == result(undisturbed(base))


def test_a_named_checkpoint_can_be_resumed(base, killed, tmp_path):
    """--resume FILE: the older generation, one step earlier, leads to the same end."""
    folder = shutil.copytree(killed, tmp_path / "run")
    older = sorted((folder / "checkpoints").glob("*.pt"))[0]
    assert run_toy.run("--resume", older).code == 3
    assert events(folder, "start")[1]["resumed_from"]["step"] == 2
    assert result(folder) == result(undisturbed(base, "sgd"))


@pytest.mark.slow
def test_killed_from_outside_at_any_moment(base, tmp_path):
    """The command as a user starts it, and signal 9 whenever it comes."""
    folder = tmp_path / "run"
    arguments = toy_arguments(base / "toy", folder, "--checkpoint-minutes", EVERY_STEP)
    process = subprocess.Popen([sys.executable, "-m", "training", *arguments], stdout=subprocess.DEVNULL)
    run_toy.wait_for(folder, "epoch")
    process.kill()
    assert process.wait(run_toy.SECONDS) == KILLED
    resumed_run(folder)
    assert result(folder) == result(undisturbed(base))


def test_two_saves_at_the_same_place_are_two_generations(base, killed, tmp_path):
    """A save never writes over a file that the index lists: a kill between the file and the index would lose it."""
    folder = rewritten(killed, tmp_path / "run", lambda state: state["clock"]["ns"].update(data=1))
    files = [generation["file"] for generation in read_index(folder / "checkpoints")]
    assert len(set(files)) == 2 and files[0][:21] == files[1][:21] == "epoch0001-step000003-"
    for file in files:
        assert load(folder / "checkpoints" / file, run_toy.refuse)["state"]["counters"]["step"] == 3
