"""Faults of runs that torchrun starts: ranks and the launcher itself killed and stopped, with its own processes and
signals. What needs no launcher is in test_ranks_faults.py."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import run_toy
from run_toy import EVERY_STEP, events, fault, result
from two_ranks import codes, fired, pair_arguments, run_ranks, undisturbed_pair

from dawn import read_run

pytestmark = pytest.mark.faults
SECONDS = 300
FLAGS = ["--checkpoint-minutes", EVERY_STEP]


@pytest.fixture(scope="module")
def base(toy) -> Path:
    run_toy.start_server()
    return toy.parent


class Launcher:
    """`torchrun --nproc-per-node 2 -m training ARGUMENTS` and the processes it starts. What they say goes to a file."""

    def __init__(self, arguments: list[str], folder: Path, *flags: str) -> None:
        self.said = folder.with_suffix(".said")
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *flags]
        with self.said.open("w") as said:
            command = [*torchrun, "-m", "training", *map(str, arguments)]
            self.process = subprocess.Popen(command, stdout=said, stderr=said)

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        for number in self.processes():
            os.kill(number, signal.SIGKILL)

    def wait(self) -> int:
        return self.process.wait(SECONDS)

    def processes(self) -> set[int]:
        """Those that write to the file: launcher, ranks, loader workers."""
        file, found = self.said.stat(), set()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                output = (process / "fd" / "1").stat()
            except OSError:  # gone, or not ours
                continue
            if (output.st_dev, output.st_ino) == (file.st_dev, file.st_ino):
                found.add(int(process.name))
        return found


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_is_started_again_and_the_weights_are_those_of_an_undisturbed_run(base, tmp_path, rank):
    folder = tmp_path / "run"
    command = pair_arguments(base, folder, "sgd", *FLAGS, *fault("kill", epoch=1, step=5, rank=rank, attempt=0))
    with Launcher(command, folder, "--max-restarts", "1") as launcher:
        assert launcher.wait() == 1  # torchrun's word for a last code of 3: the toy run does not reach its target
        assert "exitcode  : 3" in launcher.said.read_text()
    assert fired(folder, rank) == 1
    run = read_run(folder)
    assert [start.world_size for start in run.attempts] == [2, 2] and run.stop.outcome == "finished_without_target"
    assert run.attempts[1].resumed_from.epoch == 1 and run.attempts[1].resumed_from.step <= 5
    assert result(folder) == result(undisturbed_pair(base, "sgd"))


def test_the_launcher_killed_leaves_no_orphans_and_loses_nothing(base, tmp_path):
    """Its ranks get SIGTERM from the system, save and end; the same command with --resume goes on."""
    folder = tmp_path / "run"
    command = pair_arguments(base, folder, "long sgd", *FLAGS)
    with Launcher(command, folder) as launcher:
        run_toy.wait_for(folder, "epoch", 2)
        assert len(launcher.processes()) == 3
        launcher.process.send_signal(signal.SIGKILL)
        assert launcher.wait() == -signal.SIGKILL
        run_toy.wait_until(lambda: not launcher.processes(), seconds=60)
    stop = events(folder, "stop")[0]
    assert (stop["outcome"], stop["exit_code"]) == ("preempted", 75)
    assert codes(run_ranks(*command, "--resume", folder)) == [3, 3]
    assert result(folder) == result(undisturbed_pair(base, "long sgd"))


@pytest.mark.parametrize("signals", [1, 2])
def test_sigterm_to_the_launcher(base, tmp_path, signals):
    """Once, or twice 50 ms apart: the checkpoint is of the step in the log."""
    folder = tmp_path / "run"
    command = pair_arguments(base, folder, "long sgd")
    with Launcher(command, folder) as launcher:
        run_toy.wait_for(folder, "epoch", 2)
        for _ in range(signals):
            launcher.process.send_signal(signal.SIGTERM)
            try:
                launcher.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        assert launcher.wait() != 0
        run_toy.wait_until(lambda: not launcher.processes(), seconds=60)
    (stop,) = events(folder, "stop")
    saved = run_toy.load(folder, run_toy.refuse)["state"]["counters"]
    assert (stop["outcome"], stop["exit_code"]) == ("preempted", 75)
    assert (stop["epoch"], stop["step"]) == (saved["epoch"], saved["step"])
    assert codes(run_ranks("--resume", folder)) == [3, 3]
    assert result(folder) == result(undisturbed_pair(base, "long sgd"))
