"""What was found about a bad step, as plain values: RUN/diagnosis.json, from which the document and the page are made.

Numbers that are not finite are null."""

import math
import os
from collections.abc import Iterator
from typing import Any

from training.config.own_code import short_name
from training.data.dataset import index_of
from training.diagnosis.causes import listed, place_of
from training.diagnosis.dissection import Call, Stats
from training.diagnosis.findings import Findings
from training.diagnosis.replay import BadStep
from training.distributed.launcher import named

FORMAT = 1
SHOWN_STEPS = 10
Record = dict[str, Any]
KINDS = ("none", "gradient", "output", "operation", "weights", "input")  # of a culprit, the surest last


def record_of(found: Findings, names: list[str]) -> Record:
    """Of this rank. `names`: of the files of its batch, empty where the loader does not tell them."""
    env, operation = found.bad.job.env, found.culprit.operation
    return {
        "format": FORMAT,
        "run": found.ended.folder.resolve().name,
        "rank": env.rank,
        "world_size": env.world_size,
        "kind": found.culprit.kind,
        "epoch": found.bad.epoch + 1,
        "step": found.bad.step + 1,
        "found": what_happened(found),
        "causes": [cause._asdict() for cause in found.causes],
        "facts": [list(pair) for pair in step_facts(found)],
        "operation": operation and {"name": operation.name, "values": argument_rows(operation.arguments)},
        "module": found.culprit.call and module_of(found),
        "steps_before": steps_before(found.bad),
        "files_known": bool(names),
        "batch": batch_rows(found, names),
    }


def told(records: list[Record]) -> Record:
    """Of the records of all ranks the one to show, which says what the others found: the surest, of equal ones the
    lowest rank's."""
    best = max(records, key=lambda record: (KINDS.index(record["kind"]), -record["rank"]))
    if best["world_size"] == 1:
        return best
    alike = [record["rank"] for record in records if KINDS.index(record["kind"]) == KINDS.index(best["kind"])]
    where = f"rank {best['rank']} of {best['world_size']}"
    also = [rank for rank in alike if rank != best["rank"]]
    facts = [["rank", where + (f"; {named(also)} found a value of this kind too" if also else "")], *best["facts"]]
    return best | {"found": f"{best['found']}, on {where}", "facts": facts}


def what_happened(found: Findings) -> str:
    culprit, operation = found.culprit, found.culprit.operation
    kind = f" ({culprit.call.kind})" if culprit.call else ""
    if culprit.kind == "input":
        return "the images of the batch were not finite"
    if culprit.kind == "weights":
        names = listed(culprit.call.bad_weights)
        return f"{names} of {place_of(culprit)}{kind} had values that were not finite before the step began"
    if culprit.kind == "none":
        return "the step was not finite in the run's own order, but is when it is computed alone"
    what = f"`{operation.name}` in {place_of(culprit)}{kind}" if operation else f"{place_of(culprit)}{kind}"
    node = f" ({operation.node})" if operation and operation.node else ""
    way = f"backward pass{node}" if culprit.is_backward else "forward pass"
    return f"the first value that is not finite came from {what}, {way}"


def step_facts(found: Findings) -> Iterator[tuple[str, str]]:
    bad, ended = found.bad, found.ended
    job = bad.job
    yield "place", f"epoch {bad.epoch + 1}, step {bad.step + 1} of {job.steps_of(bad.epoch)}"
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


def argument_rows(arguments: list[Stats | float]) -> list[Record]:
    return [values_of(f"argument {n}", item) for n, item in enumerate(arguments, start=1)]


def module_of(found: Findings) -> Record:
    call: Call = found.culprit.call
    own = [(f"`{name}`", stats) for name, stats in call.own.items()]
    gradients = [(f"gradient of {name}", stats) for name, stats in call.gradients.items()]
    rows = [("inputs", call.inputs), *own, ("outputs", call.outputs), *gradients]
    return {
        "name": place_of(found.culprit).strip("`"),
        "kind": call.kind,
        "values": [values_of(name, stats) for name, stats in rows if stats],
    }


def values_of(name: str, item: Stats | float) -> Record:
    """`min`, `mean` and `max` are of the finite values; `not_finite` is the share of the others, 0 to 1."""
    if isinstance(item, float):
        value, odd = finite(item), 0.0 if math.isfinite(item) else 1.0
        return {"of": name, "min": value, "mean": value, "max": value, "not_finite": odd, "type": "number"}
    low, mean, high = (finite(value) for value in (item.low, item.mean, item.high))
    return {"of": name, "min": low, "mean": mean, "max": high, "not_finite": item.odd, "type": item.dtype}


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def steps_before(bad: BadStep) -> list[Record]:
    """The last ones, `step` counted from the bad one, which is 0: a step that was too large shows here."""
    past = bad.past[-SHOWN_STEPS:]
    return [
        {
            "step": place - len(past),
            "loss": finite(p.loss),
            "largest logit": finite(p.logit),
            "largest weight": finite(float(p.weights.max())),
            "largest gradient": finite(p.gradient),
        }
        for place, p in enumerate(past)
    ]


def batch_rows(found: Findings, names: list[str]) -> list[Record]:
    """A file each; without names those images alone of which there is something to say."""
    operation = found.culprit.operation
    notes = {row: "has one value in all pixels" for row in found.constant}
    notes |= {row: "has values that are not finite" for row in found.broken}
    for row in operation.rows if operation else ():
        notes[row] = ", ".join(filter(None, [notes.get(row, ""), "its part of the result is not finite"]))
    if not names:
        return [{"place": row + 1, "file": f"image {row + 1}", "note": note} for row, note in sorted(notes.items())]
    return [{"place": row + 1, "file": name, "note": notes.get(row, "")} for row, name in enumerate(names)]


def names_of(bad: BadStep) -> list[str]:
    """The files of the batch; numbers where the dataset is packed and does not keep their names."""
    rows = bad.job.loader.last.rows
    if rows is None:
        return []
    index = index_of(bad.job.config, bad.dataset_folder)["train"]
    names = [os.fsdecode(index.paths[row]) for row in rows.tolist()]
    printable = (name.encode("utf-8", "backslashreplace").decode() for name in names)
    return [name or f"training image {row}" for name, row in zip(printable, rows.tolist(), strict=True)]
