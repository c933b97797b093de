"""Tables of timm, W&B and anybody: by the names of their columns, with hours from the table or from the user."""

import pytest

from dawn.__main__ import main
from dawn.importers.options import Options, options_of
from dawn.importers.read import read_curve
from dawn.runlog.writer import RunError

TIMM = """epoch,train_loss,eval_loss,eval_top1,eval_top5,lr
0,6.85080099105835,6.6424625,0.8720000042724609,3.3400000009155275,0.001
1,6.17962772505624,4.606329375,14.981999956054688,33.540000026855466,0.001
2,5.6329280989510675,3.661601875,28.136000048828127,52.41000006835937,0.001
"""
WANDB = """,_step,_runtime,_timestamp,epoch,train/loss,val/top1,val/top5
0,0,2.5,1.7e9,0,6.9,,
1,1,360.0,1.7e9,0,,25.5,50.5
2,2,700.0,1.7e9,1,5.1,NaN,NaN
3,3,720.0,1.7e9,1,,61.25,85.0
"""


def read(tmp_path, text: str, columns: str = "", hours_per_epoch: float | None = None):
    (tmp_path / "table.csv").write_text(text)
    return read_curve(tmp_path / "table.csv", options_of(columns, hours_per_epoch))


def rows(curve) -> list[tuple]:
    return [(point.epoch, point.hours, point.top1, point.top5) for point in curve.points]


def test_summary_csv_of_timm_with_the_hours_of_an_epoch(tmp_path):
    curve = read(tmp_path, TIMM, hours_per_epoch=0.5)
    assert curve.kind == "timm" and "0.5 hours an epoch, as given by" in curve.clock and curve.notes == ()
    assert rows(curve)[::2] == [
        (1, 0.5, 0.8720000042724609, 3.3400000009155275),
        (3, 1.5, 28.136000048828127, 52.41000006835937),
    ]


def test_where_the_hours_are_not_in_the_log_that_is_said(tmp_path):
    with pytest.raises(RunError, match=r"holds no times.*--hours-per-epoch HOURS.*--columns hours=NAME"):
        read(tmp_path, TIMM)
    with pytest.raises(RunError, match="tells its times itself"):
        read(tmp_path, WANDB, hours_per_epoch=1.0)


def test_a_resumed_run_of_timm_writes_its_header_again(tmp_path):
    head, *lines = TIMM.splitlines()
    again = [head, lines[1].replace("14.98", "15.98"), lines[2]]
    curve = read(tmp_path, "\n".join([head, *lines[:3], *again]) + "\n", hours_per_epoch=0.5)
    assert [(p.epoch, round(p.top1, 2)) for p in curve.points] == [(1, 0.87), (2, 15.98), (3, 28.14)]
    assert len(curve.notes) == 1 and "resumed" in curve.notes[0]


def test_of_two_rows_of_an_epoch_the_first_counts(tmp_path):
    curve = read(tmp_path, "epoch,hours,top1\n1,0.5,60\n2,1.0,70\n2,1.1,94.5\n")
    assert rows(curve) == [(1, 0.5, 60, None), (2, 1.0, 70, None)] and "94.5 %" in curve.notes[0]


def test_the_history_of_wandb(tmp_path):
    curve = read(tmp_path, WANDB)
    assert curve.kind == "wandb" and rows(curve) == [(1, 0.1, 25.5, 50.5), (2, 0.2, 61.25, 85.0)]
    assert curve.notes == (
        "1 row with 'NaN' for an accuracy, the first is line 4: it was left out",
        "its epochs count from 0: 1 was added",
    )


def test_a_chart_of_wandb_with_fractions_and_without_epochs(tmp_path):
    head = '"Relative Time (Process)","bold-sun-7 - val/acc","bold-sun-7 - val/acc__MIN","bold-sun-7 - val/acc__MAX"'
    curve = read(tmp_path, f"{head}\n36,0.255,0.255,0.255\n72,0.939,0.939,0.939\n")
    assert rows(curve) == [(1, 0.01, 25.5, None), (2, 0.02, 93.9, None)] and len(curve.notes) == 2
    with pytest.raises(RunError, match=r"more than one column for top1: 'a - val/acc', 'b - val/acc'"):
        read(tmp_path, "Relative Time (Process),a - val/acc,b - val/acc\n36,0.2,0.3\n")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_any_table_by_the_names_of_its_columns(tmp_path, delimiter):
    text = "made with love\nwhen (s),round,dev acc,top five\n1800,1,71.5%,90\n3600,2,76.5 %,93.5\n"
    curve = read(tmp_path, text.replace(",", delimiter), "epoch=round,seconds=when (s),top1=dev acc,top5=top five")
    assert rows(curve) == [(1, 0.5, 71.5, 90.0), (2, 1.0, 76.5, 93.5)] and curve.kind == "csv"


