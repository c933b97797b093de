"""One reader and one judgement behind `check` and the leaderboard: whatever is in an entry, both say the same of it."""

import json
from pathlib import Path

import pytest

from dawn.__main__ import main
from dawn.dawnbench.check import Verdict, check_entry
from dawn.dawnbench.hours import doubtful_hours, impossible_hours
from dawn.leaderboard.read import Found, read_folder

HEADER = "epoch\thours\ttop1Accuracy\n"
FIELDS = {name: "x" for name in ("author", "authorEmail", "framework", "model", "hardware")}
FIELDS |= {"version": "v1.0", "timestamp": "2018-09-07"}


def judged(folder: Path, table: str | bytes, **fields) -> tuple[Verdict, Found]:
    """What `check` and `board` say of an entry for CIFAR10."""
    place = folder / "CIFAR10" / "train"
    place.mkdir(parents=True)
    (place / "x.json").write_text(json.dumps(FIELDS | fields))
    (place / "x.tsv").write_bytes(table if isinstance(table, bytes) else table.encode())
    return check_entry(place / "x.json", "CIFAR10"), read_folder(folder)


GOOD = {
    "plain": HEADER + "1\t0.5\t90.0\n2\t1.0\t94.5\n",
    "epoch 0 at hour 0": HEADER + "0\t0\t10.0\n1\t1.0\t94.5\n",
    "CR as line ends, as on an old Mac": (HEADER + "1\t0.5\t90.0\n2\t1.0\t94.5\n").replace("\n", "\r"),
    "CR LF": (HEADER + "1\t0.5\t90.0\n2\t1.0\t94.5\n").replace("\n", "\r\n"),
    "byte order mark, other order, blank lines": "\ufeff\nhours\tepoch\ttop1Accuracy\n\n1\t2\t94.5\n\n",
    "two tabs": HEADER + "1\t\t1.0\t\t94.5\n",
}


@pytest.mark.parametrize("table", GOOD.values(), ids=GOOD)
def test_a_table_in_any_form_gives_check_and_board_the_same_time(tmp_path, table):
    verdict, found = judged(tmp_path, table)
    assert verdict.problems == [] and [entry.seconds for entry in found.entries] == [3600.0]
    assert any("reached in epoch" in note and "1 h (3600.0 s)" in note for note in verdict.notes)


BAD = {
    "target at hour 0": (HEADER + "1\t0\t94.5\n2\t1\t95\n", "line 2 stands at 0.0 hours"),
    "negative hours": (HEADER + "1\t-1\t90\n2\t1\t95\n", "line 2: hours are -1, below 0"),
    "hours go back": (HEADER + "1\t2\t90\n2\t1\t95\n", "line 3: hours do not go forward (1 after 2)"),
    "a row twice": (HEADER + "1\t1\t90\n1\t1\t90\n2\t2\t95\n", "line 3: hours do not go forward (1 after 1)"),
    "an unreadable line": (HEADER + "1\tsoon\t90\n2\t1.0\t94.5\n", "line 2 is"),
    "a line cut off": (HEADER + "1\t0.5\n2\t1.0\t94.5\n", "line 2 is"),
    "a form feed for a line end": (HEADER + "1\t0.5\t90\f2\t1.0\t94.5\n", "line 2 is"),
    "no target": (HEADER + "1\t1\t93.99996\n", "not reached, the best is 93.99996 %"),
    "fractions": (HEADER + "1\t1\t0.90\n2\t2\t0.95\n", "shares of 1"),
    "more hours than there have been": (HEADER + "1\t20000\t95\n", "20000 hours, more than the 14760 from the begin"),
    "no column": ("epoch\thours\n1\t1\n", "no column for top-1 accuracy"),
    "no hours": ("epoch\ttop1Accuracy\n1\t95\n", "without one 'epoch' and one 'hours'"),
    "top-5 below top-1": ("epoch\thours\ttop1Accuracy\ttop5Accuracy\n1\t1\t95\t94\n", "top-5 is below top-1"),
    "empty": ("", "the file is empty"),
}


