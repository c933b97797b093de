"""The parts of the page: what each one says in words and tables, and where its chart goes."""

from collections.abc import Sequence
from typing import Any

from dawn.importers.curve import Curve
from dawn.page.data import Shown, ledger, phase_data, thinned
from dawn.page.html import (
    Cell,
    accuracy_texts,
    chart,
    details,
    note,
    number_text,
    percent_cell,
    ramp_text,
    result_in_words,
    section,
    table,
    text,
)
from dawn.runlog.clock import NEWER_LABELS, RUN_LABELS
from dawn.runlog.records import CLOCKS, METRICS
from dawn.runlog.run import executed_phases
from dawn.tables import plain

MOST_OPEN = 12  # rows of a table that is shown without being asked for
LEDGER_NAMES = {
    "data": "data wait", "train": "compute", "eval": "evaluation", "checkpoint": "checkpoint", "switch": "switch",
    "inspect": "inspection", "other": "other",
}  # fmt: skip
Group = tuple[str, list[list[Cell]]]


def grouped(shown: list[Shown], rows: Any) -> list[Group]:
    """A group of table rows for each run; its name only where there are several."""
    return [(item.name if len(shown) > 1 else "", rows(item)) for item in shown]


def data_table(words: str, header: tuple[str, ...], groups: list[Group]) -> str:
    short = sum(len(rows) for _, rows in groups) <= MOST_OPEN
    return details(f"{words} in numbers", table(header, groups, words), short)


def time_section(shown: list[Shown], old: list[dict[str, Any]]) -> str:
    """old: the historical results that the reader can switch on."""
    alternative = f"Line chart of validation accuracy over time. {_results_in_words(shown)}"
    words = "Accuracy over time"
    header = (
        "epoch",
        *(f"T_{clock} (s)" for clock in CLOCKS),
        "top-1 %",
        "top-5 %",
        "correct top-1, top-5",
        "of images",
    )
    shaded = " The bands are the phases of the first run that is switched on." if len(shown) > 1 else ""
    inside = note(
        f"A star marks the first evaluation at or above the target.{shaded} Drag to zoom, double-click to go back."
    )
    inside += chart("time", alternative) + data_table(words, header, grouped(shown, _evaluations))
    return section("accuracy-time", words, inside + _history_table(old))


def _history_table(old: list[dict[str, Any]]) -> str:
    """Closed at first; empty where no historical result is of the task of a run."""
    if not old:
        return ""
    header = ("result", "day", "hardware", "T_dawn (s)", "hours", "accuracy %", "$ per hour", "entry")
    names = ("name", "date", "hardware")
    rows = [
        [
            *(result[name] for name in names),
            f"{result['seconds']:.3f}",
            f"{result['seconds'] / 3600:.6f}",
            f"{result['percent']:.3f}" if result["measured"] else f"{result['percent']:g} or more",
            number_text(result["cost_per_hour"]),
            "/".join(result["source"].split("/")[-3:]),
        ]
        for result in old
    ]
    return details("Historical results in numbers", table(header, [("", rows)], "Historical results"))


def _evaluations(item: Shown) -> list[list[Cell]]:
    rows = []
    for row in item.run.rows:
        if seen := row.validation:
            counts = (f"{seen.correct1}, {seen.correct5}", seen.images)
            times = (f"{row.clock[clock]:.3f}" for clock in CLOCKS)
            rows.append([row.until, *times, *accuracy_texts(row, item.run.start), *counts])
    return rows


def epochs_section(shown: list[Shown], curves: Sequence[Curve]) -> str:
    alternative = f"Line chart of validation accuracy over epochs. {_results_in_words(shown)}"
    words = "Accuracy over epochs"
    header = ("epoch", "images seen", "top-1 %", "top-5 %", "training loss")

    def rows(item: Shown) -> list[list[Cell]]:
        return [
            [row.until, row.images_seen, *accuracy_texts(row, item.run.start), number_text(row.train_loss)]
            for row in item.run.rows
        ]

    inside = chart("epochs", alternative) + data_table(words, header, grouped(shown, rows))
    return section("accuracy-epochs", words, inside + curves_table(curves))


def curves_table(curves: Sequence[Curve]) -> str:
    """The numbers of the results that are drawn behind the runs; empty without any."""
    if not curves:
        return ""
    header = ("epoch", "time (s)", "hours", "top-1 %", "top-5 %")
    rows = [
        [
            [
                f"{p.epoch:.6g}",
                f"{p.hours * 3600:.3f}",
                f"{p.hours:.6f}",
                *(percent_cell(p.percent(m)) for m in METRICS),
            ]
            for p in curve.points
        ]
        for curve in curves
    ]
    heads = [(f"{curve.name}, hours: {curve.clock}", *(plain(note, 300) for note in curve.notes)) for curve in curves]
    groups = [("; ".join(head), rows[i]) for i, head in enumerate(heads)]
    return data_table("Results beside the runs", header, groups)