def test_decimal_commas_of_a_spreadsheet(tmp_path):
    curve = read(tmp_path, "epoch;hours;top1;top5\n1;0,25;71,5;90,25\n2;0,5;76,5;93,5\n")
    assert rows(curve) == [(1, 0.25, 71.5, 90.25), (2, 0.5, 76.5, 93.5)]


BAD = {
    "epoch": "'epoch' is not ROLE=NAME",
    "top2=x": "'top2=x' is not ROLE=NAME",
    "epoch=a,epoch=b,top1=c": "'epoch' is given twice",
    "epoch=a": "no accuracy",
    "hours=a,seconds=b,top1=c": "both hours and seconds",
    "epoch=epoch,top1=best": "no line with the columns 'epoch', 'best'",
    "epoch=epoch,top1=twice": "two columns 'twice'",
    "epoch=epoch,top1=words": "'good' is not a number",
}


@pytest.mark.parametrize("columns", BAD)
def test_bad_columns_are_one_line(tmp_path, capsys, columns):
    (tmp_path / "x.csv").write_text("epoch,twice,twice,words\n1,2,3,good\n")
    assert main(["import", str(tmp_path / "x.csv"), "--columns", columns, "--hours-per-epoch", "1"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and BAD[columns] in err and err.count("\n") == 1


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf"])
def test_bad_hours_per_epoch_are_one_line(tmp_path, capsys, hours):
    (tmp_path / "x.csv").write_text(TIMM)
    assert main(["import", str(tmp_path / "x.csv"), "--hours-per-epoch", hours]) == 2
    assert "--hours-per-epoch" in capsys.readouterr().err


def test_a_negative_time_and_swapped_columns_are_told_in_plain_words(tmp_path):
    with pytest.raises(RunError, match=r"evaluation 1: stands at -0.5 hours, before the start of its clock"):
        read(tmp_path, "epoch,hours,top1\n1,-0.5,60\n")
    curve = read(tmp_path, "epoch,hours,top1,top5\n1,0.5,90,60\n2,1,93.5,76\n")
    assert "2 evaluations with a top-5 accuracy below top-1, first in epoch 1 (60 % and 90 %)" in curve.notes[0]


def test_an_accuracy_that_is_nan_is_told(tmp_path):
    curve = read(tmp_path, "epoch,hours,top1,top5\n1,0.5,50,nan\n2,1,nan,None\n3,1.5,60,90\n4,2,,\n")
    assert rows(curve) == [(1, 0.5, 50, None), (3, 1.5, 60, 90)]
    assert curve.notes == ("2 rows with 'nan' for an accuracy, the first is line 2: it was left out",)


def test_an_evaluation_without_a_time_is_told(tmp_path):
    curve = read(tmp_path, "epoch,hours,top1\n1,0.5,50\n2,,60\n3,1.5,70\n")
    assert [point.hours for point in curve.points] == [0.5, 0.5, 1.5]
    assert curve.notes == ("1 evaluation without a time, the first in line 3: the last time above was taken",)


UNKNOWN = {  # header -> what is told, and a flag with which it is read
    "epoch,time,acc": (
        "known as an accuracy of the validation: 'epoch', 'time', 'acc'",
        "epoch=epoch,seconds=time,top1=acc",
    ),
    "epoch,time,top1": ("column 'time' does not tell its unit", "epoch=epoch,seconds=time,top1=top1"),
    "epoch,hours,accuracy": ("known as an accuracy of the validation", "epoch=epoch,hours=hours,top1=accuracy"),
    "round,wall time,top5": ("known as an epoch, hours or seconds", "'epoch=NAME,seconds=wall time,top5=top5'"),
}


@pytest.mark.parametrize("header", UNKNOWN)
def test_a_header_that_is_not_understood_names_what_is_missing(tmp_path, capsys, header):
    (tmp_path / "x.csv").write_text(f"{header}\n1,10,50\n")
    assert main(["import", str(tmp_path / "x.csv")]) == 2
    said, (words, flag) = capsys.readouterr().err, UNKNOWN[header]
    assert said.count("\n") == 1 and "x.csv, line 1: " in said and words in said and f"--columns {flag}." in said
    columns = flag.strip("'").replace("NAME", "round")
    assert read_curve(tmp_path / "x.csv", options_of(columns, None)).points[0].epoch == 1


def test_seconds_and_top5_are_known_names(tmp_path):
    assert rows(read(tmp_path, "epoch,seconds,top5\n1,36,50\n")) == [(1, 0.01, None, 50)]


def test_hours_that_are_seconds_are_told(tmp_path):
    assert "150 days" in read(tmp_path, "epoch,hours,top1\n1,3600,60\n").notes[0]
    with pytest.raises(RunError, match="more than 100000"):
        read(tmp_path, "epoch,hours,top1\n1,360000,60\n")


def test_hours_are_no_matter_of_a_log_that_has_them():
    assert Options(hours_per_epoch=2.0).hours_at(1.5, "x") == 3.0
