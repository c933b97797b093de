"""Faults of runs with two processes: whatever happens to one rank, all end in bounded time, alike, with one line that
says why, and the run goes on from its last checkpoint to the result that nothing would have changed."""

import itertools
import json
import os
import resource
import shutil
import signal
from datetime import datetime
from pathlib import Path

import pytest
import run_toy
import torch
from run_toy import EVERY_STEP, KILLED, STEPS, events, fault, result
from two_ranks import (
    PAIRS,
    SECONDS,
    TIMEOUT,
    ClockSetBack,
    MemoryLimit,
    Ranks,
    Recorder,
    codes,
    fired,
    one_line,
    pair_arguments,
    processes_of,
    run_ranks,
    undisturbed_pair,
)

from data_prep.sources.toy import prepare_toy
from dawn import read_run
from training.data.dataset import has_dali
from training.engine.checkpoint import Saver, load
from training.engine.state import NEVER

pytestmark = pytest.mark.faults
quick = pytest.mark.quick  # also in the ordinary tests
SAVES = ["--checkpoint-minutes", EVERY_STEP]
SOON = 240  # seconds in which all ranks end, on a slow and busy machine; they wait 30 for each other
LAST = STEPS[0] - 1


@pytest.fixture(scope="module")
def base(toy) -> Path:
    """The folder of the toy dataset; the undisturbed runs of this session are made beside it, each once."""
    run_toy.start_server()
    return toy.parent


@pytest.fixture(scope="module")
def killed_once(base) -> Path:
    """A run whose rank 1 was killed in the middle of epoch 1; it saved at every step."""
    folder = base / "killed pair"
    ended = run_ranks(*pair_arguments(base, folder, "muon", *SAVES, *fault("kill", epoch=1, step=3, rank=1)))
    assert codes(ended) == [1, KILLED] and fired(folder, 1) == 1
    return folder


@pytest.fixture
def killed(killed_once, tmp_path) -> Path:
    """A copy of it to go on with."""
    return shutil.copytree(killed_once, tmp_path / "run")


def resume(folder: Path, *more: str) -> None:
    """To the end (exit code 3: the toy run does not reach its target)."""
    ended = run_ranks("--resume", folder, *more)
    assert codes(ended) == [3, 3], ended


def counters(folder: Path) -> dict:
    return load(folder, run_toy.refuse)["state"]["counters"]


def stop_line(folder: Path) -> dict:
    return events(folder, "stop")[-1]


# killed


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=quick)])
def test_a_killed_rank_ends_all_and_the_run_goes_on_identically(base, tmp_path, rank):
    """No checkpoint is written after the fault: the last one is that of the epoch before."""
    folder = tmp_path / "run"
    ended = run_ranks(*pair_arguments(base, folder, "muon", *fault("kill", epoch=1, step=3, rank=rank)), seconds=SOON)
    assert ended[rank].code == KILLED and ended[1 - rank].code == 1 and fired(folder, rank) == 1
    assert "another rank is gone without a word, perhaps killed (" in ended[1 - rank].error()
    assert (counters(folder)["epoch"], counters(folder)["step"]) == (1, 0)
    resume(folder)
    assert result(folder) == result(undisturbed_pair(base))


def test_the_log_says_that_another_rank_is_gone(killed):
    stop = stop_line(killed)
    assert (stop["outcome"], stop["exit_code"], stop["epoch"], stop["step"]) == ("crashed", 1, 1, 3)
    assert "Traceback" in (killed / "debug.log").read_text()


def drop_random_numbers_of_rank_1(state: dict) -> None:
    state["rng"][1] = state["rng"][0]


def drop_sums_of_rank_1(state: dict) -> None:
    state["sums"][1]["loss_sum"].zero_()


