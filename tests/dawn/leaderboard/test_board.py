"""Board: entries as they are in the wild, ranks recomputed from the TSVs, hostile texts, and what is refused."""

import html.parser
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dawn_sets import MISSED, seed_run
from refusals import dawn_refused as refused

from dawn.__main__ import main
from dawn.leaderboard.board import board, board_html, board_markdown, board_tables, ordinal, standing
from dawn.leaderboard.entry import BOARDS, EntryError, read_entry
from dawn.leaderboard.read import historical, historical_entries, read_folder, run_entry
from dawn.report import write_reports
from dawn.tables import plain_table

ROOT = Path(__file__).resolve().parents[3]
HEADER = "epoch\thours\ttop1Accuracy"
DESCRIPTION = {"version": "v1.0", "author": "A", "model": "net", "hardware": "1 GPU", "timestamp": "2018-04-20"}


def put(folder: Path, name: str, rows: str, header: str = HEADER, text: str | None = None, **fields) -> Path:
    """A TSV with its JSON; text: that instead of JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.tsv").write_text(f"{header}\n{rows}")
    (folder / f"{name}.json").write_text(text or json.dumps(DESCRIPTION | {"author": name} | fields))
    return folder / f"{name}.tsv"


def clone(folder: Path) -> Path:
    """Forms that are in dawn-bench-entries, with small numbers."""
    cifar, imagenet = folder / "CIFAR10" / "train", folder / "ImageNet" / "train"
    put(cifar, "plain", "1\t0.5\t93.99\n2\t1.0\t94.0\n3\t1.5\t93.0\n", costPerHour=3.06)
    put(cifar, "from zero, no last newline", "0\t0\t10\n1\t0.25\t94.1", costPerHour=0.9, misc="a text")
    put(cifar, "unordered columns", "0.75\t95\t1\n", "hours\ttop1Accuracy\tepoch", timestamp="April 2018")
    put(cifar, "two tabs, half an epoch", "0.5\t\t0.125\t\t94.04000012397766\n\n", timestamp=None, costPerHour="3")
    both = HEADER + "\ttop5Accuracy"
    put(imagenet, "epoch twice", "17\t1.0\t70\t92.99\n18\t1.5\t70\t93.00\n18\t1.6\t70\t92.9\n", both, model=["x"])
    put(imagenet, "tie", "9\t1.5\t70\t93.18\n", both, costPerHour=float("nan"))
    (folder / "ImageNet" / "inference").mkdir()
    (folder / "ImageNet" / "inference" / "fast.json").write_text(json.dumps(DESCRIPTION | {"latency": 1.0}))
    (folder / ".git").mkdir()
    (folder / ".git" / "x.tsv").write_text("nonsense")
    return folder


def test_a_clone_is_read_whatever_its_form(tmp_path):
    found = read_folder(clone(tmp_path))
    assert found.broken == []
    by_name = {entry.name: entry for entry in found.entries}
    assert {name: entry.seconds / 3600 for name, entry in by_name.items()} == {
        "plain": 1.0,
        "from zero, no last newline": 0.25,
        "unordered columns": 0.75,
        "two tabs, half an epoch": 0.125,
        "epoch twice": 1.5,
        "tie": 1.5,
    }
    assert by_name["plain"].dollars == 3.06 and by_name["plain"].epoch == "2" and by_name["plain"].day == "2018-04-20"
    assert by_name["two tabs, half an epoch"].epoch == "0.5" and by_name["epoch twice"].task == "ImageNet"
    unpriced = ("unordered columns", "two tabs, half an epoch", "tie")
    assert all(by_name[name].dollars is None for name in unpriced)
    assert by_name["unordered columns"].day == by_name["two tabs, half an epoch"].day == ""
    assert by_name["epoch twice"].model == ""


def test_ranks_by_time_and_cost(tmp_path):
    entries = read_folder(clone(tmp_path)).entries
    by_time = [(rank, entry.name) for rank, entry in board(entries, "CIFAR10", "time").ranked]
    assert [rank for rank, _ in by_time] == [1, 2, 3, 4] and by_time[0][1].startswith("two tabs")
    cheap = board(entries, "CIFAR10", "cost")
    assert [(rank, entry.dollars) for rank, entry in cheap.ranked] == [(1, 0.225), (2, 3.06)]
    assert len(cheap.unranked) == 2
    assert [rank for rank, _ in board(entries, "ImageNet", "time").ranked] == [1, 1]  # equal times share a rank


BROKEN = {
    "never": (f"{HEADER}\n1\t1\t93.99\n", "target 94 % top-1: not reached, the best is 93.99 %"),
    "fraction": (f"{HEADER}\n1\t1\t0.95\n", "shares of 1"),
    "back": (f"{HEADER}\n1\t2\t90\n2\t1\t95\n", "line 3: hours do not go forward (1 after 2)"),
    "word": (f"{HEADER}\n1\tsoon\t95\n", "'soon', '95']: hours is no number"),
    "negative": (f"{HEADER}\n1\t-1\t95\n", "line 2: hours are -1, below 0"),
    "infinite": (f"{HEADER}\n1\tinf\t95\n", "'inf', '95']: hours is no number"),
    "many": (f"{HEADER}\n1\t1\t101\n", "line 2: an accuracy is not from 0 to 100"),
    "cells": (f"{HEADER}\n1\t1\n", "line 2 is ['1', '1'], not 3 numbers"),
    "header": ("1\t1\t95\n", "without one 'epoch'"),
    "twice": ("hours\thours\tepoch\n1\t1\t95\n", "without one 'epoch'"),
    "column": ("epoch\thours\ttop5Accuracy\n1\t1\t95\n", "no column for top-1"),
    "empty": ("", "empty"),
    "only header": (HEADER, "no rows"),
    "at once": (f"{HEADER}\n1\t0\t95\n", "line 2 stands at 0.0 hours"),
    "second look": (f"{HEADER}\n1\t1\t93\n1\t2\t95\n", "93 %; line 3: epoch 1 was evaluated again, the first"),
}


def test_a_target_first_hit_at_a_second_look_at_an_epoch_is_ranked_by_the_next_epoch_and_told(tmp_path):
    put(tmp_path / "CIFAR10", "x", "1\t1\t93\n1\t2\t95\n2\t3\t96\n")
    (entry,) = read_folder(tmp_path).entries
    assert entry.seconds == 3 * 3600
    assert entry.doubts == ("line 3: epoch 1 was evaluated again, the first evaluation counts",)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_tsv_is_listed_with_its_reason(tmp_path, name):
    path = put(tmp_path / "CIFAR10", name, "")
    path.write_text(BROKEN[name][0])
    found = read_folder(tmp_path)
    ((place, reason),) = found.broken
    assert found.entries == [] and place == str(path) and BROKEN[name][1] in reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "cannot be read"), ("[]", "is no object"), ("[" * 100_000, "cannot be read"), ("9" * 5000, "cannot be read"),
     ("", "")],
)  # fmt: skip
def test_broken_json_is_listed_with_its_reason(tmp_path, text, reason):
    path = put(tmp_path / "CIFAR10", "x", "1\t1\t95\n", text=text or "{}")
    found = read_folder(tmp_path)
    assert (not found.entries and reason in found.broken[0][1]) if text else found.entries[0].name == path.stem


def test_other_breakage_is_listed_too(tmp_path):
    folder = tmp_path / "CIFAR10"
    put(folder, "latin", "1\t1\t95\n").write_bytes(b"\xff\xfe")
    put(folder, "alone", "").unlink()
    put(folder, "undescribed", "1\t1\t95\n").with_suffix(".json").unlink()
    os.truncate(put(folder, "large", "1\t1\t95\n"), 6_000_000)
    put(folder, "loop", "").unlink()
    (folder / "loop.tsv").symlink_to("loop.tsv")
    put(folder, "pipe", "").unlink()
    os.mkfifo(folder / "pipe.tsv")
    put(folder, "price", "1\t1\t95\n", text='{"costPerHour": ' + "9" * 400 + "}")
    seed_run(folder / "run", 0, MISSED)
    (folder / "bad").mkdir()
    (folder / "bad" / "run.jsonl").write_text("{}\n")
    found = read_folder(tmp_path)
    reasons = {Path(place).parent.name if place.endswith("jsonl") else Path(place).stem: r for place, r in found.broken}
    assert set(reasons) == {"latin", "alone", "undescribed", "large", "loop", "pipe", "run", "bad"}
    assert [(entry.name, entry.dollars) for entry in found.entries] == [("price", None)]
    assert "UTF-8" in reasons["latin"] and "undescribed.json" in reasons["undescribed"]
    assert "more than" in reasons["large"]


def test_our_runs_and_entries(tmp_path):
    """The same run from its log, and from its entry in another folder; the clock is T_dawn."""
    run = seed_run(tmp_path / "runs" / "one", 0)
    (tmp_path / "out").mkdir()
    write_reports(run, "Author", "a@example.org", 2.0, out=tmp_path / "out")
    (entry,), (again,) = read_folder(tmp_path / "runs").entries, read_folder(tmp_path / "out").entries
    assert entry.seconds == pytest.approx(0.0114791667 * 3600) == pytest.approx(again.seconds)
    assert entry.task == again.task == "CIFAR10" and entry.epoch == again.epoch == "4" and entry.dollars is None
    assert again.name == "Author" and again.dollars == pytest.approx(2 * 0.0114791667)
    write_reports(run, "Author", "a@example.org", 2.0)
    assert run_entry(run).dollars == pytest.approx(again.dollars) and run_entry(run).name == "Author"


def test_a_run_on_too_few_images_or_of_no_task_has_no_place(tmp_path):
    few = seed_run(tmp_path / "few", 0, ((90, 95), (96, 99)), images=100)
    with pytest.raises(EntryError, match="validated on 100 images"):
        run_entry(few)
    with pytest.raises(EntryError, match="has no board"):
        run_entry(seed_run(tmp_path / "toy", 0, task="toy"))
    with pytest.raises(EntryError, match="is not ImageNet"):
        run_entry(seed_run(tmp_path / "cifar", 0), "ImageNet")


@pytest.mark.parametrize(
    "settings", [{"start_epoch": 0, "short_epoch": True}, {"loader": "synthetic"}, {"holdout": 0.1}]
)
def test_a_trial_has_no_place_and_is_told_everywhere(tmp_path, capsys, settings):
    """Epochs cut short, or noise for images: such a run says nothing about a time to accuracy."""
    run = seed_run(tmp_path / "run", 0, config=settings)
    with pytest.raises(EntryError, match="a trial: it"):
        run_entry(run)
    for command in ("check", "study"):
        assert main([command, str(run)]) == 0
        assert "a trial, no result: it" in capsys.readouterr().out


def test_where_a_run_stands(tmp_path):
    entries = read_folder(clone(tmp_path / "clone")).entries
    run = seed_run(tmp_path / "run", 0)
    own = run_entry(run)
    assert standing(board(entries, "CIFAR10", "time", run=own)) == "this run stands 1st of 5 by time, itself included"
    assert "no price" in standing(board(entries, "CIFAR10", "cost", run=own))
    assert standing(board(entries, "ImageNet", "time", run=own)) == ""
    twice = board([*entries, run_entry(tmp_path / "." / "run")], "CIFAR10", "time", run=own)
    assert len(twice.ranked) == 5  # found in the folder and named: once


def test_ordinals():
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "101st", "111th",
    ]  # fmt: skip


class Tags(html.parser.HTMLParser):
    """Collects what a browser would see: tags with attributes, and texts."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.texts = set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name) for name, _ in attrs]

    def handle_data(self, data):
        self.texts.append(data)