@pytest.mark.parametrize(("table", "reason"), BAD.values(), ids=BAD)
def test_what_check_cannot_derive_a_time_from_is_not_ranked(tmp_path, table, reason):
    verdict, found = judged(tmp_path, table)
    ((_, told),) = found.broken
    assert found.entries == [] and reason in told and any(reason in problem for problem in verdict.problems)
    assert not [note for note in verdict.notes if "reached in epoch" in note or "cost" in note]


@pytest.mark.parametrize("fields", [
    {"costPerHour": None, "codeURL": None, "logFilename": None, "misc": None, "usedBlacklist": None},
    {"misc": "CUDA 8.0, CuDNN 6.0"},
])  # fmt: skip
def test_optional_fields_may_be_absent_null_or_text(tmp_path, fields):
    """As in five published entries with `costPerHour: null`, and one whose `misc` is a text."""
    verdict, found = judged(tmp_path, GOOD["plain"], **fields)
    assert verdict.problems == [] and found.entries[0].dollars is None


@pytest.mark.parametrize(("day", "shown"), [("2018-9-8", "2018-09-08"), (" 2018-09-08 ", "2018-09-08")])
def test_a_day_is_read_as_the_tests_of_dawn_bench_entries_read_it(tmp_path, day, shown):
    verdict, found = judged(tmp_path, GOOD["plain"], timestamp=day)
    assert verdict.problems == [] and found.entries[0].day == shown


@pytest.mark.parametrize("fields", [
    {"timestamp": "2018-09-08T10:00"}, {"author": None}, {"costPerHour": "3"}, {"misc": []}, {"draft": ["no author"]},
])  # fmt: skip
def test_a_rule_that_leaves_the_time_as_it_is_refuses_but_the_board_ranks(tmp_path, fields):
    verdict, found = judged(tmp_path, GOOD["plain"], **fields)
    assert len(verdict.problems) == 1 and [entry.seconds for entry in found.entries] == [3600.0]
    assert any("reached in epoch" in note for note in verdict.notes)


@pytest.mark.parametrize("fields", [
    {"draft": ["author unknown", "a trial: its epochs are cut short"]}, {"misc": {"validationImages": [9999]}},
])  # fmt: skip
def test_an_entry_of_a_trial_or_about_other_images_is_refused_and_not_ranked(tmp_path, fields):
    verdict, found = judged(tmp_path, GOOD["plain"], **fields)
    assert verdict.problems and found.entries == [] and len(found.broken) == 1


@pytest.mark.parametrize(("hours", "words"), [
    ("3600", "line 2 stands at 3600 hours, 150 days; as seconds they would be 1 hours"),
    ("0.00001", "line 2 stands at 0.036 seconds"),
])  # fmt: skip
def test_hours_that_may_be_seconds_are_told_by_check_and_board(tmp_path, hours, words):
    verdict, found = judged(tmp_path, HEADER + f"1\t{hours}\t95.0\n")
    (entry,) = found.entries
    assert verdict.problems == [] and any(words in note for note in verdict.notes) and words in entry.doubts[0]


def test_the_hours_of_dawnbench_are_believed():
    """From 9.43 seconds to the 401 hours of its longest table."""
    assert not any(impossible_hours(hours) or doubtful_hours(hours) for hours in (0.00262, 1.0, 322.7, 401.6))
    assert all(map(impossible_hours, (0, -0.1, 100_001)))


def test_a_file_that_cannot_be_opened_does_not_hide_the_others(tmp_path, capsys):
    judged(tmp_path, GOOD["plain"])
    (tmp_path / "CIFAR10/train/loop.json").write_text("{}")
    (tmp_path / "CIFAR10/train/loop.tsv").symlink_to("/dev/zero")
    assert main(["check", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "1 keep the rules, 1 refused" in out and "loop.tsv: not a file" in out