@pytest.mark.parametrize(
    ("variant", "drop", "part", "step"),
    [("dropout", drop_random_numbers_of_rank_1, "model", 3), ("muon", drop_sums_of_rank_1, "epochs", 5)],
)
def test_negative_control(base, tmp_path, variant, drop, part, step):
    """Without what belongs to rank 1 alone the run ends otherwise; with it it does not."""
    folder, other = tmp_path / "run", tmp_path / "other"
    place = fault("kill", epoch=1, step=step, rank=1)
    run_ranks(*pair_arguments(base, folder, variant, *SAVES, *place))
    assert fired(folder, 1) == 1
    shutil.copytree(folder, other)
    content = load(other, run_toy.refuse)
    drop(content["state"])
    Saver(other).save(content)
    resume(folder)
    resume(other)
    assert result(folder) == result(undisturbed_pair(base, variant))
    assert result(other)[part] != result(folder)[part]


@pytest.mark.parametrize("save", [1, 2, 3])  # at the ends of epochs at least, and about 0.1 s apart
def test_rank_0_killed_while_it_saves(base, tmp_path, save):
    """The half-written file is passed over and later removed."""
    folder = tmp_path / "run"
    ended = run_ranks(
        *pair_arguments(base, folder, "muon", *SAVES, *fault("kill_in_save", save=save, rank=0)), seconds=SOON
    )
    assert codes(ended) == [KILLED, 1] and fired(folder, 0) == 1
    assert len(list((folder / "checkpoints").glob("*.tmp"))) == 1
    resume(folder)
    assert result(folder) == result(undisturbed_pair(base))
    assert not list((folder / "checkpoints").glob("*.tmp"))


PLACES = [
    {"epoch": 0, "step": 0},
    {"epoch": 0, "step": LAST},
    {"epoch": 0, "batch": 0},  # between training and validation
    {"epoch": 1, "step": 0},  # first step of a new size
    {"epoch": 1, "step": 3},
    {"epoch": 1, "batch": 1},  # during validation
    {"epoch": 2, "step": 0},
]
needs_dali = pytest.mark.skipif(not has_dali(), reason="needs DALI: pip install nvidia-dali-cuda130")


@pytest.mark.parametrize(
    "variant", ["muon", "frozen", "torchvision", "processes", pytest.param("dali", marks=needs_dali)]
)
def test_killed_at_every_position_in_turn(base, tmp_path, variant):
    """One run, killed in seven places, one rank and then the other."""
    folder = tmp_path / "run"
    for place, where in enumerate(PLACES):
        rank = place % 2
        begin = ["--resume", folder] if place else pair_arguments(base, folder, variant, *SAVES)
        ended = run_ranks(*begin, *fault("kill", **where, rank=rank))
        assert ended[rank].code == KILLED and ended[1 - rank].code == 1, (where, ended)
        assert fired(folder, rank) == place // 2 + 1, where
    resume(folder)
    assert result(folder) == result(undisturbed_pair(base, variant))


# stopped


@pytest.mark.parametrize("where", [{"epoch": 1, "step": 2}, {"epoch": 1, "batch": 0}])
def test_sigterm_to_one_rank_stops_both(base, tmp_path, where):
    folder = tmp_path / "run"
    ended = run_ranks(*pair_arguments(base, folder, "muon", *fault("term", **where, rank=1)), seconds=SOON)
    assert codes(ended) == [75, 75] and not any(one.err for one in ended) and fired(folder, 1) == 1
    saved, stop = counters(folder), stop_line(folder)
    assert f"preempted: a signal to another rank after {saved['images_seen']} images" in ended[0].out
    assert (stop["outcome"], stop["epoch"], stop["step"]) == ("preempted", saved["epoch"], saved["step"])
    assert where.get("step", STEPS[1] - 1) < saved["step"] <= STEPS[1]  # the wish goes round every 0.1 s
    resume(folder)
    assert result(folder) == result(undisturbed_pair(base))


def test_sigterm_twice_to_both_ranks(base, tmp_path):
    """The second does not cut the save off."""
    folder = tmp_path / "run"
    ranks = Ranks(*pair_arguments(base, folder, "long"))
    run_toy.wait_for(folder, "epoch", 2)
    ranks.signal(signal.SIGTERM, signal.SIGTERM)
    ended = ranks.wait(SOON)
    assert codes(ended) == [75, 75] and not any(one.err for one in ended)
    stop = stop_line(folder)
    assert (counters(folder)["epoch"], counters(folder)["step"]) == (stop["epoch"], stop["step"])
    resume(folder)
    assert result(folder) == result(undisturbed_pair(base, "long"))