HOSTILE = "<script>alert(1)</script>\x1b]0;x\x07 ](http://x) |`*_ \u202e\r\n# <img src=x onerror=y>"


def test_hostile_names_stay_text(tmp_path):
    path = put(tmp_path / "CIFAR10", "x", "1\t1\t95\n", author=HOSTILE, model=HOSTILE, hardware=HOSTILE)
    put(tmp_path / "CIFAR10", "<b>bad\x1b", f"{HOSTILE}\t1\t9\n")
    found = read_folder(tmp_path)
    tables = board_tables([board([read_entry(path, None)],
                                 "CIFAR10", "time")], found.broken)  # fmt: skip
    page = Tags()
    text = board_html(tables, [HOSTILE])
    page.feed(text)
    frame, content = {"html", "head", "meta", "title", "style", "body"}, {"h1", "h2", "p", "table", "thead", "tbody"}
    assert page.tags <= frame | content | {"tr", "th", "td", "div"}
    of_div = {"class", "tabindex", "role", "aria-label"}
    assert {name for _, name in page.attributes} <= {"lang", "charset", "http-equiv", "content", "name"} | of_div
    assert any("<script>alert(1)</script>" in text for text in page.texts)
    assert "url(" not in text and "@import" not in text  # loads nothing
    for shown in (text, board_markdown(tables, [HOSTILE]), *(plain_table(table) for table in tables)):
        assert all(char == "\n" or char.isprintable() for char in shown)
    markdown = board_markdown(tables, [HOSTILE])
    assert "<" not in markdown and "http://" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| 1 ")]
    assert len(rows) == 1 and rows[0].replace("\\|", "").count("|") == len(tables[0].header) + 1


