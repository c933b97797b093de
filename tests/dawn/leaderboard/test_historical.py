"""DAWNBench's historical results beside the numbers of its repository, of which tests/fixtures/dawnbench has a copy."""

import json
from pathlib import Path

import pytest
from benchmark_scripts import run_script

from dawn.__main__ import main
from dawn.leaderboard.read import historical

ENTRIES = Path(__file__).resolve().parents[2] / "fixtures" / "dawnbench" / "entries.json"
COLUMNS = ("epoch", "hours", "top1Accuracy", "top5Accuracy")


@pytest.fixture
def clone(tmp_path) -> Path:
    """The historical entries in the layout of dawn-bench-entries, each with the one row that reached the target."""
    for entry in json.loads(ENTRIES.read_text()):
        path = tmp_path / "clone" / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        names = [name for name in COLUMNS if name in entry]
        path.write_text("\t".join(names) + "\n" + "\t".join(entry[name] for name in names) + "\n")
        fields = {name: entry[name] for name in ("timestamp", "costPerHour", "hardware") if name in entry}
        path.with_suffix(".json").write_text(json.dumps(fields))
    return tmp_path / "clone"


def test_every_historical_result_is_what_dawn_bench_entries_says(clone, monkeypatch, capfd):
    code, out, _ = run_script(monkeypatch, capfd, "historical.py", clone)
    assert (code, out) == (0, "26 results, 0 values differ\n")


def test_a_value_that_differs_is_named(clone, monkeypatch, capfd):
    place = clone / "ImageNet/train/zte_resnet50_2_machine_tensorflow112.tsv"
    place.write_text(place.read_text().replace("0.386", "0.385"))
    code, out, _ = run_script(monkeypatch, capfd, "historical.py", clone)
    assert code == 1 and out.startswith("zte_resnet50_2_machine_tensorflow112.tsv: seconds 1390.59 is 1386.99\n")
    place.unlink()
    code, _, err = run_script(monkeypatch, capfd, "historical.py", clone)
    assert code == 2 and err.count("\n") == 1 and "there is no such entry" in err


def test_beside_a_clone_nobody_is_listed_twice(clone, capsys):
    assert main(["board", str(clone), "--historical"]) == 0
    out = capsys.readouterr().out
    tasks = [result["task"] for result in historical()]
    for task in ("ImageNet", "CIFAR10"):
        assert f"{task}, time to" in out and f": {tasks.count(task)} entries\n" in out
