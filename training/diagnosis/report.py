"""RUN/diagnosis.md and RUN/diagnosis.png: what was found, and the pictures of the batch."""

from pathlib import Path

import torch

from data_prep import load_manifest
from training.diagnosis.findings import Findings
from training.diagnosis.record import Record
from training.inspect.pictures import sheet, to_levels

PICTURES = 60


def headline(record: Record) -> str:
    return f"epoch {record['epoch']}, step {record['step']}: {record['found']}"


def cause_lines(record: Record) -> list[str]:
    if not record["causes"]:
        return ["None of the usual causes fits."]
    return [f"{cause['name']}: {cause['evidence']}. {cause['remedy']}" for cause in record["causes"]]


def document(record: Record) -> str:
    """Markdown."""
    lines = [f"# Diagnosis of {record['run']}", "", f"In {headline(record)}.", ""]
    lines += ["## Causes that fit", ""]
    lines += [f"{number}. {line}" for number, line in enumerate(cause_lines(record), start=1)]
    lines += ["", "## The step", "", *table(["", ""], record["facts"]), ""]
    if operation := record["operation"]:
        lines += [f"## The operation `torch.{operation['name']}`", "", *statistics(operation["values"]), ""]
    if module := record["module"]:
        lines += [f"## The module `{module['name']}`", "", f"`{module['kind']}`", "", *statistics(module["values"]), ""]
    lines += [*history(record["steps_before"]), *batch_part(record)]
    if record["picture"]:
        lines += ["", f"![The batch]({record['picture']})"]
    return "\n".join(lines) + "\n"


def statistics(rows: list[Record]) -> list[str]:
    cells = []
    for row in rows:
        values = (number(row[name]) for name in ("min", "mean", "max"))
        cells.append([row["of"], *values, f"{100 * row['not_finite']:.3g} %", row["type"]])
    return table(["", "min", "mean", "max", "not finite", "type"], cells)


def number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def history(steps: list[Record]) -> list[str]:
    if not steps:
        return []
    names = list(steps[0])
    rows = [[str(step["step"]), *(number(step[name]) for name in names[1:])] for step in steps]
    return ["## The steps before", "", *table(names, rows), ""]


def batch_part(record: Record) -> list[str]:
    rows = record["batch"]
    lines = [f"{row['place']}. `{row['file']}`" + (f": {row['note']}" if row["note"] else "") for row in rows]
    return ["## The batch", "", *([] if record["files_known"] else ["The loader does not tell its files.", ""]), *lines]


def table(head: list[str], rows) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def batch_sheet(found: Findings, names: list[str]) -> bytes | None:
    """PNG of the batch before mixup, strange images first. None for a loader that does not tell how it normalises."""
    loader = found.bad.job.loader
    if not hasattr(loader, "mean"):
        return None
    batch, strange = loader.last, {*found.broken, *found.constant}
    order = sorted(range(len(batch.targets)), key=lambda place: (place not in strange, place))[:PICTURES]
    images = torch.nan_to_num(batch.images[order].float(), 0.0, 1e3, -1e3)
    classes = load_manifest(found.bad.dataset_folder).classes
    captions = [caption(place, names, classes[int(batch.targets[place])]) for place in order]
    return sheet(list(to_levels(images, loader.mean, loader.std)), captions)


def caption(place: int, names: list[str], label: str) -> str:
    return f"{place + 1} {Path(names[place]).name[-16:] if names else ''}\n{label[:18]}"