def test_columns_that_no_entry_fills_are_left_out():
    """DAWNBench's best known results are listed without a model, and nobody's own run is among them."""
    header = board_tables([board(historical_entries([]), "ImageNet", "time")], [])[0].header
    assert "model" not in header and header[:4] == ("rank", "time", "cost", "entry") and header[-1] == "accuracy, %"


def test_historical_results_are_in_order_and_complete():
    results = historical()
    assert len({result["source"] for result in results}) == len(results) >= 25
    for result in results:
        metric, target = BOARDS[result["task"]]
        assert (result["metric"], result["target"]) == (metric, target)
        assert result["percent"] is None or target <= result["percent"] < 100
        assert result["seconds"] > 0 and result["source"].endswith(".tsv") and len(result["date"]) == 10
    first = board(historical_entries([]), "ImageNet", "time").ranked[0][1]
    assert first.seconds == pytest.approx(157.55) and first.dollars == pytest.approx(14.42, abs=0.01)
    cheapest = board(historical_entries([]), "ImageNet", "cost").ranked
    assert [round(entry.dollars, 2) for _, entry in cheapest[:5]] == [7.43, 12.60, 14.42, 19.00, 20.89]


def test_historical_results_of_a_clone_are_not_doubled(tmp_path):
    put(tmp_path / "CIFAR10" / "train", "apple_resnet9_8v100_pytorch", "15\t0.0026191027585688666\t94.2\n")
    entries = read_folder(tmp_path).entries
    assert len(historical_entries(entries)) == len(historical()) - 1
    assert historical_entries(entries, 94.5) == []  # their times are to 94 % and 93 %


