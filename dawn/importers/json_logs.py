"""Curves from logs that are JSON objects: ffcv-imagenet's log and MLPerf's :::MLLOG lines."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from dawn.importers.curve import Curve, Point
from dawn.importers.lines import TORN, Line, inside, percent_of
from dawn.runlog.fields import Fields
from dawn.runlog.writer import RunError

MLLOG = ":::MLLOG"
FFCV_KEYS = {"top_1", "top_5"}


def ffcv_curve(name: str, where: str, lines: Iterable[Line]) -> list[Curve]:
    """One object a line; accuracies are fractions, epochs count from 0. At its end a run evaluates once more."""
    points: list[Point] = []
    notes = []
    for line in lines:
        fields = line.fields(line.text) if line.text.strip() else Fields(line.where, {})
        if fields is None:
            notes.append(TORN)
        elif FFCV_KEYS & fields.values.keys():
            top1, top5 = (percent_of(fields.number(key, 0, 1)) for key in ("top_1", "top_5"))
            point = Point(fields.count("epoch") + 1, fields.number("relative_time", 0) / 3600, top1, top5)
            if points and point.epoch == points[-1].epoch:
                notes.append(f"epoch {point.epoch} was evaluated twice, the first one counts")
            else:
                points.append(point)
    clock = "from the moment model and loaders were ready, evaluation inside"
    return [Curve(name, "ffcv", tuple(points), clock, True, False, tuple(notes))]


@dataclass
class Submission:
    """One run of an MLPerf log while it is read."""

    start_ms: float
    points: list[Point] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stopped: bool = False


def mllog_curves(name: str, where: str, lines: Iterable[Line]) -> list[Curve]:
    """One curve for each run_start; what several processes log alike counts once. Accuracies are fractions."""
    runs: list[Submission] = []
    for line in lines:
        if MLLOG not in line.text:
            continue
        fields = line.fields(line.text.split(MLLOG, 1)[1].lstrip())
        if fields is None:
            for run in runs[-1:]:
                run.notes.append(TORN)
        elif take := MLLOG_KEYS.get(str(fields.values.get("key"))):
            take(runs, fields)
    if not runs:
        raise RunError(f"{where}: no run_start among its {MLLOG} lines. Give the log of a whole run.")
    clock = "from run_start (MLPerf): evaluation inside, initialisation outside"
    return [
        Curve(
            f"{name}-{number}" if len(runs) > 1 else name, "mllog", tuple(r.points), clock, True, False, tuple(r.notes)
        )
        for number, r in enumerate(runs, start=1)
    ]


def run_start(runs: list[Submission], fields: Fields) -> None:
    if not runs or runs[-1].points or runs[-1].stopped:
        runs.append(Submission(fields.number("time_ms", 0)))


def run_stop(runs: list[Submission], fields: Fields) -> None:
    status = inside(fields, "metadata").get("status")
    if runs and not runs[-1].stopped:
        runs[-1].stopped = True
        runs[-1].notes += [] if status in (None, "success") else [f"run_stop says status {str(status)[:40]!r}"]


def eval_accuracy(runs: list[Submission], fields: Fields) -> None:
    if not runs:
        raise RunError(f"{fields.where}: eval_accuracy before run_start. Restore the lines before it.")
    metadata = Fields(f"{fields.where}: metadata", inside(fields, "metadata"))
    epoch, points = metadata.number("epoch_num", 0), runs[-1].points
    if points and epoch <= points[-1].epoch:
        return  # of another process
    hours = (fields.number("time_ms", 0) - runs[-1].start_ms) / 3_600_000
    points.append(Point(epoch, hours, percent_of(fields.number("value", 0, 1)), None))


def submission_benchmark(runs: list[Submission], fields: Fields) -> None:
    value = fields.values.get("value")
    if value != "resnet":
        raise RunError(f"{fields.where}: the benchmark is {value!r:.40}. Only that of resnet has a top-1 accuracy.")


MLLOG_KEYS = {
    "run_start": run_start,
    "run_stop": run_stop,
    "eval_accuracy": eval_accuracy,
    "submission_benchmark": submission_benchmark,
}
