"""Curves: each kind of log gives the numbers it holds; anything else is one line."""

import json
import math
import os
import struct
from dataclasses import replace
from pathlib import Path

import event_files as ef
import pytest
from dawn_script import CORRECT, resumed_run, scripted_run

from dawn import read_run
from dawn.__main__ import main
from dawn.dawnbench.tsv import tsv
from dawn.importers.curve import Curve, Point, curve_from_json, curve_json, curve_tsv
from dawn.importers.read import read_curve, read_curves
from dawn.page.page import page_of
from dawn.runlog.writer import RunError
from training.logs.logbook import TextLogs

EVENT_LOG = """~~epoch\thours\ttop1\ttop5

Dataset changed.
Image size: 128
Batch size: 128
Train Directory: data-sz/160/train
Validation Directory: data-sz/160/validation
Changing LR from None to 1.92
~~0\t0.01241\t\t4.248\t\t12.422

Batch size changed: 256
~~1\t0.02056\t\t13.744\t\t31.890

"""
FFCV = [
    {"timestamp": 1.64e9 + t, "relative_time": t, "current_lr": 0.5, "top_1": a, "top_5": b, "val_time": 9.5, **more}
    for t, a, b, more in (
        (180.0, 0.25, 0.5, {"train_loss": 5.5, "epoch": 0}),
        (360.0, 0.625, 0.875, {"train_loss": math.nan, "epoch": 1}),
        (372.0, 0.625, 0.875, {"epoch": 1}),
    )
]
HEAD = "|  run     |  epoch  |  train_loss  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |"
AIRBENCH = "\n".join(
    ["-" * len(HEAD), HEAD, "-" * len(HEAD)]
    + [
        f"|  {run:>6}  |  {epoch:>5}  |  {loss:>10}  |  {acc:>9}  |  {val:>7}  |  {tta:>11}  |  {time:>12}  |"
        for run, epoch, loss, acc, val, tta, time in (
            ("warmup", "0", "2.3", "0.1000", "0.1000", "", "0.9000"),
            ("", "eval", "2.3", "0.1000", "0.1000", "0.1000", "1.0000"),
            ("0", "0", "1.5", "0.5000", "0.6250", "", "0.3600"),
            ("", "1", "1.1", "0.9000", "0.9375", "", "0.7200"),
            ("", "eval", "1.1", "0.9000", "0.9375", "0.9401", "0.7560"),
            ("1", "0", "1.5", "0.5000", "0.5000", "", "0.3600"),
            ("", "eval", "1.1", "0.9000", "0.9375", "0.9390", "0.7560"),
        )
    ]
    + ["-" * len(HEAD), "Mean: 0.9396    Std: 0.0008", ""]
)


def mllog(key: str, ms: float, value: object = None, **metadata: object) -> str:
    fields = {"namespace": "", "time_ms": ms, "event_type": "POINT_IN_TIME", "key": key, "value": value}
    return ":::MLLOG " + json.dumps(fields | {"metadata": {"file": "train.py", "lineno": 7, **metadata}})


MLPERF = [
    mllog("submission_benchmark", 1000, "resnet"),
    mllog("init_start", 1000),
    "0: " + mllog("run_start", 361_000),
    "1: " + mllog("run_start", 361_005),
    "some other output",
    "0: " + mllog("eval_accuracy", 721_000, 0.5, epoch_num=4),
    "1: " + mllog("eval_accuracy", 721_003, 0.5, epoch_num=4),
    "0: " + mllog("eval_accuracy", 1_081_000, 0.7595, epoch_num=8),
    "0: " + mllog("run_stop", 1_081_500, status="success"),
]
TEXTS = {
    "event.log": EVENT_LOG,
    "ffcv": "".join(json.dumps(line) + "\n" for line in FFCV),
    "airbench": AIRBENCH,
    "mllog": "\n".join(MLPERF) + "\n",
    "tsv": "epoch\thours\ttop1Accuracy\ttop5Accuracy\n1\t0.5\t75.5\t92\n1.5\t0.75\t76\t93.5\n",
}
POINTS = {
    "event.log": [Point(1, 0.01241, 4.248, 12.422), Point(2, 0.02056, 13.744, 31.89)],
    "ffcv": [Point(1, 0.05, 25.0, 50.0), Point(2, 0.1, 62.5, 87.5)],
    "airbench": [Point(1, 0.0001, 62.5, None), Point(2, 0.0002, 93.75, None), Point(2, 0.00021, 94.01, None)],
    "mllog": [Point(4, 0.1, 50.0, None), Point(8, 0.2, 75.95, None)],
    "tsv": [Point(1, 0.5, 75.5, 92.0), Point(1.5, 0.75, 76.0, 93.5)],
}