def test_command_writes_and_prints(tmp_path, capsys):
    run = seed_run(tmp_path / "run", 0)
    outs = [tmp_path / "board.md", tmp_path / "board.html"]
    command = ["board", str(clone(tmp_path / "clone")), "--historical", "--run", str(run)]
    assert main([*command, "--out", str(outs[0]), "--out", str(outs[1])]) == 0
    text = capsys.readouterr().out
    assert "this run stands 4th of 15 by time" in text and "<- this run" in text and "ImageNet" not in text
    assert all("4th of 15" in path.read_text() for path in outs)
    assert main(["board", str(tmp_path / "clone")]) == 0
    text = capsys.readouterr().out
    assert "ImageNet, time to 93 % top-5: 2 entries" in text and "CIFAR10, time to 94 % top-1: 4 entries" in text
    assert main(["board", str(tmp_path / "clone"), "--task", "CIFAR10", "--target", "94.05"]) == 0
    assert "94.05 % top-1: 2 entries" in capsys.readouterr().out
    missed = seed_run(tmp_path / "missed", 0, MISSED)
    assert main(["board", "--historical", "--run", str(missed)]) == 0
    assert "this run has no place: target 94 % top-1: not reached, the best is" in capsys.readouterr().out


def test_imagenette_has_a_board(tmp_path, capsys):
    run = seed_run(tmp_path / "run", 0, ((3000, 3800),), images=3925, task="Imagenette", target=75.0)
    assert main(["board", str(tmp_path), "--run", str(run), "--task", "Imagenette"]) == 0
    assert "Imagenette, time to 75 % top-1: 1 entry\n" in capsys.readouterr().out


def test_bad_input_is_one_line(tmp_path, capsys):
    assert "no FOLDER" in refused(capsys, "board")
    assert "no such folder" in refused(capsys, "board", tmp_path / "none")
    assert "no entry found" in refused(capsys, "board", tmp_path)
    assert "--out" in refused(capsys, "board", "--historical", "--out", "x.pdf")
    assert "cannot be written" in refused(capsys, "board", "--historical", "--out", tmp_path / "none" / "x.md")
    assert "--target" in refused(capsys, "board", "--historical", "--target", "90")
    assert "--target" in refused(capsys, "board", "--historical", "--task", "CIFAR10", "--target", "nan")
    assert "No such file" in refused(capsys, "board", "--historical", "--run", tmp_path / "none")


def test_a_hundred_entries_cost_little_more_than_ten(tmp_path):
    rows = "".join(f"{epoch}\t{epoch / 100}\t{min(94.5, 20 + epoch)}\n" for epoch in range(90))
    for number in range(100):
        put(tmp_path / "hundred" / "CIFAR10" / "train", f"entry-{number}", rows, costPerHour=1.0)
    for number in range(10):
        put(tmp_path / "ten" / "CIFAR10" / "train", f"entry-{number}", rows, costPerHour=1.0)
    # 2.0 times as much, 0.56 s of an AVX2 core: reading 90 entries costs about what starting Python does.
    assert processor_seconds_of_a_board(tmp_path / "hundred") < 4 * processor_seconds_of_a_board(tmp_path / "ten")


def processor_seconds_of_a_board(folder: Path) -> float:
    """Of the processor, so that a busy machine does not change it."""
    command = [sys.executable, "-m", "dawn", "board", folder, "--out", folder / "board.html"]
    before = os.times()
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    after = os.times()
    assert f"{len(list(folder.rglob('*.tsv')))} entries" in out
    return after.children_user + after.children_system - before.children_user - before.children_system