def test_sigterm_during_validation(base, tmp_path):
    """To the rank that does not write the log."""
    folder = tmp_path / "run"
    ranks = Ranks(*pair_arguments(base, folder, "slow validation"))
    run_toy.wait_for(folder, "step", 2)  # the first and the last of epoch 0
    ranks.children[1].signal(signal.SIGTERM)
    assert codes(ranks.wait(SOON)) == [75, 75] and not events(folder, "epoch")
    assert (counters(folder)["epoch"], counters(folder)["step"]) == (0, STEPS[0])
    resume(folder)
    assert result(folder) == result(undisturbed_pair(base, "slow validation"))


def test_a_rank_that_hangs(base, tmp_path):
    """The other waits for --timeout-minutes, and the one that comes back later finds it gone."""
    folder = tmp_path / "run"
    ranks = Ranks(*pair_arguments(base, folder, "long", "--timeout-minutes", "0.25"))
    run_toy.wait_for(folder, "epoch", 2)
    ranks.children[1].signal(signal.SIGSTOP)
    first = ranks.children[0].wait(SOON)
    ranks.children[1].signal(signal.SIGCONT)
    ended = ranks.wait()
    assert codes(ended) == [1, 1] and "another rank is gone without a word" in first.error()
    resume(folder, "--timeout-minutes", "1")
    assert result(folder) == result(undisturbed_pair(base, "long"))


# the disk and the run folder


def test_disk_full_for_rank_0_while_it_saves(base, killed):
    before = counters(killed)
    ended = run_ranks("--resume", killed, limits={0: (resource.RLIMIT_FSIZE, 100_000)}, seconds=SOON)
    assert codes(ended) == [2, 2] and "cannot save the checkpoint (File too large)" in one_line(ended)
    assert counters(killed) == before and stop_line(killed)["exit_code"] == 2
    resume(killed)
    assert result(killed) == result(undisturbed_pair(base))


def test_disk_full_for_the_log(base, killed):
    """A run without a log is void."""
    most = (killed / "run.jsonl").stat().st_size + 100
    ended = run_ranks("--resume", killed, limits={0: (resource.RLIMIT_FSIZE, most)}, seconds=SOON)
    assert codes(ended) == [2, 2] and f"{killed / 'run.jsonl'}: cannot write there (" in one_line(ended)
    resume(killed)
    assert result(killed) == result(undisturbed_pair(base))


def test_two_runs_in_one_folder(base, tmp_path):
    """Started together: exactly one gets the folder."""
    folder = tmp_path / "run"
    both = [Ranks(*pair_arguments(base, folder)) for _ in range(2)]
    ended = sorted((ranks.wait() for ranks in both), key=codes)
    assert [codes(one) for one in ended] == [[2, 2], [3, 3]]
    line = one_line(ended[0])
    assert "another run (process " in line or "holds another run" in line
    assert result(folder) == result(undisturbed_pair(base)) and len(read_run(folder).attempts) == 1


# another run


def test_another_number_of_ranks_is_refused(base, killed):
    ended = run_toy.run("--resume", killed)
    assert ended.code == 2
    assert (
        "world size: 2 in the checkpoint, 1 now (--allow-elastic goes on with the same global batch)" in ended.error()
    )
    ended = run_ranks("--resume", killed, "--allow-elastic", count=3)
    assert codes(ended) == [2, 2, 2]
    words = "the global batch 40 of the phase at epoch 0 does not divide by 3 devices"
    assert all(words in one.err and one.err.count("\n") == 1 for one in ended)  # each before it meets the others
    assert len(events(killed, "start")) == 1


