"""The scripts prepare_dawn_*.py: called as in 2018, their tables, and one line for every bad input."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import event_files as ef
import pytest
from tiny_run import events as run_events
from tiny_run import train

from dawn import prepare_dawn_bs, prepare_dawn_is, prepare_dawn_lr, prepare_dawn_tsv, read_run
from dawn.__main__ import main as import_main

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = {"tsv": prepare_dawn_tsv, "bs": prepare_dawn_bs, "is": prepare_dawn_is, "lr": prepare_dawn_lr}
HEADER = "epoch\thours\ttop1Accuracy\ttop5Accuracy"


def output(capsys, script: str, path: Path, *flags: str) -> tuple[list[str], str]:
    """Standard output as lines, and standard error, of a script that must succeed."""
    assert SCRIPTS[script].main([f"--events_path={path}", *flags]) == 0
    out, err = capsys.readouterr()
    return out.splitlines(), err


def refused(capsys, script: str, *argv: object) -> str:
    assert SCRIPTS[script].main([str(arg) for arg in argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err


@pytest.fixture
def run(tmp_path) -> Path:
    return ef.write(tmp_path / "run" / ef.NAME, ef.run_2018())


def test_the_table_of_2018_with_a_header_stops_at_the_target(run, capsys):
    lines, err = output(capsys, "tsv", run)
    rows = [
        f"{i}\t{seconds / 3600!r}\t{top1}\t{top5}" for i, (seconds, _, top1, top5) in enumerate(ef.EPOCHS[:3], start=1)
    ]
    assert lines == [HEADER, *rows] and err == ""
    assert lines[2].split("\t")[1] == "0.05590277777777778"  # all digits of 201.25 s


def test_ignore_eval_takes_the_running_sum_of_evaluation_off(run, capsys):
    lines, _ = output(capsys, "tsv", run, "--ignore-eval")
    sums = (4.0, 8.5, 13.5)
    for line, (seconds, *_), evaluated in zip(lines[1:], ef.EPOCHS, sums, strict=False):
        assert float(line.split("\t")[1]) == pytest.approx((seconds - evaluated) / 3600, rel=1e-15)


def test_other_targets_and_none(run, capsys):
    assert len(output(capsys, "tsv", run, "--metric", "top1", "--target", "70")[0]) == 3
    assert len(output(capsys, "tsv", run, "--target", "66.5")[0]) == 2
    lines, err = output(capsys, "tsv", run, "--metric=top1")
    assert len(lines) == 5 and "94 % top-1 was not reached (best: 76.000 %)" in err and err.count("\n") == 1
    odd = ef.write(run.parent.parent / "odd", ef.run_2018([(10.0, 1.0, 50.0, 93.1)]))
    assert output(capsys, "tsv", odd, "--target", "93.1")[1] == ""  # 93.1 in float32 is below 93.1
    assert "not reached" in output(capsys, "tsv", odd, "--target", "93.102")[1]


def test_an_accuracy_just_below_its_target_is_not_rounded_up_to_it(capsys, tmp_path):
    """93 % was not reached, and the best was said to be 93.000 %."""
    odd = ef.write(tmp_path / "odd", ef.run_2018([(10.0, 1.0, 50.0, 92.9999)]))
    assert "93 % top-5 was not reached (best: 92.9999 %)" in output(capsys, "tsv", odd)[1]


def test_epochs_are_counted_where_they_are_not_told(tmp_path, capsys):
    path = ef.write(tmp_path / "x", ef.run_2018(numbered=False))
    assert [line.split("\t")[0] for line in output(capsys, "tsv", path)[0][1:]] == ["1", "2", "3"]


def test_two_evaluations_with_one_time_stamp_are_two_rows(tmp_path, capsys):
    path = ef.write(tmp_path / "x", ef.run_2018([(100.0, 1.0, 40.0, 60.0), (100.0, 1.0, 50.0, 70.0)]))
    lines, _ = output(capsys, "tsv", path)
    assert [line.split("\t")[2] for line in lines[1:]] == ["40.0", "50.0"]


def test_the_siblings_are_json_lines_with_the_real_number_of_devices(run, capsys):
    batch = [json.loads(line) for line in output(capsys, "bs", run, "--ignore-eval")[0]]
    assert batch == [
        {"batch_size": 1024, "example": 0},
        {"batch_size": 1792, "example": 2 * ef.EPOCH_IMAGES - 100},
    ]
    assert output(capsys, "is", run)[0] == ['{"image_size": 128, "example": 0}']
    rates = [json.loads(line) for line in output(capsys, "lr", run)[0]]
    assert len(rates) == 5 and rates[0]["learning_rate"] == struct.unpack("f", struct.pack("f", 1.9220382))[0]


@pytest.mark.parametrize("cut", [0, 5])
def test_a_resumed_run_is_one_table_and_its_gap_is_told(tmp_path, capsys, cut):
    folder = ef.resumed_2018(tmp_path / "run", cut)
    lines, err = output(capsys, "tsv", folder)
    rows = [line.split("\t") for line in lines[1:]]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert [float(row[1]) * 3600 for row in rows] == pytest.approx([100.5, 201.25, 833.125], rel=1e-15)
    notes = [line for line in err.splitlines() if line.startswith("note: ")]
    assert "the hours hold 500.0 s between the attempts" in notes[-1] and "python -m dawn tsv" in notes[-1]
    assert len(notes) == err.count("\n") == (2 if cut else 1)
    sizes = [json.loads(line)["batch_size"] for line in output(capsys, "bs", folder)[0]]
    assert sizes == [1024, 1792]  # 112 on 16 devices, from the resume on, are 1792 again
    assert output(capsys, "is", folder)[0] == ['{"image_size": 128, "example": 0}']


def test_a_gap_after_the_target_is_not_told(tmp_path, capsys):
    folder = ef.resumed_2018(tmp_path / "run")
    assert output(capsys, "tsv", folder, "--target", "90")[1] == ""


def test_one_file_of_a_resumed_run(tmp_path, capsys):
    """The first alone is told to be one of several; the second alone would give too few hours."""
    first, second = sorted(ef.resumed_2018(tmp_path / "run").iterdir())
    assert "one of 2 event files" in output(capsys, "tsv", first)[1]
    assert "of a resumed run. Give the folder" in refused(capsys, "tsv", "--events_path", second)


def test_a_run_of_ours_agrees_with_its_log(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)  # a slow disk lies between a reading of the clock and its event
    train(toy, tmp_path / "run", "--tensorboard", "--target", "100")
    capsys.readouterr()
    lines, err = output(capsys, "tsv", tmp_path / "run", "--metric", "top1", "--target", "100")
    rows = [line.split("\t") for line in lines[1:]]
    evaluations = read_run(tmp_path / "run").evaluations
    assert [int(row[0]) for row in rows] == [row.epoch + 1 for row in evaluations] and "not reached" in err
    for row, expected in zip(rows, evaluations, strict=True):
        assert float(row[2]) == pytest.approx(expected.validation.percent("top1"), rel=1e-6)
        assert float(row[1]) * 3600 == pytest.approx(expected.clock["total"], abs=0.5)
    phases = run_events(tmp_path / "run", "phase")
    assert [json.loads(line)["batch_size"] for line in output(capsys, "bs", tmp_path / "run")[0]] == [
        phase["global_batch_size"] for phase in phases
    ]


def test_what_does_not_count_is_told_by_the_script_as_by_import(tmp_path, capsys):
    """Two evaluations of an epoch, several values at one step, and top-5 below top-1."""
    step = ef.EPOCH_IMAGES
    again = [ef.event(102, step, "losses/test_1", 97.0), ef.event(102, step, "losses/test_5", 99.0)]
    values = (("losses/test_1", 8.0), ("losses/test_5", 9.0), ("epoch", 0))
    later = [ef.event(103, step + 1, tag, value) for tag, value in values]
    path = ef.write(tmp_path / "x", ef.run_2018([(100.5, 4.0, 60.0, 50.0)]) + again + later)
    lines, err = output(capsys, "tsv", path)
    assert lines[1:] == [f"1\t{100.5 / 3600!r}\t60.0\t50.0"]
    for words in ("losses/test_5 has 2 values at step", "epoch 1 was evaluated again", "top-5 accuracy below top-1"):
        assert words in err
    assert import_main(["import", str(path)]) == 0
    notes = [line.replace("note: x: ", "note: ") for line in capsys.readouterr().err.splitlines()]
    assert notes == err.splitlines()[: len(notes)] and len(notes) == 4


def without(tag: str) -> list:
    return [event for event in ef.run_2018() if event.summary.value[0].tag != tag]


BAD = {
    "no start": ("tsv", without("first"), [], "no event 'first'"),
    "no evaluation": ("tsv", ef.run_2018(()), [], "no evaluation"),
    "half an evaluation": ("tsv", without("losses/test_5"), [], "only one of"),
    "no evaluation time": ("tsv", without("times/eval_sec"), ["--ignore-eval"], "no times/eval_sec"),
    "too much evaluation": ("tsv", ef.run_2018([(9.0, 99.0, 1.0, 2.0)]), ["--ignore-eval"], "more evaluation than"),
    "not a number": ("tsv", ef.run_2018([(9.0, 1.0, float("nan"), 2.0)]), [], "losses/test_1 is nan"),
    "over 100 %": ("tsv", ef.run_2018([(9.0, 1.0, 1.0, 200.0)]), [], "losses/test_5 is 200.0"),
    "time goes back": ("tsv", ef.run_2018([(9.0, 1.0, 1.0, 2.0), (8.0, 1.0, 1.0, 2.0)]), [], "goes back"),
    "endless time": ("tsv", ef.run_2018([(float("inf"), 1.0, 1.0, 2.0)]), [], "goes back"),
    "no devices": ("bs", without("sizes/world"), [], "no sizes/world"),
    "no batch": ("bs", without("sizes/batch"), [], "no batch_size"),
    "no size": ("is", without("sizes/image"), [], "no image_size"),
    "no rate": ("lr", without("sizes/lr"), [], "no learning_rate"),
    "odd target": ("tsv", ef.run_2018(), ["--target", "930"], "--target 930"),
    "no target": ("tsv", ef.run_2018(), ["--target", "nan"], "--target nan"),
    "odd flag": ("lr", ef.run_2018(), ["--target", "93"], "--target"),
}


@pytest.mark.parametrize("case", BAD)
def test_events_without_a_table_are_one_line(tmp_path, capsys, case):
    script, events, flags, words = BAD[case]
    path = ef.write(tmp_path / "x", events)
    assert words in refused(capsys, script, "--events_path", path, *flags)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_damaged_file_gets_no_table(run, capsys, script):
    data = run.read_bytes()
    run.write_bytes(data[:-1])
    assert "is cut off" in refused(capsys, script, "--events_path", run)
    run.write_bytes(data[:200] + bytes([data[200] ^ 4]) + data[201:])
    assert "is corrupt" in refused(capsys, script, "--events_path", run)
    run.write_bytes(b"")
    assert "empty" in refused(capsys, script, "--events_path", run)
    assert "No such file" in refused(capsys, script, "--events_path", "/nowhere/x")
    refused(capsys, script)


@pytest.mark.parametrize(
    "script", ["tsv", *(pytest.param(name, marks=pytest.mark.slow) for name in SCRIPTS if name != "tsv")]
)
def test_by_path_and_as_a_module_from_any_folder(run, tmp_path, capsys, script):
    """And without what is slow to import."""
    expected = output(capsys, script, run)[0]
    path = ROOT / "dawn" / f"prepare_dawn_{script}.py"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command, folder in (
        ([sys.executable, path], tmp_path),
        ([sys.executable, "-P", os.path.relpath(path, tmp_path)], tmp_path),
        ([sys.executable, "-m", f"dawn.prepare_dawn_{script}"], ROOT),
    ):
        done = subprocess.run(
            [*command, f"--events_path={os.path.relpath(run, folder)}"],
            cwd=folder, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.splitlines() == expected and done.stderr == ""


def test_nothing_heavy_is_imported(run):
    code = (
        "import sys; from dawn.prepare_dawn_tsv import main; main(sys.argv[1:]);"
        "sys.exit(bool({'torch', 'tensorflow', 'matplotlib', 'rich', 'pandas'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, f"--events_path={run}"], cwd=ROOT, check=True, capture_output=True)