def close(points, expected) -> bool:
    pairs = list(zip(points, expected, strict=True))
    return all(a.percent(m) == pytest.approx(b.percent(m)) for a, b in pairs for m in ("top1", "top5")) and all(
        a.epoch == b.epoch and a.hours == pytest.approx(b.hours, rel=1e-12) for a, b in pairs
    )


@pytest.mark.parametrize("ending", ["", "\r\n"])
@pytest.mark.parametrize("kind", TEXTS)
def test_each_kind_is_known_by_its_content_and_read(tmp_path, kind, ending):
    """Under any name, after other output, with Windows' line ends."""
    path = tmp_path / "any name"
    text = TEXTS[kind] if kind == "tsv" else f"some output first\n{TEXTS[kind]}"
    path.write_bytes((text.replace("\n", ending) if ending else text).encode())
    curve = read_curves(path)[0]
    assert curve.kind == kind and close(curve.points, POINTS[kind])
    assert curve.name == ("any name-0" if kind == "airbench" else "any name") and curve.clock


def test_of_two_evaluations_of_an_epoch_in_a_tsv_the_first_counts(tmp_path):
    (tmp_path / "x.tsv").write_text("epoch\thours\ttop1Accuracy\n1\t0.5\t90\n2\t1\t93\n2\t1.1\t94.5\n3\t2\t94\n")
    curve = read_curve(tmp_path / "x.tsv")
    assert [(p.epoch, p.top1) for p in curve.points] == [(1, 90), (2, 93), (3, 94)]
    assert curve.notes == ("epoch 2 was evaluated again at 1.1 h (94.5 %), the first evaluation counts",)


def test_what_the_hours_count(tmp_path):
    counts = {}
    for kind, text in TEXTS.items():
        (tmp_path / kind).write_text(text)
        curve = read_curves(tmp_path / kind)[0]
        counts[kind] = (curve.counts_evaluation, curve.counts_setup)
    inside = dict.fromkeys(("event.log", "ffcv", "mllog"), (True, False))
    assert counts == inside | {"airbench": (False, False), "tsv": (None, None)}


def test_every_run_of_an_airbench_log_but_the_warm_up(tmp_path):
    (tmp_path / "a.txt").write_text(AIRBENCH)
    curves = read_curves(tmp_path / "a.txt")
    assert [curve.name for curve in curves] == ["a-0", "a-1"]
    assert [curve.points[-1].top1 for curve in curves] == [94.01, 93.9]
    assert all("test-time augmentation" in curve.notes[0] for curve in curves)
    with pytest.raises(RunError, match="holds 2 runs"):
        read_curve(tmp_path / "a.txt")
    (tmp_path / "old.txt").write_text(AIRBENCH.replace("time_seconds", "total_time_seconds"))
    assert [curve.points for curve in read_curves(tmp_path / "old.txt")] == [curve.points for curve in curves]
    (tmp_path / "cut.txt").write_text(AIRBENCH[: AIRBENCH.rindex("\n", 0, AIRBENCH.rindex("eval"))])
    assert "no final evaluation" in read_curves(tmp_path / "cut.txt")[1].notes[0]


def test_two_mlperf_runs_in_one_log(tmp_path):
    aborted = [mllog("run_start", 9_000_000), mllog("eval_accuracy", 9_360_000, 0.25, epoch_num=4)]
    lines = [*MLPERF, *aborted, mllog("run_stop", 9_400_000, status="aborted")]
    (tmp_path / "x").write_text("\n".join(lines))
    first, second = read_curves(tmp_path / "x")
    assert first.points == tuple(POINTS["mllog"]) and close(second.points, [Point(4, 0.1, 25.0, None)])
    assert first.notes == () and "aborted" in second.notes[0]


def test_our_own_event_log_of_a_resumed_run(tmp_path):
    for resume, epochs in ((False, (0, 1, 2)), (True, (2, 3))):
        logs = TextLogs(tmp_path, resume)
        logs.data_phase(128, 64, "a", "b")
        for epoch in epochs:
            logs.epoch(epoch, 0.5 * (epoch + 1), 50 + epoch + 10 * resume, 90.0)
        logs.close()
    curve = read_curve(tmp_path)
    assert [(p.epoch, p.top1) for p in curve.points] == [(1, 50), (2, 51), (3, 62), (4, 63)]
    assert "resumed" in curve.notes[0] and curve.name == tmp_path.name


