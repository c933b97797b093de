"""How two ranks start: what they compare before the first step, and what a rank that waits or is wrong says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rank_processes import Ended, trained, world
from run_toy import free_port
from tiny_run import PHASES, flags

from training.config.parser import config_from
from training.config.schedule import resolved_schedule
from training.distributed.launcher import ranks
from training.runs.session import opened_job

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def two():
    with world(2) as opened:
        yield opened


def differently(arguments: list, of_rank_1: list) -> Ended:
    """`python -m training` with more arguments on rank 1."""
    return trained([*arguments, *(of_rank_1 if ranks().rank else [])])


def refused_on_both(two, toy, folder, of_rank_1: list[str]) -> str:
    first, second = two.call(differently, flags(toy, folder), of_rank_1)
    assert (first.code, second.code) == (2, 2), (first, second)
    assert not folder.exists() and first.err.count("\n") == 1
    return first.err


def test_two_ranks_with_different_schedules_do_not_train_together(two, toy, tmp_path):
    """They did, with exit code 0, and the log knew rank 0's sizes alone."""
    other = PHASES.replace("'sz': 12", "'sz': 8")
    line = refused_on_both(two, toy, tmp_path / "run", ["--phases", other])
    assert line.startswith("error: the ranks were not started alike: schedule entry 1 is ") and "on rank 1" in line
    assert "'sz': 8" in line and "'sz': 12" in line


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--epochs", "1"], "--epochs is 1 on rank 1 and 0 on rank 0"),
        (["--seed", "7", "--momentum", "0.8"], "--seed is 7 on rank 1 and 0 on rank 0 (1 more differ: --momentum)"),
    ],
)
def test_two_ranks_with_different_settings(two, toy, tmp_path, more, words):
    assert words in refused_on_both(two, toy, tmp_path / "run", more)


def copied(toy: Path, place: Path, **changes: str) -> Path:
    """The dataset under another path, perhaps with another manifest."""
    place.mkdir()
    for path in toy.iterdir():
        if path.name != "manifest.json":
            (place / path.name).symlink_to(path)
    manifest = json.loads((toy / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps(manifest | changes))
    return place


def test_two_ranks_with_different_datasets(two, toy, tmp_path):
    """Another manifest under the same name on the second machine."""
    other = copied(toy, tmp_path / "other", sha256="0" * 64)
    first, second = two.call(on_data, flags(toy, tmp_path / "run"), str(other))
    assert (first.code, second.code) == (2, 2) and "dataset DATA is 000000000000 on rank 1" in first.err
    assert first.err.count("\n") == 1 and not (tmp_path / "run").exists()


def test_a_dataset_that_only_the_other_rank_lacks(two, toy, tmp_path):
    """Rank 0 said that its own folder did not exist."""
    first, second = two.call(on_data, flags(toy, tmp_path / "run"), str(tmp_path / "none"))
    assert (first.code, second.code) == (2, 2)
    assert first.err.startswith(f"error: rank 1: no dataset at {tmp_path / 'none'}") and second.err == ""


def on_data(arguments: list, other: str) -> Ended:
    return trained([other if ranks().rank else arguments[0], *arguments[1:]])


def kept_as_given(arguments: list, other: str) -> tuple[str, int]:
    """What of a machine's own a rank trains with."""
    mine = [other, *arguments[1:], "--workers", "1"] if ranks().rank else [*arguments, "--workers", "2"]
    config = config_from(mine)
    with opened_job(config, resolved_schedule(config, 2, print)) as job:
        return job.config.data, job.config.workers


def test_paths_and_workers_may_differ(two, toy, tmp_path):
    """Every rank took those of rank 0."""
    other = str(copied(toy, tmp_path / "other"))
    assert two.call(kept_as_given, flags(toy, tmp_path / "run"), other) == [(str(toy), 2), (other, 1)]


def alone(rank: str, *arguments: str, size: str = "2") -> subprocess.CompletedProcess:
    """One process with the variables of a launcher that is not there."""
    variables = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-m", "training", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("rank", "arguments", "words"),
    [("1", ["/nowhere", "--recipe", "toyy"], "toyy"), ("2", ["/nowhere", "--recipe", "toy"], "rank 2 of 2")],
)
def test_bad_input_of_another_rank_is_said_with_its_number(rank, arguments, words):
    done = alone(rank, *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"rank {rank}: error: ") and words in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_variables_of_a_launcher_that_are_left_over(tmp_path):
    """Ten minutes of silence, with a dataset that does not exist."""
    done = alone("0", str(tmp_path / "nowhere"), "--recipe", "toy")
    assert done.returncode == 2 and "nowhere" in done.stderr.splitlines()[-1]
