"""Reading the result of any training code we know as a Curve; the kind of a file is told by its content."""

import os
from pathlib import Path

from dawn.curve import Curve, Point, checked
from dawn.run import read_run
from dawn.runlog import RunError

__all__ = ["Curve", "Point", "read_curve", "read_curves"]


def read_curve(path: str | os.PathLike[str]) -> Curve:
    """The one curve of a file or folder. RunError, one line, for anything else; see read_curves."""
    curves = read_curves(path)
    if len(curves) != 1:
        raise RunError(f"{path}: holds {len(curves)} runs. Split them with `python -m dawn import {path} --out DIR`.")
    return curves[0]


def read_curves(path: str | os.PathLike[str]) -> list[Curve]:
    """Every run in a file (an airbench log has many), at least one. RunError, one line, if there is none."""
    return [run_curve(Path(path))]


def run_curve(path: Path) -> Curve:
    """A run of our own by its run.jsonl, on T_total."""
    run = read_run(path)
    rows = run.evaluations
    points = tuple(
        Point(row.epoch + 1, run.hours(row, "total"), row.validation.percent("top1"), row.validation.percent("top5"))
        for row in rows
    )
    clock = "T_total: everything from the first read of training data, evaluation and checkpoints inside"
    return checked(Curve(run.path.parent.name or str(run.path), "run", points, clock, True, False), str(path))
