"""Runs of two processes that diverged, diagnosed by two."""

import json
import shutil
from pathlib import Path

import planted_faults
import pytest
from grey_image import tree_with_a_grey_image
from rank_processes import trained, world
from refusals import training_refused
from tiny_run import flags, train

from training.__main__ import main
from training.diagnosis.log import good_checkpoint, read_ended
from training.diagnosis.record import told
from training.diagnosis.replay import replayed
from training.distributed.env import open_env

PHASES = "[{'ep': 0, 'sz': 12, 'bs': 30}, {'ep': 1, 'sz': 16, 'bs': 20}, {'ep': (0, 2), 'lr': (0.1, 0.0)}]"
PLANTED = Path(planted_faults.__file__)
NAN = ("--inject-fault", '{"kind": "nan", "epoch": 1, "step": 3, "rank": 1}')


@pytest.fixture(scope="module")
def two():
    with world(2) as opened:
        yield opened


def diverge(two, data, folder, *more: str) -> None:
    ended = two.call(trained, flags(data, folder, "--phases", PHASES, "--shift", "0", *more))
    assert [one.code for one in ended] == [4, 4], ended
    assert f"torchrun --nproc-per-node=2 -m training diagnose {folder}" in ended[0].out + ended[0].err


def test_anomaly_mode_is_refused_in_two_processes(two, toy, tmp_path):
    first, second = two.call(trained, flags(toy, tmp_path / "run", "--detect-anomaly"))
    assert (first.code, second.code, second.err) == (2, 2, "") and not (tmp_path / "run").exists()
    assert (
        first.err.startswith("error: --detect-anomaly: works in one process, not in 2") and first.err.count("\n") == 1
    )


def diagnosis(two, folder) -> tuple[list[str], dict]:
    """What is printed, by rank 0 alone, and the record."""
    first, second = two.call(trained, ["diagnose", str(folder)])
    assert (first.code, second.code, second.out, second.err) == (0, 0, "", ""), (first, second)
    return first.out.splitlines(), json.loads((folder / "diagnosis.json").read_text())


def losses_replayed(folder: Path) -> list[float]:
    ended = read_ended(folder, 2)
    with open_env(ended.config) as env, replayed(ended, good_checkpoint(folder, pytest.fail), env) as bad:
        return [past.loss for past in bad.past]


@pytest.mark.slow
def test_the_rank_of_the_fault_is_named_and_the_losses_are_those_of_the_run(two, toy, tmp_path):
    """With mixed images, an average, Muon and parts of batches."""
    average = ("--ema-decay", "0.9", "--ema-every", "2")
    more = ("--mixup", "0.4", "--optimizer", "muon", "--accumulate", "2", "--print-freq", "1")
    diverge(two, toy, tmp_path / "run", *NAN, *average, *more)
    lines, record = diagnosis(two, tmp_path / "run")
    assert lines[1].startswith("epoch 2, step 4:") and lines[1].endswith(", on rank 1 of 2")
    assert lines[2].startswith("cause 1: an injected fault") and record["rank"] == 1
    assert ["rank", "rank 1 of 2"] in record["facts"] and len(record["batch"]) == 20
    pairs = zip(*two.call(losses_replayed, tmp_path / "run"), strict=True)
    logged = [line.loss for line in read_ended(tmp_path / "run", 2).logged[4:]]
    assert [sum(pair) / 2 for pair in pairs] == pytest.approx(logged, rel=1e-7)


@pytest.mark.slow
def test_a_bad_image_of_one_rank_is_named_with_its_file(two, toy, tmp_path):
    root, grey = tree_with_a_grey_image(toy, tmp_path / "toy")
    diverge(two, root, tmp_path / "run", "--loader", "threads", "--workers", "1", "--model", f"{PLANTED}:one_value")
    lines, record = diagnosis(two, tmp_path / "run")
    assert f", on rank {record['rank']} of 2" in lines[1] and lines[2].startswith("cause 1: a bad image")
    assert [row["file"] for row in record["batch"] if row["note"]] == [f"train/ring/{grey.name}"]


@pytest.mark.slow
def test_an_elastic_run_is_replayed_with_its_global_batches(two, toy, tmp_path, capsys):
    """Begun by two, resumed by one and diverged there. Also from the checkpoint of the two, and from the first step."""
    folder = tmp_path / "run"
    stop = ("--inject-fault", json.dumps({"kind": "term", "epoch": 0, "batch": 0}))
    ended = two.call(trained, flags(toy, folder, "--phases", PHASES, "--shift", "0", "--print-freq", "1", *stop))
    assert [one.code for one in ended] == [75, 75], ended
    of_two = shutil.copytree(folder / "checkpoints", tmp_path / "kept")
    fault = json.dumps({"kind": "nan", "epoch": 1, "step": 3})
    assert main(["--resume", str(folder), "--allow-elastic", "--inject-fault", fault]) == 4
    assert main(["diagnose", str(folder)]) == 0
    assert "epoch 2, step 4: " in capsys.readouterr().out
    ended, (saved,) = read_ended(folder), of_two.glob("*.pt")
    assert [(line.epoch, line.step) for line in ended.logged] == [(1, 0), (1, 1), (1, 2)]  # not those of the two
    for checkpoint, steps, off in ((saved, 3, 0), (None, 7, 0.01)):  # batch norm saw the images of one rank at a time
        with open_env(ended.config) as env, replayed(ended, checkpoint, env) as bad:
            assert (bad.epoch, bad.step, bad.replayed, bad.job.global_batch) == (1, 3, steps, 40)
            assert [past.loss for past in bad.past[-3:]] == pytest.approx([n.loss for n in ended.logged], rel=off)


@pytest.mark.slow
def test_another_number_of_processes_is_one_line(two, toy, tmp_path, capsys):
    diverge(two, toy, tmp_path / "pair", *NAN)
    words = "a run of 2 processes", "this is 1", "torchrun --nproc-per-node=2 -m training diagnose"
    training_refused(capsys, ["diagnose", str(tmp_path / "pair")], *words)
    assert train(toy, tmp_path / "alone", "--shift", "0", "--model", f"{PLANTED}:logarithm") == 4
    first, second = two.call(trained, ["diagnose", str(tmp_path / "alone")])
    assert (first.code, second.code, second.err) == (2, 2, "") and first.err.count("\n") == 1
    assert "a run of 1 process, which as many replay, and this is 2. Start `python -m training" in first.err


def record(rank: int, kind: str) -> dict:
    return {"rank": rank, "world_size": 3, "kind": kind, "found": "x", "facts": []}


def test_the_rank_that_knows_the_operation_speaks_for_all():
    shown = told([record(0, "none"), record(1, "operation"), record(2, "operation")])
    assert (shown["rank"], shown["found"]) == (1, "x, on rank 1 of 3")
    assert shown["facts"] == [["rank", "rank 1 of 3; rank 2 found a value of this kind too"]]
    assert told([record(0, "output"), record(1, "output") | {"kind": "none"}, record(2, "weights")])["rank"] == 2