@pytest.mark.parametrize("ranks", [1, 2])
def test_elastic_runs_see_the_same_global_batches(base, killed, tmp_path, ranks):
    """2 -> 1 and 1 -> 2: every step's images, augmentation included, are those of the undisturbed run."""
    folder, now = killed, Recorder(tmp_path / "images")
    if ranks == 2:
        folder = tmp_path / "one"
        arguments = run_toy.toy_arguments(base / "toy", folder, *SAVES, *fault("kill", epoch=1, step=3))
        assert run_toy.run(*arguments).code == KILLED and fired(folder, 0) == 1
    ended = run_ranks("--resume", folder, "--allow-elastic", count=ranks, before=now)
    assert codes(ended) == [3] * ranks
    warning = f"world size: {3 - ranks} in the checkpoint, {ranks} now: the global batches stay the same"
    assert ended[0].err.count("\n") == 1 and warning in ended[0].err
    undisturbed = undisturbed_pair(base)
    expected = Recorder(undisturbed.with_suffix(".images")).images()
    start = (1, events(folder, "start")[1]["resumed_from"]["step"])
    assert start[1] in (2, 3)
    assert now.images() == {place: images for place, images in expected.items() if place >= start}
    for name in ("steps", "images", "images_seen", "global_batch_size", "lr", "momentum"):
        assert [getattr(row, name) for row in read_run(folder).rows] == [
            getattr(row, name) for row in read_run(undisturbed).rows
        ], name


def test_a_later_resume_keeps_the_global_batches_of_an_elastic_one(base, killed):
    """2 -> 1 with the flag, killed again, then 1 -> 1 without it, as a launcher starts it."""
    again = fault("kill", epoch=2, step=1)
    assert codes(run_ranks("--resume", killed, "--allow-elastic", *SAVES, *again, count=1)) == [KILLED]
    assert codes(run_ranks("--resume", killed, count=1)) == [3]
    undisturbed = read_run(undisturbed_pair(base)).rows
    for name in ("steps", "images", "images_seen", "global_batch_size", "lr"):
        assert [getattr(row, name) for row in read_run(killed).rows] == [getattr(row, name) for row in undisturbed]


def test_a_launcher_that_starts_an_ended_run_again_gets_its_exit_code_from_every_rank(base, tmp_path):
    folder = shutil.copytree(undisturbed_pair(base), tmp_path / "run")
    ended = run_ranks(*pair_arguments(base, folder), restarts=1, seconds=SOON)
    assert codes(ended) == [3, 3] and ended[1].err == "" and "Traceback" not in ended[0].err


def test_three_ranks_that_freeze_the_whitening_layer_go_on_to_the_same_bits(base, tmp_path):
    """Of a network with more gradients than DDP's first bucket holds: three ranks add in the order of the buckets."""
    wide = [*PAIRS["frozen"], "--width", "0.75"]
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert codes(run_ranks(*run_toy.toy_arguments(base / "toy", whole, *wide), count=3)) == [3] * 3
    kill = fault("kill", epoch=2, step=1, rank=1)
    command = run_toy.toy_arguments(base / "toy", folder, *wide, *TIMEOUT, *SAVES, *kill)
    assert codes(run_ranks(*command, count=3))[1] == KILLED
    assert codes(run_ranks("--resume", folder, count=3)) == [3] * 3
    assert result(folder) == result(whole)


def test_another_setting_is_refused(killed):
    phases = PAIRS["muon"][1].replace("0.05", "0.1")
    ended = run_ranks("--resume", killed, "--seed", "1", "--phases", phases, seconds=SOON)
    assert codes(ended) == [2, 2]
    line = one_line(ended)
    assert "seed: 0 in the checkpoint, 1 now" in line and "phases: [" in line
    assert line.count(" in the checkpoint, ") == 2 and len(events(killed, "start")) == 1


def test_a_command_that_its_launcher_starts_again_goes_on(base, tmp_path):
    """The same command, without --resume; the fault is only in the first start."""
    folder = tmp_path / "run"
    command = pair_arguments(base, folder, "muon", *SAVES, *fault("kill", epoch=2, step=1, rank=1, attempt=0))
    assert codes(run_ranks(*command)) == [1, KILLED]
    assert codes(run_ranks(*command, restarts=1)) == [3, 3]
    assert fired(folder, 1) == 1 and [a.resumed_from is None for a in read_run(folder).attempts] == [True, False]
    assert result(folder) == result(undisturbed_pair(base))