def test_runs_of_ours_and_event_files(tmp_path):
    folder = scripted_run(tmp_path / "mine")
    curve = read_curve(folder)
    assert curve == read_curve(folder / "run.jsonl") and curve.name == "mine" and curve.kind == "run"
    assert [point.top1 for point in curve.points] == [correct[0] / 100 for correct in CORRECT]
    resumed = read_curve(resumed_run(tmp_path / "resumed"))
    assert [point.epoch for point in resumed.points] == [1, 2, 3, 4, 5]
    events = read_curve(ef.write(tmp_path / "2018" / ef.NAME, ef.run_2018()))
    assert events.kind == "events" and events.name == "2018" and len(events.points) == 4
    assert events.points[2] == Point(3, 333.125 / 3600, 75.5, 93.0) and events.notes == ()
    attempts = read_curve(ef.resumed_2018(tmp_path / "attempts"))
    assert attempts.name == "attempts" and "500.0 s between" in attempts.notes[0]
    renamed = ef.write(tmp_path / "renamed.bin", ef.run_2018())
    assert read_curve(renamed).points == events.points


def test_metrics_and_targets():
    curve = Curve("x", "ffcv", tuple(POINTS["ffcv"]), "")
    assert curve.metrics() == ("top1", "top5") and curve.hit("top5", 87.5).epoch == 2 and curve.hit("top1", 63) is None
    assert replace(curve, points=tuple(POINTS["mllog"])).metrics() == ("top1",)
    assert replace(curve, points=tuple(POINTS["mllog"])).hit("top5", 1) is None


@pytest.mark.parametrize("kind", TEXTS)
def test_json_and_tsv_hold_the_curve(tmp_path, kind):
    (tmp_path / "x").write_text(TEXTS[kind])
    curve = read_curves(tmp_path / "x")[0]
    assert curve_from_json("x", json.loads(curve_json(curve))) == curve
    (tmp_path / "x.curve.json").write_text(curve_json(curve) + "\n")
    (tmp_path / "x.tsv").write_text(curve_tsv(curve))
    assert read_curve(tmp_path / "x.curve.json") == curve
    looks = curve.points[:-1] if kind == "airbench" else curve.points  # its last epoch, with and without TTA
    assert read_curve(tmp_path / "x.tsv").points == looks


def test_our_own_tsv_is_a_curve(tmp_path):
    run = read_run(scripted_run(tmp_path / "run"))
    (tmp_path / "result.tsv").write_text(tsv(run))
    assert close(read_curve(tmp_path / "result.tsv").points, [
        Point(row.epoch + 1, round(run.hours(row), 10), row.validation.percent("top1"), None)
        for row in run.evaluations
    ])  # fmt: skip


@pytest.mark.parametrize("kind", ["event.log", "ffcv", "mllog", "airbench"])
def test_a_last_line_that_is_cut_off_is_left_out_and_told(tmp_path, kind):
    """Anywhere in it; a point is there whole or not at all."""
    last = {"airbench": "\n-", "mllog": "\n0: "}.get(kind, "\n\n")  # what follows the last line with a point
    text = TEXTS[kind][: TEXTS[kind].rindex(last)] if last in TEXTS[kind] else TEXTS[kind].rstrip()
    begin = text.rindex("\n") + 1
    path = tmp_path / "x"
    path.write_text(text + "\n")
    whole = [curve.points for curve in read_curves(path)]
    for end in range(begin + 12, len(text)):
        path.write_text(text[:end])
        curves = read_curves(path)
        points = [curve.points for curve in curves]
        assert points != whole or kind == "ffcv"  # its last line is the second evaluation of an epoch
        assert all(set(a) <= set(b) for a, b in zip(points, whole, strict=True))
        assert any(curve.notes for curve in curves)


