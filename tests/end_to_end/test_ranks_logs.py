"""What a run of two ranks leaves behind: one set of logs in the forms of 2018, about all ranks."""

import re
import time

import pytest
from rank_processes import trained, world
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import events, flags

from training.config.parser import config_from
from training.config.schedule import resolved_schedule
from training.distributed.launcher import ranks
from training.engine import trainer
from training.logs.tensorboard import memory
from training.runs.session import opened_job

PHASES = "[{'ep': 0, 'sz': 12, 'bs': 30}, {'ep': 1, 'sz': 16, 'bs': 20}, {'ep': (0, 2), 'lr': (0.1, 0.0)}]"
SEEN = (60, 120, 180, 240, 280, 320, 360, 400, 440, 480)  # images of both ranks after each step
TAGS_2018 = {
    **dict.fromkeys(("first", "sizes/world"), (0,)),
    **dict.fromkeys(("sizes/batch", "sizes/image"), (0, 240)),
    **dict.fromkeys(("sizes/lr", "sizes/momentum"), (60, 240, 280, 480)),
    **dict.fromkeys(("times/step", "times/data", "times/1gpu_images_per_sec", "times/8gpu_images_per_sec"), SEEN),
    **dict.fromkeys(("losses/xent", "losses/train_1", "losses/train_5", "sizes/batch_total"), SEEN),
    **dict.fromkeys(("memory/allocated_gb", "memory/max_allocated_gb"), SEEN),
    **dict.fromkeys(("net/recv_gbit", "net/transmit_gbit"), SEEN),
    **dict.fromkeys(("losses/test_1", "losses/test_5", "times/eval_sec", "epoch"), (240, 480)),
}
ON_A_GPU = {"memory/cached_gb", "memory/max_cached_gb"}  # of an allocator that a CPU does not have
SLEEP = 0.12  # seconds; a third of it is enough for a loader on a slow machine


@pytest.fixture(scope="module")
def two():
    with world(2) as opened:
        yield opened


@pytest.fixture(scope="module")
def run(two, toy, tmp_path_factory):
    """Folder of a run with every log on, and what its ranks showed."""
    folder = tmp_path_factory.mktemp("logs") / "run"
    more = ("--phases", PHASES, "--tensorboard", "--print-freq", "1")
    return folder, two.call(trained, flags(toy, folder, *more))


@pytest.fixture(scope="module")
def scalars(run):
    accumulator = EventAccumulator(str(run[0]), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}


def test_one_rank_writes_and_speaks_for_all(run):
    folder, (first, second) = run
    assert (first.code, second.code) == (0, 0) and first.out and not second.out and not first.err + second.err
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1 and not list(folder.glob("rank*"))
    assert len(list((folder / "checkpoints").glob("*.pt"))) == 2


def test_every_tag_of_2018_is_there_over_the_images_of_all_ranks(scalars):
    assert {tag: tuple(step for step, _ in scalars[tag]) for tag in TAGS_2018} == TAGS_2018
    assert scalars["sizes/world"] == [(0, 2.0)]
    assert scalars["sizes/batch"] == [(0, 30.0), (240, 20.0)]  # of a GPU
    assert [value for _, value in scalars["sizes/batch_total"]] == [60.0] * 4 + [40.0] * 6
    assert all(value >= 0 for tag in TAGS_2018 for _, value in scalars[tag])


@pytest.mark.gpu
def test_the_tags_of_a_gpus_allocator():
    import torch

    from training.distributed.env import Env

    assert memory(Env(torch.device("cuda"))).keys() > ON_A_GPU


def test_images_per_second_are_those_of_a_device_and_of_eight(scalars):
    for (_, one), (_, eight), (_, step), batch in zip(
        *(scalars[f"times/{name}"] for name in ("1gpu_images_per_sec", "8gpu_images_per_sec", "step")),
        [30] * 4 + [20] * 6,
        strict=True,
    ):
        assert (eight, one * step / 1000) == pytest.approx((8 * one, batch), rel=1e-4)


def test_the_text_logs_have_their_lines_once(run, toy):
    text = (run[0] / "verbose.log").read_text()
    assert text.startswith("~~epoch\thours\ttop1\ttop5\n\n")
    assert re.findall(r"^Dataset changed.\nImage size: (\d+)\nBatch size: (\d+)$", text, re.MULTILINE) == [
        ("12", "30"),
        ("16", "20"),
    ]
    places = re.findall(r"^Epoch: \[(\d)\]\[(\d)/(\d)\]\tTime", text, re.MULTILINE)
    assert places == [("0", str(n), "4") for n in range(1, 5)] + [("1", str(n), "6") for n in range(1, 7)]
    assert len(re.findall(r"^~~\d\t\d\.\d{5}\t\t\d+\.\d{3}\t\t\d+\.\d{3}$", text, re.MULTILINE)) == 2


def slept(toy, folder, place: str, rank: int) -> None:
    """A run in which one rank's loader or network takes SLEEP longer at each step."""
    config = config_from(flags(toy, folder, "--phases", PHASES, "--print-freq", "1", "--epochs", "1"))
    with opened_job(config, resolved_schedule(config, 2, print)) as job:
        if ranks().rank == rank and place == "loader":
            job.loader.train = slow(job.loader.train)
        if ranks().rank == rank and place == "network":
            job.state.model.register_forward_hook(lambda *_: time.sleep(SLEEP))
        trainer.fit(job)
        job.loader.close()


def slow(train):
    def later(epoch: int, start: int = 0):
        for batch in train(epoch, start):
            time.sleep(SLEEP)
            yield batch

    return later


@pytest.mark.parametrize(
    ("place", "rank"),
    [
        ("loader", 0),
        pytest.param("loader", 1, marks=pytest.mark.slow),
        pytest.param("network", 0, marks=pytest.mark.slow),
        ("network", 1),
    ],
)
def test_data_time_is_the_wait_for_this_ranks_loader_and_nothing_else(two, toy, tmp_path, place, rank):
    """Neither the network's time nor the wait for another rank, whatever that one waits for."""
    two.call(slept, toy, tmp_path / "run", place, rank)
    lines = events(tmp_path / "run", "step")
    data, whole = ([line[f"times/{name}"] / 1000 for line in lines] for name in ("data", "step"))
    assert min(whole[1:]) > 0.9 * SLEEP and len(lines) == 6
    assert min(data[1:]) > 0.9 * SLEEP if (place, rank) == ("loader", 0) else sorted(data)[1] < SLEEP / 3