def test_the_wall_clock_set_back_by_an_hour(base, tmp_path):
    """In mid-run, and again before the resume: hours and seconds go forward, only the labels jump."""
    folder = tmp_path / "run"
    place = fault("kill", epoch=2, step=1, rank=1)
    ended = run_ranks(*pair_arguments(base, folder, "muon", *SAVES, *place), before=ClockSetBack(hours=1, after=8))
    assert codes(ended) == [1, KILLED] and fired(folder, 1) == 1
    assert codes(run_ranks("--resume", folder, before=ClockSetBack(hours=3))) == [3, 3]
    times = [datetime.fromisoformat(event["utc"]) for event in map(json.loads, (folder / "run.jsonl").open())]
    jumps = [(after - before).total_seconds() for before, after in itertools.pairwise(times)]
    assert [round(jump / 3600) for jump in jumps if abs(jump) > 1000] == [-1, -2]
    totals = [row.clock["total"] for row in read_run(folder).rows]
    assert totals == sorted(totals) and 0 < totals[-1] < SECONDS
    hours = [float(line.split("\t")[1]) for line in (folder / "result.tsv").read_text().splitlines()[1:]]
    assert hours == sorted(hours) and 0 < hours[-1] < SECONDS / 3600
    assert events(folder, "start")[1]["resumed_from"]["gap_seconds"] == 0
    assert result(folder) == result(undisturbed_pair(base))


# errors of one rank


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=quick)])
def test_a_picture_that_one_rank_cannot_read(base, tmp_path, rank):
    folder = tmp_path / "run"
    ended = run_ranks(*pair_arguments(base, folder, "muon", *fault("data", epoch=1, step=3, rank=rank)), seconds=SOON)
    assert codes(ended) == [2, 2] and fired(folder, rank) == 1
    assert one_line(ended).startswith("rank 1: train/ring/0001.JPEG" if rank else "train/ring/0001.JPEG")
    assert (stop_line(folder)["outcome"], stop_line(folder)["exit_code"]) == ("crashed", 2)
    assert (counters(folder)["epoch"], counters(folder)["step"]) == (1, 0)
    resume(folder)
    assert result(folder) == result(undisturbed_pair(base))


@pytest.mark.parametrize(("loader", "rank"), [("torchvision", 0), ("processes", 0), ("torchvision", 1)])
def test_no_loader_worker_outlives_a_killed_rank(base, tmp_path, loader, rank):
    folder = tmp_path / "run"
    place = fault("kill", epoch=1, step=2, rank=rank)
    ranks = Ranks(*pair_arguments(base, folder, loader, "--workers", "2", *place))
    run_toy.wait_for(folder, "epoch")
    seen = [len(processes_of(child)) for child in ranks.children]
    ended = ranks.wait(SOON)
    assert sorted(codes(ended)) == [KILLED, 1] and fired(folder, rank) == 1
    run_toy.wait_until(lambda: not any(map(processes_of, ranks.children)), seconds=60)
    assert max(seen) == 3, seen


@pytest.mark.parametrize(
    ("variant", "found"),
    [("long torchvision", "RuntimeError: DataLoader worker (pid"), ("long processes", "loader process ")],
)
def test_a_loader_worker_that_is_killed(base, tmp_path, variant, found):
    folder = tmp_path / "run"
    ranks = Ranks(*pair_arguments(base, folder, variant))
    run_toy.wait_for(folder, "epoch", 2)
    rank = ranks.children[1]
    worker = max(processes_of(rank) - {rank.process.pid})
    os.kill(worker, signal.SIGKILL)
    ended = ranks.wait(SOON)
    assert codes(ended) == [1, 1]
    line = ended[0].error()
    assert line.startswith(f"rank 1: {found}") and str(worker) in line
    assert not any(map(processes_of, ranks.children))
    resume(folder)
    assert result(folder) == result(undisturbed_pair(base, variant))


# numbers and memory


