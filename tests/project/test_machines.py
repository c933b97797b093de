"""Several "machines": two torchrun agents on this one, and two in network namespaces joined by a virtual cable."""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import run_toy
from rank_processes import trained, world
from run_toy import AVERAGE, EVERY_STEP, QUIET, SMALL, events, fault, free_port, result

from training.distributed.launcher import Ranks
from training.distributed.rendezvous import choose_interface

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 600  # limit of a run, on a slow and busy machine
ADDRESSES = ("10.213.77.1", "10.213.77.2")
HALVES = [{**phase, "bs": phase["bs"] // 2} if "bs" in phase else phase for phase in run_toy.PHASES]

SETTINGS = [*SMALL, *AVERAGE, *QUIET, "--phases", repr(HALVES), "--target", ""]


def agent(number: int, address: str, endpoint: str, folder: Path, data: Path, *more: str) -> list[str]:
    """The command of one machine; number 0 keeps the meeting place."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--local-addr", address, "--max-restarts", "1"]
    meeting += ["--rdzv-conf", f"is_host={int(number == 0)}"]  # else torchrun compares addresses of the host name
    training = ["-m", "training", str(data), *SETTINGS, "--timeout-minutes", "0.5"]
    return [*torchrun, *meeting, *training, "--logdir", str(folder), *more]


def run_both(commands: list[list[str]]) -> list[tuple[int, str]]:
    """Exit status and output of both, neither left behind."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=folder)
        for c, folder in zip(commands, [REPOSITORY] * 2, strict=True)
    ]
    try:
        texts = [process.communicate(timeout=SECONDS)[0] for process in started]
        return [(process.returncode, text) for process, text in zip(started, texts, strict=True)]
    finally:
        for process in started:
            process.kill()
            process.wait()


def on_one_host(data: Path, folder: Path, *more: str) -> list[tuple[int, str]]:
    endpoint = f"127.0.0.1:{free_port()}"
    return run_both([agent(number, "127.0.0.1", endpoint, folder, data, *more) for number in range(2)])


@pytest.fixture(scope="module")
def undisturbed(toy) -> Path:
    """A run of two ranks that nothing happens to, without torchrun."""
    folder = toy.parent / "undisturbed pair"
    with world(2) as two:
        ends = two.call(trained, [str(toy), *SETTINGS, "--logdir", str(folder)])
    assert [end.code for end in ends] == [0, 0]
    return folder


@pytest.fixture
def namespaces() -> Iterator[list[list[str]]]:
    """The beginnings of two commands, each in a network of its own that has one interface, to the other."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    names = [f"dawn-{uuid.uuid4().hex[:6]}" for _ in ADDRESSES]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield [["ip", "netns", "exec", name] for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@pytest.mark.faults
def test_two_agents_make_one_run_in_one_folder(toy, tmp_path, undisturbed):
    ends = on_one_host(toy, tmp_path / "run")
    assert [code for code, _ in ends] == [0, 0], ends
    assert result(tmp_path / "run") == result(undisturbed) and [p.name for p in tmp_path.iterdir()] == ["run"]
    (start,) = events(tmp_path / "run", "start")  # two agents, but one machine with one processor
    assert [start["hardware"][name] for name in ("count", "machines", "processes")] == [1, 1, 2]


@pytest.mark.faults
@pytest.mark.parametrize("rank", [0, 1])
def test_both_machines_go_on_when_a_rank_of_one_is_killed(toy, tmp_path, undisturbed, rank):
    """The other one's torchrun counts no restart: they did not meet again, and did not both go on with the run."""
    run = tmp_path / "run"
    killed = fault("kill", epoch=1, step=3, rank=rank, attempt=0)
    ends = on_one_host(toy, run, "--checkpoint-minutes", EVERY_STEP, *killed)
    assert [code for code, _ in ends] == [0, 0], ends
    assert result(run) == result(undisturbed)
    assert [start["attempt"] for start in events(run, "start")] == [0, 1]
    log = run / f"rank{rank}.jsonl" if rank else run / "run.jsonl"
    assert sum('"event": "fault"' in line for line in log.read_text().splitlines()) == 1


@pytest.mark.slow
def test_two_networks_joined_by_a_cable(namespaces, toy, tmp_path, undisturbed):
    """The name of the host is a loopback address in both."""
    endpoint = f"{ADDRESSES[0]}:29400"
    commands = [
        [*start, *agent(number, ADDRESSES[number], endpoint, tmp_path / "run", toy)]
        for number, start in enumerate(namespaces)
    ]
    ends = run_both(commands)
    assert [code for code, _ in ends] == [0, 0], ends
    assert result(tmp_path / "run") == result(undisturbed)


def inside(start: list[str], program: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [*start, sys.executable, "-c", f"from training.distributed.rendezvous import *; {program}"]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout.strip()


@pytest.mark.slow
def test_the_interface_is_the_one_on_the_way_to_the_meeting_place(namespaces):
    for start in namespaces:
        towards = "print(*map(interface_towards, ['10.213.77.1', '10.213.77.2', '127.0.0.1', '192.0.2.1']))"
        assert inside(start, towards) == "cable cable None None"
        chosen = "choose_interface('tcp://10.213.77.1:5', Ranks(1, 0, 4, 2)); print(os.environ['GLOO_SOCKET_IFNAME'])"
        assert inside(start, chosen) == "cable"


def test_one_machine_and_a_users_choice_are_left_alone(monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    choose_interface("tcp://192.0.2.1:5", Ranks(1, 1, 2, 2))
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    choose_interface("tcp://192.0.2.1:5", Ranks(1, 0, 2, 1))
    assert os.environ["GLOO_SOCKET_IFNAME"] == "ib0"
