"""Every command in four situations: its reader has gone, its output is ASCII, its place is read-only, its disk is full.
None ends in a traceback."""

import argparse
import io
import os
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from dawn_script import scripted_run
from event_files import NAME, run_2018, write
from refusing_places import full_disk, read_only

from data_prep.__main__ import main as data_prep_main
from data_prep.commands import COMMANDS as DATA_PREP
from data_prep.sources.toy import prepare_toy
from dawn.__main__ import COMMANDS as DAWN
from dawn.__main__ import main as dawn_main
from phases.__main__ import main as phases_main
from phases.__main__ import parser as phases_parser
from training.__main__ import SUBCOMMANDS
from training.__main__ import main as training_main

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.stem for path in (ROOT / "dawn").glob("prepare_dawn_*.py"))
MAINS = {"data_prep": data_prep_main, "dawn": dawn_main, "phases": phases_main, "training": training_main}
SMALL = "--device cpu --precision fp32 --phases [{'ep':0,'sz':12,'bs':8},{'ep':(0,1),'lr':0.1}]"


class Case(NamedTuple):
    """words: of a command line, in which {run}, {runs}, {others}, {data}, {events} are what is there and {out} is the
    place that may refuse; code: where nothing refuses; writing: other words for a place that refuses."""

    words: str
    code: int = 0
    writing: str = ""


CASES = {
    "phases list": Case(""),
    "phases show": Case("toy", writing="toy --png {out}/a.png"),
    "dawn tsv": Case("{run} --out {out}/a.tsv"),
    "dawn entry": Case("{run} --out {out}"),
    "dawn summary": Case("{run}"),
    "dawn chart": Case("{run} --out {out}/a.png"),
    "dawn report": Case("{run} --out {out}/a.html"),
    "dawn board": Case("{runs} --task CIFAR10 --out {out}/a.md"),
    "dawn study": Case("{runs} --json {out}/a.json"),
    "dawn compare": Case("{runs} {others} --json {out}/a.json"),
    "dawn import": Case("{run}/run.jsonl --out {out}/a.json"),
    "dawn check": Case("{run}"),
    "dawn cost": Case("{run} --cost-per-hour 3"),
    "dawn mlperf": Case("{run} --out {out}/a.log --org rün", 2),  # of ImageNet only
    "data_prep cifar10": Case("{out}/a --source {data}/none", 2),
    "data_prep toy": Case("{out}/a --images 24"),
    "data_prep coco-toy": Case("{out}/a --images 8"),
    "data_prep coco-collage": Case("{data} {out}/a --images 8"),
    "data_prep imagenet": Case("{data}/a.tar {data}/b.tar {out}/a", 2),
    "data_prep imagenette": Case("{out}/a --source {data}/none", 2),
    "data_prep imagewoof": Case("{out}/a --source {data}/none", 2),
    "data_prep adopt": Case("{out}/a", 2),
    "data_prep resize": Case("{out}/a --sizes 16", 2),
    "data_prep pack": Case("{out}/a", 2),
    "data_prep index-crops": Case("{out}/a", 2),
    "data_prep plan-storage": Case("{data} --sample 2 --sizes 16"),
    "data_prep check": Case("{data} --workers 1"),
    "training": Case(f"{{data}} {SMALL} --dry-run", writing=f"{{data}} {SMALL} --logdir {{out}}/a"),
    "training recipes": Case(""),
    "training flags": Case(""),
    "training demo": Case("--rün", 2),
    "training probe": Case(f"{{data}}/none {SMALL}", 2),
    "training export": Case("{run} --format timm --out {out}/a.pt", 2),
    "training evaluate": Case("{run}", 2),
    "training plan": Case(f"{{data}}/none {SMALL}", 2),
    "training search": Case(f"{{data}}/none {SMALL} --target 90 --budget 1h --logdir {{out}}/a", 2),
    "training suspects": Case("{run}", 2),
    "training detect": Case("{data} --logdir {out}/a", 2),
    "training diagnose": Case("{run}", 2),
    "training.train_imagenet_nv": Case(f"{{data}}/none {SMALL} --logdir {{out}}/a", 2),
    "dawn.prepare_dawn_tsv": Case("--events_path={events}"),
    "dawn.prepare_dawn_bs": Case("--events_path={events}"),
    "dawn.prepare_dawn_is": Case("--events_path={events}"),
    "dawn.prepare_dawn_lr": Case("--events_path={events}"),
}


