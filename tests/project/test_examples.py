"""The examples of docs/python.md and docs/extending.md, taken out of the pages and run in an empty folder."""

import json
import re
import runpy
from pathlib import Path

import pytest

from data_prep import load_manifest
from data_prep.__main__ import main as data_prep_main
from dawn import read_run
from training.__main__ import main

DOCS = Path(__file__).resolve().parents[2] / "docs"
PYTHON = r"```python\n# file: (\S+)\n(.*?)```"
OTHERS = r"<!-- file: (\S+) -->\n```\w+\n(.*?)```"
MACHINE = ["--device", "cpu", "--precision", "fp32", "--threads", "1", "--no-tensorboard", "--no-chart"]


@pytest.fixture
def folder(tmp_path, toy, monkeypatch) -> Path:
    """The current folder: the files of both pages, and data/toy."""
    for page in ("python.md", "extending.md"):
        text = (DOCS / page).read_text()
        for name, content in re.findall(PYTHON, text, re.DOTALL) + re.findall(OTHERS, text, re.DOTALL):
            (tmp_path / name).write_text(content)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "toy").symlink_to(toy)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_of_python_is_a_file():
    for page in ("python.md", "extending.md"):
        text = (DOCS / page).read_text()
        assert len(re.findall(PYTHON, text, re.DOTALL)) == text.count("```python")


@pytest.mark.slow
def test_from_python(folder, capsys):
    names = runpy.run_path("train_toy.py")
    last = names["run"].rows[-1].validation
    assert (names["counts"].correct1, names["counts"].images) == (last.correct1, 60)
    assert f"{last.correct1} of 60 images right" in capsys.readouterr().out


def test_a_run_of_own_parts_alone(folder, capsys):
    """The recipe names the network and the optimizer; the loader comes from the command line."""
    own = ["--recipe", "my_recipe.py:quick_toy", "--loader", "my_loader.py:plain"]
    assert main(["data/toy", *own, *MACHINE, "--logdir", "runs/mine"]) in (0, 3)
    start = json.loads(Path("runs/mine/run.jsonl").read_text().splitlines()[0])
    assert (start["recipe"], start["model"]) == ("quick-toy", "my_model.py:small_net")
    assert {flag: Path(facts["file"]).name for flag, facts in start["own_code"].items()} == {
        "model": "my_model.py",
        "optimizer": "my_optimizer.py",
        "loader": "my_loader.py",
    }
    Path("my_recipe.py").unlink()
    assert main(["--resume", "runs/mine", "--evaluate"]) == 0
    assert main(["export", "runs/mine", "--format", "torch"]) == 0
    report = runpy.run_path("my_report.py")["markdown"]("runs/mine")
    assert f"| 2 | {read_run('runs/mine').rows[1].validation.percent('top1'):.2f} |" in report
    capsys.readouterr()
    Path("my_model.py").write_text(Path("my_model.py").read_text() + "# changed\n")
    assert main(["--resume", "runs/mine", "--evaluate"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{folder / 'my_model.py'} of --model is not the file" in error


def test_own_phases(folder, capsys):
    assert main(["data/toy", "--phases", "my_phases.json", *MACHINE, "--width", "0.125", "--dry-run"]) == 0
    assert "estimate: 480 images" in capsys.readouterr().out.replace(",", "")


def test_an_own_source(folder, capsys):
    runpy.run_path("my_source.py")["write"](Path("data/noise"))
    assert data_prep_main(["adopt", "data/noise"]) == 0
    manifest = load_manifest(Path("data/noise"))
    assert manifest.classes == ("bright", "dark") and manifest.splits["train"].images == 80
