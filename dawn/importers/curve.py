"""One comparable form for results of any training code: accuracy over hours and epochs, and what the hours count."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dawn.dawnbench.tasks import TASKS
from dawn.importers.times import hours_notes
from dawn.runlog.fields import Fields
from dawn.runlog.writer import RunError
from dawn.tables import counted

FORMAT = 1  # of the JSON form, its field "curve"
KINDS = {
    "run": "run.jsonl of dawn-harness",
    "events": "TensorBoard event file with the 2018 tags",
    "event.log": "event.log of the 2018 imagenet18 code",
    "ffcv": "log of ffcv-imagenet",
    "mllog": "MLPerf log",
    "airbench": "printed table of airbench",
    "tsv": "TSV of DAWNBench",
    "timm": "summary.csv of timm",
    "console": "console log of torchvision's references, DeiT or the ImageNet example of PyTorch",
    "deit": "log.txt of DeiT",
    "wandb": "CSV of W&B",
    "csv": "CSV",
}


@dataclass(frozen=True)
class Point:
    """One evaluation. epoch: epochs trained by then (the first evaluation is 1), may be a fraction; percents."""

    epoch: float
    hours: float
    top1: float | None
    top5: float | None

    def percent(self, metric: str) -> float | None:
        """metric: `top1` or `top5`; None where the source does not tell it."""
        return {"top1": self.top1, "top5": self.top5}[metric]


@dataclass(frozen=True)
class Curve:
    """The evaluations of one run in order. RunError for one that cannot be so, see checked()."""

    name: str  # for people; not unique
    kind: str  # a key of KINDS
    points: tuple[Point, ...]
    clock: str  # what `hours` counts, a sentence
    counts_evaluation: bool | None = None  # is evaluation inside of `hours`? None: not known
    counts_setup: bool | None = None  # are imports, model and loaders inside?
    notes: tuple[str, ...] = ()  # what a reader should know, e.g. lines that were left out

    def metrics(self) -> tuple[str, ...]:
        """`top1`, `top5` or both: those that every point has."""
        return tuple(m for m in ("top1", "top5") if all(point.percent(m) is not None for point in self.points))

    def hit(self, metric: str, target: float) -> Point | None:
        """The first point at or above the target (percent), None if there is none."""
        hits = (point for point in self.points if (point.percent(metric) or -math.inf) >= target)
        return next(hits, None)


def checked(curve: Curve, where: str) -> Curve:
    """The curve itself, with notes on what is odd in it. RunError unless it has points, hours that begin at 0 or above,
    never go back and can be believed (see times.py), and percents."""
    if not curve.points:
        raise RunError(f"{where}: holds no evaluation. Give the log of a run that has been evaluated.")
    hours = 0.0
    for number, point in enumerate(curve.points, start=1):
        check_point(point, f"{where}: evaluation {number}")
        if point.hours < hours:
            raise RunError(f"{where}: evaluation {number}: the hours go back from {hours!r} to {point.hours!r}.")
        hours = point.hours
    notes = [*hours_notes(where, hours), *swapped_note(curve.points)]
    return replace(curve, notes=(*curve.notes, *(note for note in notes if note not in curve.notes)))


def check_point(point: Point, where: str) -> None:
    fields = Fields(where, asdict(point))
    fields.number("epoch", 0)
    if point.hours < 0:
        raise RunError(f"{where}: stands at {point.hours!r} hours, before the start of its clock. Is a line lost, or a "
                       "clock set back?")  # fmt: skip
    fields.number("hours")
    if [fields.number_or_none(metric, 0, 100) for metric in ("top1", "top5")] == [None, None]:
        raise RunError(f"{where}: neither a top-1 nor a top-5 accuracy.")


def swapped_note(points: Sequence[Any]) -> list[str]:
    """Whoever is right in first place is right among the first five. points: with `epoch`, `top1` and `top5`."""
    wrong = [p for p in points if p.top1 is not None and p.top5 is not None and p.top5 < p.top1]
    if not wrong:
        return []
    first = wrong[0]
    return [
        f"{counted(len(wrong), 'evaluation')} with a top-5 accuracy below top-1, first in epoch {first.epoch:g} "
        f"({first.top5:g} % and {first.top1:g} %). See whether the two are swapped."
    ]


class Points:
    """Takes the evaluations of one run in the order of its log. The first of an epoch counts, as nobody may look twice;
    what does not count is told in `notes`."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.notes: list[str] = []

    def add(self, point: Point) -> None:
        if any(before.epoch == point.epoch for before in self.points):
            self.notes.append(again_note(point.epoch, point.hours, point.top1, point.top5))
        else:
            self.points.append(point)

    def resume_at(self, epoch: float) -> None:
        """The run goes on at this epoch from a checkpoint: what it wrote from there on before is void."""
        kept = [before for before in self.points if before.epoch < epoch]
        if len(kept) < len(self.points):
            self.notes.append(
                f"resumed: epoch {epoch:g} and what came after it stand there again, the later ones count"
            )
        self.points = kept


def again_note(epoch: float, hours: float, *percents: float | None) -> str:
    """Of an evaluation that does not count because its epoch has been evaluated before."""
    values = " and ".join(f"{percent:.10g} %" for percent in percents if percent is not None)
    return f"epoch {epoch:g} was evaluated again at {hours:.6g} h ({values}), the first evaluation counts"


def curve_json(curve: Curve) -> str:
    """One line of JSON, without line end."""
    return json.dumps({"curve": FORMAT, **asdict(curve)}, allow_nan=False)


def curve_from_json(where: str, values: dict[str, Any]) -> Curve:
    """RunError for an object that curve_json did not make."""
    fields = Fields(where, values)
    fields.count("curve", FORMAT, FORMAT)
    points = []
    for number, item in enumerate(fields.items("points"), start=1):
        if not isinstance(item, dict):
            raise RunError(f"{where}: point {number} is {item!r:.60}. It must be an object.")
        point = Fields(f"{where}: point {number}", item)
        percents = (point.number_or_none(metric, 0, 100) for metric in ("top1", "top5"))
        points.append(Point(point.number("epoch", 0), point.number("hours", 0), *percents))
    flags = {name: fields.flag_or_none(name) for name in ("counts_evaluation", "counts_setup")}
    notes = Fields(where, {str(i): note for i, note in enumerate(fields.items("notes"))})
    curve = Curve(
        name=fields.text("name"),
        kind=fields.choice("kind", tuple(KINDS)),
        points=tuple(points),
        clock=fields.text("clock"),
        notes=tuple(notes.text(name) for name in notes.values),
        **flags,
    )
    return checked(curve, where)


def curve_tsv(curve: Curve) -> str:
    """The columns of DAWNBench: those of ImageNet, or of CIFAR-10 where there is no top-5 accuracy. Raises: RunError
    for a point without one of them."""
    task = TASKS["ImageNet" if "top5" in curve.metrics() else "CIFAR10"]
    for name, metric in task.columns:
        if lacking := [point for point in curve.points if point.percent(metric) is None]:
            place = f"{curve.name}: no {name} at epoch {lacking[0].epoch:g}"
            raise RunError(f"{place}, and a .tsv has it in every row. Write .json instead.")
    lines = ["\t".join(("epoch", "hours", *(name for name, _ in task.columns)))]
    for point in curve.points:
        percents = (point.percent(metric) for _, metric in task.columns)
        lines.append("\t".join((f"{point.epoch:.10g}", repr(point.hours), *map(repr, percents))))
    return "\n".join(lines) + "\n"