def commands() -> set[str]:
    """Every command that there is, as the parsers and folders know them."""
    (subparsers,) = (a for a in phases_parser()._actions if isinstance(a, argparse._SubParsersAction))
    tables = {"phases": subparsers.choices, "dawn": DAWN, "data_prep": DATA_PREP, "training": SUBCOMMANDS}
    found = {f"{package} {name}" for package, names in tables.items() for name in names}
    return found | {f"dawn.{name}" for name in SCRIPTS} | {"training", "training.train_imagenet_nv"}


def test_every_command_is_in_the_table():
    assert commands() == CASES.keys()


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Path]:
    """What the commands read, in a folder whose name is not ASCII."""
    base = tmp_path_factory.mktemp("every") / "rün"
    scripted_run(base / "runs" / "a")
    scripted_run(base / "others" / "a", recipe="other", config_hash="cd" * 32)
    prepare_toy(base / "data", 24)
    write(base / "events" / NAME, run_2018())
    return {name: base / name for name in ("runs", "others", "data", "events")} | {"run": base / "runs" / "a"}


def run_words(name: str, words: str, places: dict[str, Path], out: Path) -> list[str]:
    """The module and its arguments."""
    line = name.split()
    for word in words.split():
        for place, path in {**places, "out": out}.items():
            word = word.replace(f"{{{place}}}", str(path))
        line.append(word)
    return line


def run(name: str, words: str, places: dict[str, Path], out: Path) -> int:
    """The exit code of the command in this process."""
    module, *arguments = run_words(name, words, places, out)
    return (MAINS[module] if module in MAINS else import_module(module).main)(arguments)


def ascii_file() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


@pytest.mark.parametrize("name", CASES)
def test_its_reader_has_gone(name, places, tmp_path, monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert run(name, CASES[name].words, places, tmp_path) == CASES[name].code
    assert "Broken pipe" not in capsys.readouterr().err


@pytest.mark.parametrize("name", CASES)
def test_its_output_is_ascii(name, places, tmp_path, monkeypatch):
    streams = ascii_file(), ascii_file()
    for stream, replaced in zip(("stdout", "stderr"), streams, strict=True):
        monkeypatch.setattr(sys, stream, replaced)
    (tmp_path / "rün").mkdir()
    assert run(name, CASES[name].words, places, tmp_path / "rün") == CASES[name].code
    said = "".join(stream.buffer.getvalue().decode("ascii") for stream in streams)
    assert said


def check_refused(name: str, places: dict[str, Path], out: Path, capsys) -> None:
    """One line where it writes there; else it does what it does elsewhere."""
    case = CASES[name]
    words = case.writing or case.words
    code = 2 if "{out}" in words else case.code
    assert run(name, words, places, out) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == (code == 2)


@pytest.mark.parametrize("name", CASES)
def test_its_place_is_read_only(name, places, read_only_place, capsys):
    check_refused(name, places, read_only_place, capsys)


@pytest.mark.parametrize("name", CASES)
def test_its_disk_is_full(name, places, full_place, capsys):
    check_refused(name, places, full_place, capsys)


@pytest.fixture(scope="module")
def read_only_place(tmp_path_factory):
    with read_only(tmp_path_factory.mktemp("refusing") / "read-only") as place:
        yield place


@pytest.fixture(scope="module")
def full_place(tmp_path_factory):
    with full_disk(tmp_path_factory.mktemp("refusing") / "full") as place:
        yield place


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("output", ["closed pipe", "ascii", "closed"])
def test_as_a_process(name, output, places, tmp_path):
    """Also what the interpreter itself says at its end."""
    words = run_words(name, CASES[name].words, places, tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": writer if output == "closed pipe" else subprocess.DEVNULL, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", *words]
    if output == "closed":
        command = ["bash", "-c", f"{shlex.join(command)} >&-"]
    environment = os.environ | ({"PYTHONIOENCODING": "ascii"} if output == "ascii" else {})
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, timeout=600, **streams)
    os.close(writer)
    assert done.returncode == CASES[name].code, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