@pytest.mark.parametrize("rank", [0, 1])
def test_a_loss_of_one_rank_that_is_not_finite(base, tmp_path, rank):
    """Both end as diverged and name the step; the last good checkpoint stays."""
    folder = tmp_path / "run"
    ended = run_ranks(
        *pair_arguments(base, folder, "muon", *SAVES, *fault("nan", epoch=1, step=5, rank=rank)), seconds=SOON
    )
    assert codes(ended) == [4, 4] and not any(one.err for one in ended) and fired(folder, rank) == 1
    assert "diverged: the training loss was not finite at epoch 2, step 6" in ended[0].out
    assert (stop_line(folder)["outcome"], stop_line(folder)["exit_code"]) == ("diverged", 4)
    state = load(folder, run_toy.refuse)["state"]
    assert state["counters"]["epoch"] == 1 and state["counters"]["step"] < 6  # saves are about 0.1 s apart
    assert all(sums["bad_step"] == NEVER for sums in state["sums"])
    assert all(torch.isfinite(value.float()).all() for value in state["model"].values())
    assert "has ended (diverged)" in one_line(run_ranks("--resume", folder))


def test_fp16_overflow_is_skipped_by_all_and_counted(base, tmp_path):
    """A dynamic scale: each skipped step halves it, on both ranks."""
    folder, phases = tmp_path / "run", "[{'ep': 0, 'sz': 12, 'bs': 20}, {'ep': (0, 2), 'lr': (100, 100)}]"
    flags = ["--precision", "fp16", "--optimizer", "sgd", "--phases", phases]
    ended = run_ranks(*pair_arguments(base, folder, "muon", *flags, *fault("term", epoch=1, step=4, rank=1)))
    assert codes(ended) == [75, 75] and fired(folder, 1) == 1
    (row,), state = events(folder, "epoch"), load(folder, run_toy.refuse)["state"]
    skipped = [int(sums["skipped"]) for sums in state["sums"]]
    assert skipped[0] == skipped[1] > 0 and row["skipped_steps"] > 0
    assert state["scaler"]["scale"] == 65536 / 2 ** (row["skipped_steps"] + skipped[0])


def test_overflow_with_a_fixed_loss_scale(base, tmp_path):
    """One that some steps fit and some do not; it stays, and the resumed run skips the same steps."""
    folder, flags = tmp_path / "run", ["--precision", "fp16", "--optimizer", "sgd", "--loss-scale", "1468006"]
    ended = run_ranks(*pair_arguments(base, folder, "muon", *flags, *fault("term", epoch=1, step=4, rank=1)))
    assert codes(ended) == [75, 75] and fired(folder, 1) == 1
    (row,), state = events(folder, "epoch"), load(folder, run_toy.refuse)["state"]
    skipped = [int(sums["skipped"]) for sums in state["sums"]]
    assert skipped[0] == skipped[1] and 0 < skipped[0] < 5 and 0 < row["skipped_steps"] < STEPS[0]
    assert state["scaler"]["scale"] == 1468006
    resume(folder)
    assert codes(run_ranks(*pair_arguments(base, tmp_path / "undisturbed", "muon", *flags))) == [3, 3]
    assert result(folder) == result(tmp_path / "undisturbed")


def test_a_phase_that_does_not_fit_into_memory(base, tmp_path):
    """Found before the clock starts; the batch that the line names then runs, under the same limit."""
    prepare_toy(tmp_path / "few", images=120)
    room = MemoryLimit(megabytes=1200)

    def trained(name: str, batch_size: int) -> list[run_toy.Ended]:
        phases = [{"ep": 0, "sz": 12, "bs": 10}, {"ep": 1, "sz": 288, "bs": batch_size, "val_bs": 10}]
        phases.append({"ep": (0, 2), "lr": (0.05, 0.0)})
        flags = ["--phases", repr(phases), "--preflight", "on", "--ema-decay", "0", "--width", "0.03"]
        arguments = pair_arguments(base, tmp_path / name, "sgd", *flags)
        return run_ranks(tmp_path / "few", *arguments[1:], before=room)

    ended = trained("large", 60)
    assert codes(ended) == [2, 2] and not (tmp_path / "large" / "run.jsonl").exists()
    line = one_line(ended)
    assert line.startswith(
        "rank 0: the phase at epoch 1: bs 60 at 288 px does not fit into the memory of cpu. Use 'bs': "
    )
    named = int(line.split("'bs': ")[1].split()[0])
    assert named in (7, 15, 30)
    ended = trained("named", named)
    assert codes(ended) == [3, 3], ended
    assert [row.global_batch_size for row in read_run(tmp_path / "named").rows] == [20, 2 * named]
