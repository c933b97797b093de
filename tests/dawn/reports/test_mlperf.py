"""The MLPerf log: accepted by the checker that mlperf-logging ships, and nothing in it that did not happen."""

import json
import logging
import sys
from pathlib import Path

import pytest
from dawn_script import Script, resumed_run, scripted_run

from dawn.__main__ import main

IMAGENET = {"task": "ImageNet", "metric": "top5", "target": 93.0}
REACHED = ((16667, 33333), None, (37950, 46500), (38000, 46600))  # 75.9 % top-1 in the third epoch
COLD = "cold: dropped before the run"


def imagenet_run(folder: Path, correct=REACHED, **start) -> Path:
    return scripted_run(folder, correct, images=50000, **IMAGENET | {"page_cache": COLD} | start)


def accepted(path: Path) -> bool:
    """By MLPerf's own checker, as its command line calls it."""
    from mlperf_logging.compliance_checker import mlp_compliance

    checker = mlp_compliance.make_checker("training", "4.0.0", quiet=False, werror=True)
    return mlp_compliance.main(str(path), "training_4.0.0/common.yaml", checker)[0]


def events(path: Path) -> list[dict]:
    return [json.loads(line.removeprefix(":::MLLOG ")) for line in path.read_text().splitlines()]


def written(run: Path, *more: str) -> Path:
    out = run / "mlperf.txt"
    assert main(["mlperf", str(run), "--out", str(out), "--org", "An Org", *more]) == 0
    return out


def test_checker_accepts_the_log(tmp_path):
    assert accepted(written(imagenet_run(tmp_path)))


@pytest.mark.parametrize("key", ["run_stop", "init_start", "eval_accuracy", "cache_clear", "submission_org"])
def test_checker_would_refuse_a_log_without(tmp_path, key):
    """The checker is at work: the same log without a line is refused."""
    out = written(imagenet_run(tmp_path))
    out.write_text("".join(line for line in out.open() if f'"{key}"' not in line))
    assert not accepted(out)


def test_log_ends_at_mlperfs_target(tmp_path):
    """75.90 % top-1, not the run's own 93 % top-5; accuracies are shares, epochs count from 1."""
    lines = events(written(imagenet_run(tmp_path)))
    assert [(e["metadata"]["epoch_num"], e["value"]) for e in lines if e["key"] == "eval_accuracy"] == [
        (1, 0.33334),
        (3, 0.759),
    ]
    assert (lines[-1]["key"], lines[-1]["metadata"]["status"]) == ("run_stop", "success")


def test_run_that_missed_is_aborted(tmp_path):
    out = written(imagenet_run(tmp_path, ((37949, 46600), (37000, 46000))))
    assert events(out)[-1]["metadata"]["status"] == "aborted" and accepted(out)


def test_times_are_those_of_the_clock(tmp_path):
    at = {e["key"]: e["time_ms"] for e in events(written(imagenet_run(tmp_path)))}
    total = 0.125 + 2 * 0.5 + 3 * 50 * 0.201 + 2 * 1.5 + 2 * 0.25
    assert at["run_stop"] - at["run_start"] == round(1000 * total)
    assert at["init_stop"] - at["init_start"] == 5750
    times = [e["time_ms"] for e in events(tmp_path / "mlperf.txt")]
    assert times == sorted(times)


@pytest.mark.parametrize("cache", ["unknown: only the sizes", "warm: the hash was checked", "not used"])
def test_cache_clear_only_when_it_was(tmp_path, capsys, cache):
    out = written(imagenet_run(tmp_path, page_cache=cache))
    assert "cache_clear" not in out.read_text() and not accepted(out)
    assert "no cache_clear line" in capsys.readouterr().err


def test_user_may_say_that_the_cache_was_cleared_unless_the_log_says_no(tmp_path, capsys):
    assert accepted(written(imagenet_run(tmp_path / "a", page_cache="unknown"), "--cache-cleared"))
    warm = imagenet_run(tmp_path / "b", page_cache="warm: x")
    assert main(["mlperf", str(warm), "--out", str(tmp_path / "x"), "--org", "O", "--cache-cleared"]) == 2
    assert "the page cache was 'warm: x'" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_same_bytes_from_any_folder_and_nothing_of_this_machine(tmp_path, monkeypatch):
    first = written(imagenet_run(tmp_path / "run")).read_bytes()
    monkeypatch.chdir(tmp_path)
    assert written(tmp_path / "run").read_bytes() == first
    assert {e["metadata"]["file"] for e in events(tmp_path / "run" / "mlperf.txt")} == {"dawn/reports/mlperf.py"}


def refused(capsys, run: Path, org: str = "O") -> str:
    out = run / "mlperf.txt"
    assert main(["mlperf", str(run), "--out", str(out), "--org", org]) == 2 and not out.exists()
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    return err


def test_what_mlperf_has_no_place_for_is_refused(tmp_path, capsys):
    assert "the task is 'CIFAR10'" in refused(capsys, scripted_run(tmp_path / "cifar"))
    resumed = resumed_run(tmp_path / "resumed")
    assert "the task is" in refused(capsys, resumed)
    assert "--org is empty" in refused(capsys, imagenet_run(tmp_path / "org"), " ")
    assert "no evaluation" in refused(capsys, imagenet_run(tmp_path / "early", (None,)))


def test_resumed_run_is_refused(tmp_path, capsys):
    state = Script(tmp_path, **IMAGENET).epoch(0, (5000, 9000))
    went_on = {"epoch": 1, "step": 0, "lost_seconds": 0, "gap_seconds": 1}
    Script(tmp_path, attempt=1, state=state, resumed_from=went_on, **IMAGENET).epoch(1, (9000, 9500))
    assert "the run was resumed" in refused(capsys, tmp_path)


def test_missing_package_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlperf_logging.mllog.mllog", None)
    assert "pip install mlperf-logging" in refused(capsys, imagenet_run(tmp_path))


def test_hostile_names_stay_inside_their_lines(tmp_path):
    hostile = 'a\n:::MLLOG {"key": "run_stop"}\t<script>'
    run = imagenet_run(tmp_path, model=hostile, hardware={"name": hostile})
    before = len(logging.getLogger("mlperf").handlers)
    assert accepted(written(run, "--platform", hostile))
    assert len(logging.getLogger("mlperf").handlers) == before == 0
