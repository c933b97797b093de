"""Work on a Ray cluster: the bytes of a local run, whatever is lost meanwhile, and clusters that are refused."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from picture_tree import jpeg, make_tree, tree_hash
from refusals import refused

from data_prep import DataError
from data_prep.__main__ import main
from data_prep.engines import on_ray
from data_prep.engines.local import Local
from data_prep.trees.adopt import adopt
from data_prep.trees.journal import RECORD
from data_prep.trees.jpegtran import jpegtran_version
from data_prep.trees.pack import pack_tree
from data_prep.trees.resize import resize_tree

REPOSITORY = Path(__file__).parents[3]
SIZES = ["--sizes", "16", "48"]
MINUTES = 5


def test_without_ray_the_line_says_how_to_install_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for command in (["resize", *SIZES], ["pack"], ["check"], ["index-crops"]):
        line = refused(capsys, main, [command[0], str(tmp_path / "photos"), *command[1:], "--engine", "ray"])
        assert "Ray is not installed" in line and "pip install" in line
    assert not list(tmp_path.iterdir())


def test_an_engine_that_does_not_exist(tmp_path, capsys):
    assert "'spark'" in refused(capsys, main, ["pack", str(tmp_path), "--engine", "spark"])


@pytest.mark.parametrize("name", ["pack", "plan-storage"])
def test_an_object_store_is_no_folder(name, capsys):
    """The slashes were folded: `s3:/bucket/photos: there is no such folder`."""
    line = refused(capsys, main, [name, "s3://bucket/photos"])
    assert "s3://bucket/photos is no folder. Only" in line and "aws s3 sync s3://bucket/photos FOLDER" in line


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "no Ray cluster answers there"),
        ("127.0.0.1:99999", "no Ray cluster answers there"),
        ("a..b:6379", "no Ray cluster answers there"),
        ("127.0.0.1", "give HOST:PORT"),
        (":6379", "give HOST:PORT"),
        ("ray://127.0.0.1:10001", "give HOST:PORT"),
    ],
)
def test_an_address_that_nobody_answers(address, words):
    with pytest.raises(DataError, match=f"RAY_ADDRESS={address}: {words}"):
        on_ray._reachable(address)


@pytest.mark.parametrize(
    ("answer", "words"), [(b"", "timed out"), (b"HTTP/1.1 400 Bad Request\r\n", "another service")]
)
def test_a_port_of_another_service(answer, words, monkeypatch):
    """Ray waited for it for more than five minutes."""
    monkeypatch.setattr(on_ray, "REACHED_IN", 0.5)
    with service(answer) as address, pytest.raises(DataError, match=rf"no Ray cluster answers there \({words}\)"):
        on_ray._reachable(address)


def test_a_named_cluster_that_refuses_is_no_reason_to_start_another(monkeypatch):
    asked = []

    def init(address, **_):
        asked.append(address)
        raise ConnectionError("refused")

    ray = SimpleNamespace(init=init, exceptions=SimpleNamespace(RayError=RuntimeError))
    with service(b"\0\0", b"\0\4") as address:  # in two pieces, as a network may bring it
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(DataError, match=f"no connection to the Ray cluster {address}: refused"):
            on_ray._connect(ray, 1)
    assert asked == [address]


@contextmanager
def service(*answers: bytes):
    """The address of a port that takes one connection, sends `answers` and holds it open."""

    def serve() -> socket.socket:
        link, _ = server.accept()
        for answer in answers:
            link.sendall(answer)
            time.sleep(0.1)
        return link

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        server.settimeout(10)
        taken = pool.submit(serve)
        yield f"127.0.0.1:{server.getsockname()[1]}"
        taken.result().close()


def test_a_machine_is_asked_for_the_folder_above_one_that_is_still_to_be_made(tmp_path):
    """`--to /new/folder/photos` was refused: /new/folder is `not there on the machine`."""
    assert on_ray._nearest(str(tmp_path / "new" / "folder")) == on_ray._nearest(str(tmp_path)) == str(tmp_path)
    assert on_ray._nearest("/no/such/folder") == "/"


def test_a_machine_must_have_the_same_packages_and_the_same_disk():
    here = on_ray._facts_function()()
    assert here["data_prep"].startswith("of code ") and here["simplejpeg"]
    on_ray._compare("10.0.0.2", here, here)
    with pytest.raises(DataError, match=r"10.0.0.2 has data_prep not at all, this one of code .* Install the same"):
        on_ray._compare("10.0.0.2", here, here | {"data_prep": ""})
    with pytest.raises(DataError, match=r"10.0.0.2 has simplejpeg 1.0, this one "):
        on_ray._compare("10.0.0.2", here, here | {"simplejpeg": "1.0"})
    with pytest.raises(DataError, match=r"^/data/a: not there on the machine 10.0.0.2. Mount the same disk"):
        on_ray._compare("10.0.0.2", {"/data/a": "there"}, {"/data/a": ""})


@pytest.fixture(scope="module")
def ray():
    return pytest.importorskip("ray")


@pytest.fixture(scope="module")
def whole(ray, tmp_path_factory):
    """An indexed tree of pictures that take a while, and the hash of its copies of a local run."""
    root = tmp_path_factory.mktemp("whole") / "photos"
    make_tree(root, train=1, validation=1)
    for number in range(90):
        path = root / "train" / ("ant", "bee", "cow")[number % 3] / f"large{number}.JPEG"
        path.write_bytes(jpeg(2000 + number, 1500, seed=number))
    adopt(root)
    resize_tree(root, [16, 48], Local(2))
    return root, tree_hash(Path(f"{root}-sz"))


@pytest.fixture
def tree(whole, tmp_path):
    return Path(shutil.copytree(whole[0], tmp_path / "photos"))


@contextmanager
def command(tree: Path, *arguments: str, address: str = "local", folder: Path = REPOSITORY):
    """A command on Ray that runs; on a new cluster of two workers, or on the one at `address`."""
    line = [sys.executable, "-m", "data_prep", arguments[0], str(tree), *arguments[1:], "--engine", "ray"]
    line += ["--workers", "2"] if address == "local" else []
    environment = os.environ | {"RAY_ADDRESS": address, "PYTHONPATH": str(REPOSITORY)}
    running = subprocess.Popen(
        line, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def ended(running: subprocess.Popen) -> str:
    """Standard error of a command that succeeds."""
    _, told = running.communicate(timeout=60 * MINUTES)
    assert running.returncode == 0, told
    return told


def run(tree: Path, *arguments: str) -> None:
    with command(tree, *arguments) as running:
        ended(running)


def copies(tree: Path) -> list[Path]:
    return list(Path(f"{tree}-sz").glob("48/*/*/*.JPEG"))


def until_some_are_made(tree: Path, running: subprocess.Popen) -> None:
    until(lambda: len(copies(tree)) >= 8, running)


def until(is_so: Callable[[], bool], running: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60 * MINUTES
    while not is_so():
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def workers_of(process: int) -> list[int]:
    """The processes below `process` that run our tasks."""
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(path.name)] = (path / "cmdline").read_text()
        except OSError:  # it has ended
            continue
    below, found = {process}, []
    while new := {child for child, parent in parents.items() if parent in below} - below:
        below |= new
        found += [child for child in new if names.get(child, "").startswith("ray::_run_chunk")]
    return found


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_the_bytes_are_those_of_a_local_run(tree, whole, tmp_path):
    run(tree, "resize", *SIZES)
    assert tree_hash(Path(f"{tree}-sz")) == whole[1]
    local = Path(shutil.copytree(Path(f"{tree}-sz/48"), tmp_path / "local-48"))
    pack_tree(local, Local(1))
    run(Path(f"{tree}-sz/48"), "pack")
    assert tree_hash(Path(f"{tree}-sz/48")) == tree_hash(local)
    run(tree, "check")


@pytest.mark.slow
def test_copies_in_a_folder_that_is_still_to_be_made(tree, whole, tmp_path):
    with command(tree, "resize", *SIZES, "--to", str(tmp_path / "new" / "folder" / "photos")) as running:
        ended(running)
    assert tree_hash(tmp_path / "new" / "folder" / "photos-sz") == whole[1]


def need_jpegtran() -> None:
    try:
        jpegtran_version()
    except DataError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_crops_are_those_of_a_local_run(ray, tmp_path):
    need_jpegtran()
    one, two = (make_tree(tmp_path / name / "photos", train=8) for name in ("one", "two"))
    adopt(one), adopt(two)
    assert main(["index-crops", str(one), "--workers", "1"]) == 0
    run(two, "index-crops")
    assert tree_hash(Path(f"{one}-crops")) == tree_hash(Path(f"{two}-crops"))


@pytest.mark.slow
def test_killed_workers_are_replaced(tree, whole):
    with command(tree, "resize", *SIZES) as running:
        until_some_are_made(tree, running)
        kill_workers(running)
        assert not Path(f"{tree}-sz/48/manifest.json").exists()
        ended(running)
    assert tree_hash(Path(f"{tree}-sz")) == whole[1]


def kill_workers(running: subprocess.Popen) -> None:
    until(lambda: bool(workers_of(running.pid)), running)
    for process in workers_of(running.pid):
        os.kill(process, signal.SIGKILL)
    assert running.poll() is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "made", "where"),
    [
        ("index-crops", "photos-crops", "train/*/large*.JPEG"),
        ("pack", "photos", ".partial/pack/train.pixels.bin"),
    ],
)
def test_killed_workers_of_other_commands_are_replaced(tree, tmp_path, name, made, where):
    if name == "index-crops":
        need_jpegtran()
    for path in tree.glob("train/*/large[2-8]?.JPEG"):  # 0.2 GB of pixels are left
        path.unlink()
    adopt(tree, again=True)
    local = Path(shutil.copytree(tree, tmp_path / "local" / "photos"))
    assert main([name, str(local), "--workers", "2"]) == 0
    with command(tree, name) as running:
        until(lambda: any((tmp_path / made).glob(where)), running)
        kill_workers(running)
        ended(running)
    assert tree_hash(tmp_path / made) == tree_hash(local.with_name(made))


@pytest.mark.slow
def test_a_killed_command_goes_on_and_makes_nothing_twice(tree, whole):
    journal = Path(f"{tree}-sz/48/.partial/1-of-1/copies.journal")
    with command(tree, "resize", *SIZES) as running:
        until_some_are_made(tree, running)
        while not journal.stat().st_size:
            time.sleep(0.01)
        running.kill()
        running.wait()
    assert not Path(f"{tree}-sz/48/manifest.json").exists()
    made = {path: path.stat().st_mtime_ns for path in copies(tree)}
    recorded = journal.stat().st_size // RECORD.itemsize
    run(tree, "resize", *SIZES)
    unchanged = sum(path.stat().st_mtime_ns == when for path, when in made.items())
    assert unchanged >= recorded > 0 and tree_hash(Path(f"{tree}-sz")) == whole[1]


@pytest.mark.slow
def test_a_named_cluster_that_cannot_be_joined_is_no_reason_to_start_another(tree):
    """A new cluster of this machine alone was started in silence."""
    with socket.create_server(("127.0.0.1", 0)) as no_cluster:
        address = f"127.0.0.1:{no_cluster.getsockname()[1]}"
        with command(tree, "resize", *SIZES, address=address) as running:
            out, told = running.communicate(timeout=60 * MINUTES)
    assert (running.returncode, out) == (2, "") and not Path(f"{tree}-sz").exists()
    assert told.splitlines()[-1].startswith(f"error: RAY_ADDRESS={address}: no Ray cluster answers there (timed out)")


@pytest.mark.slow
def test_a_file_that_changed_and_a_folder_that_is_there_are_one_line(tree):
    path = tree / "train/bee/large1.JPEG"
    path.write_bytes(path.read_bytes() + b"more")
    with command(tree, "resize", *SIZES) as running:
        _, told = running.communicate(timeout=60 * MINUTES)
    assert running.returncode == 2 and told.splitlines()[-1].startswith(f"error: {path} has ") and "Trace" not in told
    assert not Path(f"{tree}-sz/48/manifest.json").exists()
    shutil.rmtree(f"{tree}-sz/48")
    Path(f"{tree}-sz/48").write_text("")
    with command(tree, "resize", *SIZES) as running:
        _, told = running.communicate(timeout=60 * MINUTES)
    assert running.returncode == 2 and "a file is in the way" in told and told.count("\n") == 1


@pytest.mark.slow
def test_ctrl_c_ends_the_command_and_its_cluster(tree, whole, handler):
    with command(tree, "resize", *SIZES) as running:
        until_some_are_made(tree, running)
        workers = workers_of(running.pid)
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=60 * MINUTES)
        assert running.returncode == 130 and told.splitlines()[-1].startswith("interrupted"), told
    deadline = time.monotonic() + 24 * MINUTES
    while any(map(runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers and not any(map(runs, workers))
    run(tree, "resize", *SIZES)
    assert tree_hash(Path(f"{tree}-sz")) == whole[1]


@pytest.fixture
def cluster(ray):
    """A head without CPUs, and a function that adds a machine with one."""
    from ray.cluster_utils import Cluster

    environment = {"PYTHONPATH": str(REPOSITORY), "RAY_USAGE_STATS_ENABLED": "0"}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes.grow = lambda **more: nodes.add_node(num_cpus=1, env_vars=environment | more)
    yield nodes
    nodes.shutdown()


@pytest.mark.slow
def test_a_lost_machine_is_done_without(tree, whole, cluster):
    lost, _ = cluster.grow(), cluster.grow()
    with command(tree, "resize", *SIZES, address=cluster.address) as running:
        until_some_are_made(tree, running)
        cluster.remove_node(lost, allow_graceful=False)
        assert not Path(f"{tree}-sz/48/manifest.json").exists()
        ended(running)
    assert tree_hash(Path(f"{tree}-sz")) == whole[1]


@pytest.mark.slow
def test_clusters_with_other_packages_or_versions_are_refused(tree, cluster, ray, tmp_path):
    stub = tmp_path / "other/data_prep/__init__.py"
    stub.parent.mkdir(parents=True)
    stub.write_text("")
    cluster.grow(PYTHONPATH=str(tmp_path / "other"))
    with command(tree, "resize", *SIZES, address=cluster.address, folder=tmp_path) as running:
        out, told = running.communicate(timeout=60 * MINUTES)
    assert (running.returncode, out, told.count("\n")) == (2, "", 1), told
    assert "has data_prep of code " in told and "Install the same on every machine" in told

    versions = json.dumps({"ray_version": "2.1.0", "python_version": "3.8.1"}).encode()
    client = ray._raylet.GcsClient(address=cluster.address)
    client.internal_kv_put(b"CLUSTER_METADATA", versions, True, b"cluster")
    with command(tree, "resize", *SIZES, address=cluster.address) as running:
        out, told = running.communicate(timeout=60 * MINUTES)
    assert (running.returncode, out, told.count("\n")) == (2, "", 1), told
    assert "Version mismatch" in told and "2.1.0" in told
    assert not Path(f"{tree}-sz").exists()