BAD = {
    "empty": (b"", "the file is empty"),
    "binary": (b"\1\2\0\0\0\0x" * 9, "neither text nor"),
    "program": (b"\x7fELF\0\0\0\0" * 9 + b"x", "a program"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0", "a picture"),
    "prose": (b"Dear Sir or Madam,\nI write to you\n", "of no kind that is known"),
    "line": (b"x" * 1_100_000, "too many for a log"),
    "deep json": (b"[" * 100_000, "of no kind that is known"),
    "deep object": (b'{"curve":' * 50_000, "of no kind that is known"),
    "event.log row": (EVENT_LOG.replace("0.02056", "soon").encode(), "line 12: not a row"),
    "event.log back": (EVENT_LOG.replace("0.02056", "0.01").encode(), "evaluation 2: the hours go back"),
    "event.log 200 %": (EVENT_LOG.replace("31.890", "200.000").encode(), "evaluation 2: 'top5' is 200.0"),
    "event.log none": (EVENT_LOG[:100].encode(), "holds no evaluation"),
    "ffcv percent": (TEXTS["ffcv"].replace("0.625", "62.5").encode(), "line 2: 'top_1' is 62.5"),
    "ffcv nan": (TEXTS["ffcv"].replace("0.625", "NaN").encode(), "line 2: 'top_1' is nan"),
    "ffcv endless": (TEXTS["ffcv"].replace("360.0", "1e999", 2).encode(), "line 2: 'relative_time' is inf"),
    "ffcv no epoch": (TEXTS["ffcv"].replace('"epoch"', '"ep"').encode(), "line 1: 'epoch' is missing"),
    "ffcv broken": (TEXTS["ffcv"].replace('{"timestamp": 1640000360.0', "{", 1).encode(), "line 2: not JSON"),
    "mllog no start": ("\n".join(MLPERF[4:]).encode(), "line 2: eval_accuracy before run_start"),
    "mllog nothing": (MLPERF[0].encode(), "no run_start"),
    "mllog other": (TEXTS["mllog"].replace('"resnet"', '"bert"').encode(), "the benchmark is 'bert'"),
    "mllog list": (TEXTS["mllog"].replace("0.7595", "[1]").encode(), "line 8: 'value' is [1]"),
    "mllog no epoch": (TEXTS["mllog"].replace("epoch_num", "x").encode(), "'epoch_num' is missing"),
    "mllog digits": (TEXTS["mllog"].replace("0.7595", "9" * 5000).encode(), "line 8: not JSON"),
    "mllog back": (TEXTS["mllog"].replace("1081000", "400000").encode(), "evaluation 2: the hours go back"),
    "airbench cells": (AIRBENCH.replace("0.9375", "0.9375 | 1", 1).encode(), "line 7: not the 7 cells"),
    "airbench percent": (AIRBENCH.replace("0.9375", "93.75", 1).encode(), "line 7: an accuracy of 93.75"),
    "airbench words": (AIRBENCH.replace("0.9375", "better", 1).encode(), "line 7: 'better' is not a number"),
    "airbench no time": (AIRBENCH.replace("time_seconds", "clock").encode(), "no column time_seconds"),
    "airbench warm-up": ("\n".join(AIRBENCH.splitlines()[:5]).encode(), "no run in the table but the warm-up"),
    "tsv columns": (TEXTS["tsv"].replace("\t92", "").encode(), "line 2: '1\\t0.5\\t75.5' has not the 4 columns"),
    "tsv words": (TEXTS["tsv"].replace("0.75", "later").encode(), "line 3: 'later' is not a number"),
    "tsv alone": (b"epoch\thours\ttop1Accuracy\n", "holds no evaluation"),
    "own": (b'{"curve": 2, "points": []}\n', "'curve' is 2"),
    "own points": (b'{"curve": 1, "points": [3]}\n', "point 1 is 3"),
    "own text": (b'{"curve": 1, "points": [], "notes": [], "name": 7}\n', "'counts_evaluation' is missing"),
    "events": (struct.pack("<QI", 40, 0) + b"\0" * 40 + b"x", "neither text nor"),
}


def test_a_tsv_is_not_written_with_a_column_that_a_row_lacks(tmp_path, capsys):
    (tmp_path / "x.csv").write_text("epoch,hours,acc5\n1,0.5,80\n2,1,90\n")
    flags = ["--columns", "epoch=epoch,hours=hours,top5=acc5", "--out"]
    assert main(["import", str(tmp_path / "x.csv"), *flags, str(tmp_path / "x.tsv")]) == 2
    assert "x: no top1Accuracy at epoch 1" in capsys.readouterr().err and not (tmp_path / "x.tsv").exists()
    assert main(["import", str(tmp_path / "x.csv"), *flags, str(tmp_path / "x.json")]) == 0


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_line(tmp_path, capsys, case):
    data, words = BAD[case]
    (tmp_path / "x").write_bytes(data)
    assert main(["import", str(tmp_path / "x"), "--out", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and words in err and len(err) < 600
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_damaged_event_file_gets_its_verdict(tmp_path, capsys):
    path = ef.write(tmp_path / "renamed", ef.run_2018())
    path.write_bytes(path.read_bytes()[:-5])
    assert main(["import", str(path)]) == 2 and "is cut off" in capsys.readouterr().err


def test_places_that_are_no_log(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, words in (("none", "No such file"), ("pipe", "not a file"), ("folder", "no log of a run in this folder")):
        assert main(["import", str(tmp_path / name)]) == 2
        assert words in capsys.readouterr().err


def test_import_prints_or_writes(tmp_path, capsys):
    for kind, text in TEXTS.items():
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "log").write_text(text)
    files = [str(tmp_path / kind / "log") for kind in TEXTS]
    assert main(["import", *files]) == 0
    out, err = capsys.readouterr()
    curves = [curve_from_json("x", json.loads(line)) for line in out.splitlines()]
    assert [curve.name for curve in curves] == ["event.log", "ffcv", "airbench-0", "airbench-1", "mllog", "tsv"]
    assert "note: ffcv: epoch 2 was evaluated again" in err
    (tmp_path / "out").mkdir()
    assert main(["import", *files, files[0], "--out", str(tmp_path / "out")]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [read_curve(path) for path in written] == [*curves, curves[0]]
    assert written[0].name == "event.log.curve.json" and written[-1].name == "event.log-2.curve.json"
    assert main(["import", files[1], "--out", str(tmp_path / "x.tsv")]) == 0
    assert read_curve(tmp_path / "x.tsv").points == curves[1].points
    (tmp_path / "all.jsonl").write_text(out)
    assert read_curves(tmp_path / "all.jsonl") == curves


@pytest.mark.parametrize("out", ["none", "log", "none/x.tsv"])
def test_bad_place_is_one_line(tmp_path, capsys, out):
    (tmp_path / "log").write_text(TEXTS["tsv"])
    assert main(["import", str(tmp_path / "log"), "--out", str(tmp_path / out)]) == 2
    assert str(tmp_path / out) in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_name_cannot_leave_the_folder(tmp_path, capsys):
    curve = Curve("../../etc/x\n\x1b[31m", "ffcv", tuple(POINTS["ffcv"]), "")
    (tmp_path / "a").write_text(curve_json(curve))
    (tmp_path / "out").mkdir()
    assert main(["import", str(tmp_path / "a"), "--out", str(tmp_path / "out")]) == 0
    (written,) = (tmp_path / "out").iterdir()
    assert written.name == "etc_x_31m.curve.json" and read_curve(written).name == "../../etc/x??[31m"


def test_two_curves_for_one_file(tmp_path, capsys):
    (tmp_path / "log").write_text(AIRBENCH)
    assert main(["import", str(tmp_path / "log"), "--out", str(tmp_path / "x.json")]) == 2
    assert "one file for 2 runs" in capsys.readouterr().err


PUBLISHED = {
    "byte order mark": "\ufeffepoch\thours\ttop1Accuracy\n1\t0.5\t75.5\n",
    "hours first": "hours\tepoch\ttop1Accuracy\ttop5Accuracy\n0.5\t1\t75.5\t92\n",
    "CR LF and spaces": "epoch \thours\t top1accuracy\r\n1 \t0.5\t 75.5\r\n",
    "two tabs": "epoch\t\thours\ttop1Accuracy\n1\t\t0.5\t75.5\n",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_tsv_as_it_was_published_is_read(tmp_path, name):
    """Four entries of DAWNBench have hours before epoch, one has a byte order mark. A page reads them with it too."""
    (tmp_path / "x.tsv").write_text(PUBLISHED[name], encoding="utf-8", newline="")
    (point,) = read_curve(tmp_path / "x.tsv").points
    assert (point.epoch, point.hours, point.top1) == (1, 0.5, 75.5)


def test_a_page_tells_the_notes_of_what_stands_beside_the_runs(tmp_path):
    (tmp_path / "x.tsv").write_text("\ufeffhours\tepoch\ttop1Accuracy\ttop5Accuracy\n0.5\t1\t92\t75.5\n")
    page = page_of([scripted_run(tmp_path / "run")], beside=[tmp_path / "x.tsv"]).decode()
    assert "1 evaluation with a top-5 accuracy below top-1" in page and "0.500000" in page


def test_of_a_folder_with_only_empty_event_files_the_other_log_is_read(tmp_path):
    (tmp_path / ef.NAME).touch()
    with pytest.raises(RunError, match="the file is empty"):
        read_curve(tmp_path)
    (tmp_path / "event.log").write_text(EVENT_LOG)
    assert read_curve(tmp_path).kind == "event.log"
