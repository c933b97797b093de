"""The reports: exact bytes, DAWNBench's own submission rules, and nothing that is not in the log."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from dawn_script import CORRECT, SECOND, Script, resumed_run, scripted_run

from dawn import RunError, read_run
from dawn.dawnbench.entry import entry, entry_text
from dawn.dawnbench.tsv import tsv
from dawn.report import write_reports
from dawn.reports.chart import chart_png
from dawn.reports.summary import summary_text

AUTHOR = {"author": "A. Author", "author_email": "a@example.org"}
IMAGENET = {"task": "ImageNet", "metric": "top5", "target": 93.0}
GOLDEN_CIFAR10 = (
    "epoch\thours\ttop1Accuracy\n"
    "1\t0.0029652778\t50.0\n"  # (0.125 + 0.5 + 50 * 0.201) s / 3600
    "2\t0.0057569444\t77.0\n"
    "3\t0.0086875000\t89.0\n"
    "4\t0.0114791667\t94.0\n"
    "5\t0.0144097222\t94.12\n"
)
GOLDEN_IMAGENET = (
    "epoch\thours\ttop1Accuracy\ttop5Accuracy\n"
    "1\t0.0029652778\t33.334\t66.666\n"
    "3\t0.0086875000\t76.012\t93.0\n"  # epoch 2 was not evaluated
)


def imagenet_run(folder: Path, **start) -> Path:
    correct = ((16667, 33333), None, (38006, 46500))
    return scripted_run(folder, correct, images=50000, **IMAGENET | start)


def test_tsv_bytes(tmp_path):
    assert tsv(read_run(scripted_run(tmp_path / "cifar"))) == GOLDEN_CIFAR10
    assert tsv(read_run(imagenet_run(tmp_path / "imagenet"))) == GOLDEN_IMAGENET
    other = tsv(read_run(scripted_run(tmp_path / "other", task="toy\tset\n")))
    assert other.splitlines()[:2] == ["epoch\thours\ttop1Accuracy\ttop5Accuracy", "1\t0.0029652778\t50.0\t90.0"]


def test_tsv_of_a_resumed_run_holds_each_epoch_once(tmp_path):
    rows = list(csv.DictReader(io.StringIO(tsv(read_run(resumed_run(tmp_path)))), delimiter="\t"))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]


def test_tsv_refuses_hours_that_stand_still(tmp_path):
    script = Script(tmp_path)
    for epoch in range(2):
        script.time.ns += 1  # a nanosecond for each epoch
        script.validate(epoch, (1, 2))
    with pytest.raises(RunError, match="same hour"):
        tsv(read_run(tmp_path))


def dawnbench_rules(folder: Path, metric: str, threshold: float) -> None:
    """The checks of stanford-futuredata/dawn-bench-entries, tests/test_submissions.py, in our words."""
    fields = json.loads((folder / "entry.json").read_text())
    for name in ("author", "authorEmail", "framework", "hardware", "model", "timestamp", "version"):
        assert isinstance(fields[name], str) and fields[name]
    assert fields["version"] == "v1.0"
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", fields["timestamp"])
    assert isinstance(fields.get("misc", {}), dict)
    rows = list(csv.DictReader((folder / "result.tsv").open(), delimiter="\t"))
    columns = {"epoch", "hours", "top1Accuracy"} | ({"top5Accuracy"} if metric == "top5Accuracy" else set())
    assert rows and all(set(row) == columns for row in rows)
    assert max(float(row[metric]) for row in rows) >= threshold
    hours = [float(row["hours"]) for row in rows]
    assert hours == sorted(set(hours))


def test_entries_keep_the_rules_of_dawnbench(tmp_path):
    write_reports(scripted_run(tmp_path / "cifar"), **AUTHOR)
    dawnbench_rules(tmp_path / "cifar", "top1Accuracy", 94.0)
    write_reports(imagenet_run(tmp_path / "imagenet"), **AUTHOR, cost_per_hour=24.48)
    dawnbench_rules(tmp_path / "imagenet", "top5Accuracy", 93.0)


def test_entry_says_what_was_executed(tmp_path):
    """The plan in the start line says 24 px for ever; the entry says what the epoch lines say."""
    fields = entry(read_run(scripted_run(tmp_path)), **AUTHOR, cost_per_hour=1.5, code_url="https://example.org/c")
    misc = fields["misc"]
    assert list(fields)[:3] == ["version", "author", "authorEmail"] and "draft" not in fields
    assert fields["framework"] == "PyTorch 2.15.0"
    assert fields["hardware"] == "AMD EPYC 9B14, 2 CPU cores, 23.4 GiB memory"
    assert (fields["costPerHour"], fields["codeURL"]) == (1.5, "https://example.org/c")
    assert [(size["image_size"], size["epochs"]) for size in misc["imageSize"]] == [(24, "1-2"), (28, "3-4"), (32, "5")]
    assert misc["batchSize"] == [{"batch_size": 1000, "global_batch_size": 1000, "epochs": "1-5"}]
    assert misc["schedule"][0] == {"learning_rate": [1.0, 0.8], "epochs": "1"} and len(misc["schedule"]) == 5
    assert (misc["optimizer"], misc["momentum"], misc["weightDecay"]) == ("sgd", 0.9, 0.0005)
    assert (misc["weightsEvaluated"], misc["testTimeAugmentation"]) == (["ema"], ["none"])
    reached = misc["dawnbenchTarget"]["reached"]
    assert (reached["epoch"], reached["correctTop1"], reached["images"]) == (4, 9400, 10000)
    assert reached["hours"]["T_dawn"] < reached["hours"]["T_total"] < reached["hours"]["T_cold"]
    assert misc["resumed"] == [] and misc["outcome"] == "target_reached"


def test_entry_of_a_resumed_run_is_flagged(tmp_path):
    fields = entry(read_run(resumed_run(tmp_path)), **AUTHOR)
    misc = fields["misc"]
    assert fields["hardware"].count("EPYC") == 1 and misc["attempts"] == 2
    assert misc["resumed"] == [{"attempt": 1, "epoch": 3, "step": 10, "lostSeconds": 2.01, "gapSeconds": 31.5}]


def test_changed_hardware_is_listed(tmp_path):
    state = Script(tmp_path).epoch(0, CORRECT[0])
    went_on = {"epoch": 1, "step": 0, "lost_seconds": 0, "gap_seconds": 1}
    hardware = {"name": "NVIDIA H200", "count": 8}
    script = Script(tmp_path, attempt=1, state=state, resumed_from=went_on, hardware=hardware, config_hash="other")
    script.epoch(1, (9500, 9900))
    script.stop()
    fields = entry(read_run(tmp_path), **AUTHOR)
    assert fields["hardware"] == "AMD EPYC 9B14, 2 CPU cores, 23.4 GiB memory; then 8 x NVIDIA H200"
    assert fields["draft"] == ["the attempts ran with different configurations"]


@pytest.mark.parametrize(
    ("start", "correct", "outcome", "reasons"),
    [
        ({"target": 85.0}, ((8600, 9000),), "target_reached",
         ["target 94 % top-1 not reached", "the task's target in DAWNBench is 94 % top-1, this run's was 85 % top-1"]),
        ({"target": None}, ((9399, 9900),), "finished",
         ["target 94 % top-1 not reached", "the task's target in DAWNBench is 94 % top-1, this run's was none"]),
        ({}, ((9399, 9900),), "finished_without_target", ["target 94 % top-1 not reached"]),
        ({"target": 85.0}, ((9400, 9900),), "target_reached", []),
        ({}, ((9400, 9900),), "diverged", ["the run is incomplete: diverged"]),
        ({}, ((9400, 9900),), "preempted", ["the run is incomplete: preempted"]),
        ({"task": "toy"}, ((9400, 9900),), "target_reached", ["'toy' is no DAWNBench task"]),
    ],
)  # fmt: skip
def test_draft_reasons(tmp_path, start, correct, outcome, reasons):
    run = read_run(scripted_run(tmp_path, correct, outcome=outcome, **start))
    assert entry(run, **AUTHOR).get("draft", []) == reasons
    if reasons:
        assert next(iter(entry(run, **AUTHOR))) == "draft"


def test_validation_of_another_size_makes_a_draft(tmp_path):
    run = read_run(scripted_run(tmp_path, ((950, 990),), images=1000))
    assert entry(run, **AUTHOR)["draft"] == ["validated on 1000 images, the task has 10000"]


@pytest.mark.parametrize("missing", ["author", "author_email"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_unknown_author_makes_a_draft(tmp_path, missing, value):
    (reason,) = entry(read_run(scripted_run(tmp_path)), **AUTHOR | {missing: value})["draft"]
    assert "unknown" in reason


def test_run_without_stop_line_makes_a_draft(tmp_path):
    Script(tmp_path).epoch(0, (9500, 9900))
    assert entry(read_run(tmp_path), **AUTHOR)["draft"] == ["the run is incomplete: its log has no stop line"]


def test_entry_and_draft_replace_each_other(tmp_path):
    scripted_run(tmp_path)
    for details, there, gone in (({}, "entry.draft.json", "entry.json"), (AUTHOR, "entry.json", "entry.draft.json")):
        assert write_reports(tmp_path, **details)["entry"] == tmp_path / there
        assert (tmp_path / there).exists() and not (tmp_path / gone).exists()


def test_reports_are_the_same_bytes_when_made_again(tmp_path):
    scripted_run(tmp_path / "run")
    first = {name: path.read_bytes() for name, path in write_reports(tmp_path / "run", **AUTHOR).items()}
    (tmp_path / "copy").mkdir()
    log = tmp_path / "copy" / "run.jsonl"
    log.write_bytes((tmp_path / "run" / "run.jsonl").read_bytes())
    for where in (tmp_path / "run", log):
        again = write_reports(where, **AUTHOR)
        assert {name: path.read_bytes() for name, path in again.items()} == first
    names = {"run.jsonl", "result.tsv", "entry.json", "summary.txt", "accuracy.png", "report.html"}
    assert {path.name for path in (tmp_path / "copy").iterdir()} == names  # and no temporary file


def test_summary_tells_the_numbers(tmp_path):
    text = summary_text(read_run(resumed_run(tmp_path)))
    for part in (
        "cifar10-94 on CIFAR10",
        "94 % top-1",
        "in epoch 4: 94 % top-1, 99.5 % top-5 (9400 of 10000, weights: ema, TTA: none)",
        "attempt 2 at epoch 3, step 11 (lost 2.0 s, gap 31.5 s)",  # the console said so when it went on
        "target_reached",
        "4975.1",  # images/s: 50,000 in 50 * 0.201 s
        "time to target",
    ):
        assert part in text


def test_summary_of_a_killed_run_says_how_to_go_on(tmp_path):
    Script(tmp_path).epoch(0, (9000, 9900))
    assert "the log has no stop line. Unless it still runs, go on with: python -m training --resume" in summary_text(
        read_run(tmp_path)
    )


def test_summary_of_a_miss_names_the_best_epoch(tmp_path):
    text = summary_text(read_run(scripted_run(tmp_path, ((9000, 9900), (93999, 99000), (93000, 99000)), images=100000)))
    assert "no; best in epoch 2: 93.999 % top-1" in text and "time to the last evaluation" in text


def test_shares_of_the_ledger_add_up(tmp_path):
    shares = re.findall(r"(\d+\.\d+)%\n", summary_text(read_run(scripted_run(tmp_path))).split("where the time")[1])
    assert len(shares) == 6 and sum(map(float, shares)) == pytest.approx(100, abs=0.03)


HOSTILE = "a\tb\nc\x1b[31m<script>$\\frac{$[red]\ud800" + "x" * 500


def test_hostile_names_break_nothing(tmp_path):
    names = dict.fromkeys(("recipe", "model", "task", "precision", "page_cache"), HOSTILE)
    hardware = {"name": HOSTILE, "count": "many", "cores": HOSTILE}
    run = read_run(scripted_run(tmp_path, **names, hardware=hardware))
    assert all(line.count("\t") == 3 for line in tsv(run).splitlines())
    assert json.loads(entry_text(entry(run, author=HOSTILE)))["model"] == HOSTILE
    text = summary_text(run)
    assert text.encode() and "\x1b" not in text and "\t" not in text and max(map(len, text.splitlines())) < 140
    assert chart_png(run)


def test_no_reports_without_an_evaluation(tmp_path):
    scripted_run(tmp_path, (None, None))
    with pytest.raises(RunError, match="no evaluation"):
        write_reports(tmp_path)


@pytest.mark.parametrize("cost", [-0.01, float("nan"), float("inf")])
def test_impossible_costs_are_refused(tmp_path, cost):
    with pytest.raises(RunError, match="cost per hour"):
        entry(read_run(scripted_run(tmp_path)), cost_per_hour=cost)
    assert entry(read_run(tmp_path), cost_per_hour=0)["costPerHour"] == 0


def test_hours_are_t_dawn(tmp_path):
    """Evaluation and checkpoints that last an hour each do not change the TSV."""
    script = Script(tmp_path)
    script.epoch(0, CORRECT[0])
    script.pass_in("eval", 3600)
    script.pass_in("checkpoint", 3600)
    script.epoch(1, CORRECT[1])
    assert tsv(read_run(tmp_path)) == "".join(GOLDEN_CIFAR10.splitlines(keepends=True)[:3])
    assert read_run(tmp_path).rows[1].clock["total"] > 7200 and script.time.ns > 7200 * SECOND
