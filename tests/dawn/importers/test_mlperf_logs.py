"""MLPerf logs of every version: each run from its own start to its stop, and nothing left out without a word."""

import json

import pytest

from dawn.importers.curve import Point
from dawn.importers.read import read_curve, read_curves
from dawn.runlog.writer import RunError

BEGIN = 1_560_000_000.0  # seconds since 1970


def mllog(key: str, seconds: float, value: object = None, unit: float = 1000, **metadata: object) -> str:
    fields = {"namespace": "", "time_ms": (BEGIN + seconds) * unit, "event_type": "POINT_IN_TIME", "key": key}
    return ":::MLLOG " + json.dumps(fields | {"value": value, "metadata": {"lineno": 7, **metadata}})


TIMES = (0, 60, 120, 121)  # of the records of a run


def run(at: float = 0.0, unit: float = 1000) -> list[str]:
    return [
        mllog("run_start", at, unit=unit),
        mllog("eval_accuracy", at + 60, 0.5, unit, epoch_num=4),
        mllog("eval_accuracy", at + 120, 0.76, unit, epoch_num=8),
        mllog("run_stop", at + 121, unit=unit, status="success"),
    ]


POINTS = (Point(4, 60 / 3600, 50.0, None), Point(8, 120 / 3600, 76.0, None))


def curves(tmp_path, lines: list[str]) -> list:
    (tmp_path / "x").write_text("\n".join(lines) + "\n")
    return read_curves(tmp_path / "x")


def close(curve) -> bool:
    return [(p.epoch, p.top1) for p in curve.points] == [(p.epoch, p.top1) for p in POINTS] and [
        p.hours for p in curve.points
    ] == pytest.approx([p.hours for p in POINTS], rel=1e-5)


@pytest.mark.parametrize("lost", [[], [mllog("eval_accuracy", 900, 0.5, epoch_num=4)]])
def test_a_killed_run_and_an_hour_later_a_whole_one(tmp_path, lost):
    found = curves(tmp_path, [mllog("run_start", 0), *lost, mllog("init_start", 3590), *run(3600)])
    assert close(found[-1]) and len(found) == 1 + len(lost)
    assert lost or found[0].notes == (f"the run_start in {tmp_path}/x, line 1 has no evaluation: left out",)


def test_a_run_that_is_started_again_within_seconds_is_told_by_its_initialisation(tmp_path):
    (curve,) = curves(tmp_path, [mllog("run_start", 0), mllog("init_start", 4), *run(8)])
    assert close(curve)


def test_the_logs_of_two_processes_one_after_the_other_are_one_run(tmp_path):
    (curve,) = curves(tmp_path, [mllog("init_start", -9), *run(), mllog("init_start", -9), *run(0.25)])
    assert close(curve) and curve.notes == ()


def test_two_records_on_one_line(tmp_path):
    lines = run()
    (curve,) = curves(tmp_path, [lines[0] + lines[1], *lines[2:]])
    assert close(curve) and curve.notes == ()
    (curve,) = curves(tmp_path, [lines[0], lines[1], lines[2][:60] + lines[2], lines[3]])
    assert close(curve) and "a record in line 3 is cut off" in curve.notes[0]


def test_nothing_after_the_stop_counts(tmp_path):
    (curve,) = curves(tmp_path, [*run(), mllog("eval_accuracy", 500, 0.99, epoch_num=12)])
    assert close(curve) and "1 evaluation after run_stop" in curve.notes[0] and "99 %" in curve.notes[0]


def test_epochs_that_stay_the_same_are_counted(tmp_path):
    (curve,) = curves(tmp_path, [line.replace('"epoch_num": 8', '"epoch_num": 4') for line in run()])
    assert [point.epoch for point in curve.points] == [1, 2] and "all 2 evaluations say epoch 4" in curve.notes[0]


def test_an_epoch_again_and_an_epoch_that_falls_are_told(tmp_path):
    more = [(180, 0.9, 8), (240, 0.91, 6), (300, 0.92, 12)]
    lines = run()[:-1] + [mllog("eval_accuracy", t, value, epoch_num=epoch) for t, value, epoch in more]
    (curve,) = curves(tmp_path, lines)
    assert [point.epoch for point in curve.points] == [4, 8, 12]
    assert "epoch 8 was evaluated again" in curve.notes[0] and "goes back from 8 to 6" in curve.notes[1]


@pytest.mark.parametrize(("unit", "words"), [(1, "in seconds"), (1e6, "in microseconds")])
def test_a_clock_that_is_not_in_milliseconds_is_told(tmp_path, unit, words):
    (curve,) = curves(tmp_path, run(unit=unit))
    assert close(curve) and len(curve.notes) == 1 and words in curve.notes[0]
    relative = [line.replace(str((BEGIN + t) * 1000), f"{t}.0") for line, t in zip(run(), TIMES, strict=True)]
    (curve,) = curves(tmp_path, relative)
    assert any("See whether time_ms is in milliseconds" in note for note in curve.notes)


def test_the_lines_of_0_5(tmp_path):
    def line(seconds: float, rest: str) -> str:
        return f":::MLPv0.5.0 resnet {BEGIN + seconds:.9f} (main.py:42) {rest}"

    lines = [
        ":::MLPv0.5.0 resnet 0000000000 (empty:0) run_clear_caches",
        line(0, "run_start"),
        line(0, "input_order"),
        line(1, "train_epoch: 0"),
        line(60, 'eval_accuracy: {"epoch": 3, "value": 0.5}'),
        line(120, 'eval_accuracy: {"epoch": 7, "value": 0.76}'),
        line(121, 'run_stop: {"success": true}'),
    ]
    (curve,) = curves(tmp_path, lines)
    assert close(curve) and curve.notes == ()
    (curve,) = curves(tmp_path, [text.replace("true", "false") for text in lines])
    assert curve.notes == ("run_stop says status 'aborted'",)
    with pytest.raises(RunError, match="the benchmark is 'ssd'"):
        curves(tmp_path, [text.replace("resnet", "ssd") for text in lines])


def test_the_lines_of_0_6(tmp_path):
    def line(seconds: float, key: str, value: object = None, **metadata: object) -> str:
        fields = json.dumps({"value": value, "metadata": {"lineno": 77, "file": "main.py", **metadata}})
        return f":::MLL {BEGIN + seconds:.3f} {key}: {fields}"

    lines = [
        line(-9, "submission_benchmark", "resnet"),
        line(0, "run_start"),
        line(60, "eval_accuracy", 0.5, epoch_num=4),
        line(120, "eval_accuracy", 0.76, epoch_num=8),
        line(121, "run_stop", status="success"),
    ]
    (curve,) = curves(tmp_path, ["Beginning trial 1 of 1", *lines])
    assert close(curve) and curve.notes == ()
    (tmp_path / "cut").write_text("\n".join(lines)[:-20])
    assert close(read_curve(tmp_path / "cut"))
    with pytest.raises(RunError, match="the benchmark is 'minigo'"):
        curves(tmp_path, [text.replace('"resnet"', '"minigo"') for text in lines])