def ledger_section(shown: list[Shown]) -> str:
    words = "Where the time went"
    shares = "; ".join(f"{item.name}: {_largest(ledger(item.run))}" for item in shown[:5])
    alternative = f"Stacked bars of seconds by kind of work, one bar per phase. {shares}."
    labels = labels_of(shown)
    header = ("epochs", "phase", *(f"{LEDGER_NAMES[label]} (s)" for label in labels), "sum (s)")
    inside = note(
        "Every nanosecond of T_total has exactly one label; compute is the training steps without waiting for images."
    )
    choice = ""
    if len(shown) > 1:
        options = "".join(f"<option value={i}>{text(item.name)}" for i, item in enumerate(shown))
        choice = f'<p><label>bars: <select id="ledger-run"><option value="">whole runs{options}</select></label></p>\n'
    inside += (
        choice
        + chart("ledger", alternative)
        + data_table(words, header, grouped(shown, lambda item: _ledger_rows(item, labels)))
    )
    return section("ledger", words, inside)


def labels_of(shown: list[Shown]) -> list[str]:
    """Those of the ledger; the inspection's where a run has one."""
    ledgers = [ledger(item.run) for item in shown]
    return [n for n in LEDGER_NAMES if n not in NEWER_LABELS or any(seconds[n] for seconds in ledgers)]


def _ledger_rows(item: Shown, labels: list[str]) -> list[list[Cell]]:
    lines = [
        (p.epochs, f"{p.value[0]} px", {n: p.seconds(n) for n in RUN_LABELS}) for p in executed_phases(item.run.rows)
    ]
    lines.append(("all", "whole run", ledger(item.run)))
    return [[epochs, name, *(f"{s[n]:.3f}" for n in labels), f"{sum(s.values()):.3f}"] for epochs, name, s in lines]


def speed_section(shown: list[Shown]) -> str:
    words = "Speed"
    header = ("epochs", "size (px)", "batch", "global batch", "images/s", "data wait", "peak memory (MiB)", "verdict")
    phases = [phase_data(span) for item in shown for span in executed_phases(item.run.rows)]
    limited = sum(phase["verdict"] == "the loader limits" for phase in phases)
    alternative = (
        "Two line charts over epochs: training images per second, and the share of training time that waited for "
        f"images. The loader limits in {limited} of {len(phases)} phases."
    )
    inside = note(
        "The loader limits a phase where more than 5 % of its training time waits for images; else the model does."
    )
    inside += chart("speed", alternative) + data_table("Speed of each phase", header, grouped(shown, _phase_rows))
    return section("speed", words, inside)


def _phase_rows(item: Shown) -> list[list[Cell]]:
    rows = []
    for phase in map(phase_data, executed_phases(item.run.rows)):
        wait = None if phase["wait"] is None else f"{phase['wait']:.1%}"
        batches = (phase["size"], phase["batch_size"], phase["global_batch_size"])
        rows.append([phase["epochs"], *batches, f"{phase['rate']:.1f}", wait, phase["memory"], phase["verdict"]])
    return rows


def schedule_section(shown: list[Shown]) -> str:
    words = "Schedule as it ran"
    header = ("epoch", "size (px)", "batch", "global batch", "steps", "learning rate", "momentum")
    alternative = "Step charts over epochs: learning rate, momentum, image size and batch size."

    def rows(item: Shown) -> list[list[Cell]]:
        return [
            [
                row.until,
                row.size,
                row.batch_size,
                row.global_batch_size,
                row.steps,
                ramp_text(row.lr),
                ramp_text(row.momentum),
            ]
            for row in item.run.rows
        ]

    options = "<option value=epochs>epochs<option value=steps>steps"
    axis = f'<p><label>over: <select id="schedule-axis">{options}</select></label></p>\n'
    inside = axis + chart("schedule", alternative) + data_table(words, header, grouped(shown, rows))
    return section("schedule", words, inside)


def steps_section(shown: list[Shown], most: int) -> str:
    """Empty where no run logged a step."""
    if not any(item.steps for item in shown):
        return ""
    words = "Logged training steps"
    header = ("step", "epochs trained", "loss", "images/s", "data wait")

    def rows(item: Shown) -> list[list[Cell]]:
        steps, _ = thinned(item, most)
        return [
            [
                s.number,
                f"{s.position:.4f}",
                number_text(s.loss),
                number_text(s.rate),
                None if s.wait is None else f"{s.wait:.1%}",
            ]
            for s in steps
        ]

    every = max(thinned(item, most)[1] for item in shown)
    inside = note(
        "The loss is that of training batches." + (f" One in {every} logged steps is shown." if every > 1 else "")
    )
    inside += chart("steps", "Line charts over training steps: training loss, images per second, share of data wait.")
    return section("steps", words, inside + data_table(words, header, grouped(shown, rows)))


def _results_in_words(shown: list[Shown]) -> str:
    return " ".join(f"{item.name}: {result_in_words(item.run)}." for item in shown[:5])


def _largest(seconds: dict[str, float]) -> str:
    total = sum(seconds.values()) or 1
    shown = [name for name in LEDGER_NAMES if seconds[name] or name not in NEWER_LABELS]
    return ", ".join(f"{LEDGER_NAMES[name]} {seconds[name] / total:.0%}" for name in shown)
