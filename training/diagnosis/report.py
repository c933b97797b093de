"""RUN/diagnosis.md and RUN/diagnosis.png: what was found, and the pictures of the batch."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from data_prep import load_manifest
from training.config.own_code import short_name
from training.data.dataset import index_of
from training.diagnosis.causes import place_of
from training.diagnosis.dissection import Call, Stats
from training.diagnosis.findings import Findings
from training.diagnosis.replay import BadStep
from training.inspect.pictures import sheet, to_levels

PICTURES, SHOWN_STEPS = 60, 10
NAME = "diagnosis"


def headline(found: Findings) -> str:
    return f"epoch {found.bad.epoch + 1}, step {found.bad.step + 1}: {what_happened(found)}"


def what_happened(found: Findings) -> str:
    culprit, operation = found.culprit, found.culprit.operation
    kind = f" ({culprit.call.kind})" if culprit.call else ""
    if culprit.kind == "input":
        return "the images of the batch were not finite"
    if culprit.kind == "weights":
        return f"the weights of {place_of(culprit)}{kind} were not finite before the step began"
    if culprit.kind == "none":
        return "the step was not finite in the run's own order, but is when it is computed alone"
    what = f"`{operation.name}` in {place_of(culprit)}{kind}" if operation else f"{place_of(culprit)}{kind}"
    node = f" ({operation.node})" if operation and operation.node else ""
    way = f"backward pass{node}" if culprit.is_backward else "forward pass"
    return f"the first value that is not finite came from {what}, {way}"


def cause_lines(found: Findings) -> list[str]:
    if not found.causes:
        return ["None of the usual causes fits."]
    return [f"{cause.name}: {cause.evidence}. {cause.remedy}" for cause in found.causes]


def document(found: Findings, names: list[str], has_sheet: bool) -> str:
    """Markdown. `names`: of the files of the batch."""
    lines = [f"# Diagnosis of {found.ended.folder.resolve().name}", "", f"In {headline(found)}.", ""]
    lines += ["## Causes that fit", ""]
    lines += [f"{number}. {line}" for number, line in enumerate(cause_lines(found), start=1)]
    lines += ["", "## The step", "", *table(["", ""], step_facts(found)), ""]
    lines += [*module_part(found), *history(found.bad), *batch_part(found, names)]
    if has_sheet:
        lines += ["", f"![The batch]({NAME}.png)"]
    return "\n".join(lines) + "\n"


def step_facts(found: Findings) -> Iterator[tuple[str, str]]:
    bad, ended = found.bad, found.ended
    job = bad.job
    yield "place", f"epoch {bad.epoch + 1}, step {bad.step + 1} of {job.steps}"
    yield "the run said", ended.detail
    yield "model", short_name(job.config.model)
    yield "learning rate", f"{bad.lr:.6g}"
    yield "momentum", f"{bad.momentum:.4g}"
    yield "precision", job.state.precision.name + scale(bad)
    yield "batch", f"{len(bad.batch.targets)} images of {job.loader.phase.sz} px, --accumulate {job.config.accumulate}"
    before = f"{bad.replayed} steps before it" if bad.replayed else "no step before it"
    yield "replayed", f"{before}, on {job.env.device.type}"


def scale(bad: BadStep) -> str:
    scaler = bad.job.state.scaler
    return f", loss scale {scaler.get_scale():g}" if scaler.is_enabled() else ""


def module_part(found: Findings) -> list[str]:
    culprit, operation = found.culprit, found.culprit.operation
    lines = []
    if operation:
        rows = [(f"argument {n}", item) for n, item in enumerate(operation.arguments, start=1)]
        lines += [f"## The operation `torch.{operation.name}`", "", *statistics(rows), ""]
    if culprit.call:
        lines += [f"## The module {place_of(culprit)}", "", f"`{culprit.call.kind}`", ""]
        lines += [*statistics(module_rows(culprit.call)), ""]
    return lines


def module_rows(call: Call) -> list[tuple[str, Stats | None]]:
    gradients = [(f"gradient of {name}", stats) for name, stats in call.gradients.items()]
    own = [(f"`{name}`", stats) for name, stats in call.own.items()]
    return [("inputs", call.inputs), *own, ("outputs", call.outputs), *gradients]


def statistics(rows: list[tuple[str, Stats | float | None]]) -> list[str]:
    """Of finite values, and the share of others."""
    cells = []
    for name, item in rows:
        if isinstance(item, float):
            cells.append((name, *(number(item),) * 3, "0 %" if math.isfinite(item) else "100 %", "number"))
        elif item:
            values = (number(value) for value in (item.low, item.mean, item.high))
            cells.append((name, *values, f"{100 * item.odd:.3g} %", item.dtype))
    return table(["", "min", "mean", "max", "not finite", "type"], cells)


def number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.4g}"


def history(bad: BadStep) -> list[str]:
    """The steps before: one that was too large shows here."""
    if not bad.past:
        return []
    first = bad.replayed - len(bad.past)
    shown = list(enumerate(bad.past, start=first - bad.replayed))[-SHOWN_STEPS:]
    rows = [
        (str(place), f"{p.loss:.4g}", f"{p.logit:.4g}", f"{float(p.weights.max()):.4g}", f"{p.gradient:.4g}")
        for place, p in shown
    ]
    head = ["step", "loss", "largest logit", "largest weight", "largest gradient"]
    return ["## The steps before", "", *table(head, rows), ""]


def batch_part(found: Findings, names: list[str]) -> list[str]:
    operation, offset = found.culprit.operation, len(names)
    notes = {row: "has one value in all pixels" for row in found.constant}
    notes |= {row: "has values that are not finite" for row in found.broken}
    for row in operation.rows if operation else ():
        notes[row] = ", ".join(filter(None, [notes.get(row, ""), "its part of the result is not finite"]))
    lines = [f"{row + 1}. `{name}`" + (f": {notes[row]}" if row in notes else "") for row, name in enumerate(names)]
    return ["## The batch", "", *(lines if offset else ["The loader does not tell its files."])]


def table(head: list[str], rows) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def names_of(bad: BadStep) -> list[str]:
    """The files of the batch; numbers where the dataset is packed and does not keep their names."""
    rows = bad.job.loader.last.rows
    if rows is None:
        return []
    folder = bad.job.config.data.rstrip("/") + bad.job.loader.phase.trndir
    index = index_of(bad.job.config, folder)["train"]
    names = [os.fsdecode(index.paths[row]) for row in rows.tolist()]
    printable = (name.encode("utf-8", "backslashreplace").decode() for name in names)
    return [name or f"training image {row}" for name, row in zip(printable, rows.tolist(), strict=True)]


def batch_sheet(found: Findings, names: list[str]) -> bytes | None:
    """PNG of the batch before mixup, strange images first. None for a loader that does not tell how it normalises."""
    loader = found.bad.job.loader
    if not hasattr(loader, "mean"):
        return None
    batch, strange = loader.last, {*found.broken, *found.constant}
    order = sorted(range(len(batch.targets)), key=lambda place: (place not in strange, place))[:PICTURES]
    images = torch.nan_to_num(batch.images[order].float(), 0.0, 1e3, -1e3)
    classes = load_manifest(found.ended.config.data).classes
    captions = [caption(place, names, classes[int(batch.targets[place])]) for place in order]
    return sheet(list(to_levels(images, loader.mean, loader.std)), captions)


def caption(place: int, names: list[str], label: str) -> str:
    return f"{place + 1} {Path(names[place]).name[-16:] if names else ''}\n{label[:18]}"
