"""Reading the result of any training code we know as a Curve; the kind of a file is told by its content."""

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from dawn.commandline import quoted
from dawn.importers.console_logs import console_curve, is_console_line
from dawn.importers.csv_tables import is_table_header, table_curve, unknown_column
from dawn.importers.curve import Curve, Point, checked, curve_from_json
from dawn.importers.json_logs import DEIT_KEYS, FFCV_KEYS, deit_curve, ffcv_curve
from dawn.importers.lines import KNOWN, Line, Text
from dawn.importers.mlperf_logs import is_mlperf, mlperf_curves
from dawn.importers.options import Options
from dawn.importers.text_tables import airbench_curves, event_log_curve, is_airbench_header, is_tsv_header, tsv_curve
from dawn.importers.tfevents_file import is_event_file
from dawn.importers.tfevents_scalars import NAME_PART, files_in, read_event_log, without_events
from dawn.importers.tfevents_tables import evaluations, gap_note
from dawn.runlog.run import LOG_NAME, read_run
from dawn.runlog.writer import RunError
from dawn.tables import plain

__all__ = ["Curve", "Point", "read_curve", "read_curves"]

EVENTS = f"*{NAME_PART}*"
IN_A_FOLDER = (LOG_NAME, EVENTS, "event.log", "log", "summary.csv", "log.txt")  # the first of these that is there
SAYS_NOTHING = {"log", "event", "events", "run", "result", "output", "stdout", "summary"}  # names of files, not of runs


def read_curve(path: str | os.PathLike[str], options: Options = Options()) -> Curve:  # noqa: B008 - frozen
    """The one curve of a file or folder. RunError, one line, for anything else; see read_curves."""
    curves = read_curves(path, options)
    if len(curves) != 1:
        raise RunError(
            f"{path}: holds {len(curves)} runs. Split them with `python -m dawn import {quoted(path)} --out DIR`."
        )
    return curves[0]


def read_curves(path: str | os.PathLike[str], options: Options = Options()) -> list[Curve]:  # noqa: B008 - frozen
    """Every run in a file (an airbench log has many), at least one. RunError, one line, if there is none.

    Of a folder, run.jsonl is read, else the event files, else an event.log, the log of ffcv-imagenet, timm's
    summary.csv or DeiT's log.txt. options: what the log itself does not tell.
    """
    path = Path(path)
    if path.is_dir():
        path = in_folder(path)
    if path.is_dir() or NAME_PART in path.name or is_event_file(path):
        curves = [event_curve(path)]
    else:
        curves = text_curves(path, options)
    if options.hours_per_epoch is not None and any(curve.clock != options.clock for curve in curves):
        raise RunError(f"--hours-per-epoch: {path} tells its times itself. Leave the flag out.")
    return [checked(replace(curve, name=plain(curve.name)), f"{path}") for curve in curves]


def in_folder(folder: Path) -> Path:
    """The file to read; the folder itself for event files, of which there may be several."""
    there = [pattern for pattern in IN_A_FOLDER if any(folder.glob(pattern))]
    if EVENTS in there and all(map(without_events, files_in(folder))):
        there = [pattern for pattern in there if pattern != EVENTS] or [EVENTS]
    if not there:
        raise RunError(f"{folder}: no log of a run in this folder. {KNOWN}")
    return folder if there[0] == EVENTS else folder / there[0]


def name_of(path: Path) -> str:
    """The name of a file without its ending, or of its folder where that says more."""
    is_vague = path.stem in SAYS_NOTHING or NAME_PART in path.name
    return (path.resolve().parent.name if is_vague else path.stem) or path.name


def run_curve(path: Path) -> Curve:
    """A run of our own by its run.jsonl, on T_total."""
    run = read_run(path)
    points = tuple(
        Point(row.until, run.hours(row, "total"), row.validation.percent("top1"), row.validation.percent("top5"))
        for row in run.evaluations
    )
    clock = "T_total: everything from the first read of training data, evaluation and checkpoints inside"
    return Curve(name_of(run.path), "run", points, clock, True, False)


def event_curve(path: Path) -> Curve:
    """An event file or a folder of them, on the 2018 clock."""
    log = read_event_log(path)
    rows = evaluations(log)
    points = tuple(Point(row.epoch, row.hours, row.top1, row.top5) for row in rows)
    clock = "wall time from the event `first`, evaluation inside (2018: set-up too), in resumed runs the gaps as well"
    notes = (*log.notes, *gap_note(log, rows[-1].wall_time))
    return Curve(path.resolve().name if path.is_dir() else name_of(path), "events", points, clock, True, None, notes)


class Reader(NamedTuple):
    """knows: is this line the first one of such a log? curves: of (name, path, the lines from that one on, options)."""

    knows: Callable[[Line], bool]
    curves: Callable[[str, str, Iterable[Line], Options], list[Curve]]


def text_curves(path: Path, options: Options) -> list[Curve]:
    """The first line that a reader knows decides, as it stands or without what a tool has put before it."""
    text = Text(path)
    unknown = ""
    lines, table = iter(text), Reader(lambda line: is_table_header(line, options), table_curve)
    for line in lines:
        as_it_stands = () if options.columns else READERS
        for first, readers in ((line, as_it_stands), (line.bare, (*as_it_stands, table)), (line, (table,))):
            if reader := next((reader for reader in readers if reader.knows(first)), None):
                rest = lines if first == line else (later.bare for later in lines)
                curves = reader.curves(name_of(path), str(path), chain([first], rest), options)
                return [replace(curve, notes=(*text.notes, *curve.notes)) for curve in curves]
        unknown = unknown or (unknown_column(line) and f"{line.where}: {unknown_column(line)}")
    if options.columns:
        names = ", ".join(map(repr, options.columns.values()))
        raise RunError(f"{path}: no line with the columns {names:.200}. Name them as the header of the table does.")
    raise RunError(unknown or f"{path}: of no kind that is known. {KNOWN}")


def has_keys(keys: set[str]) -> Callable[[Line], bool]:
    """Is the line a JSON object with one of these keys?"""

    def knows(line: Line) -> bool:
        if not line.text.lstrip().startswith("{"):
            return False
        fields = line._replace(whole=False).fields(line.text)
        return fields is not None and bool(keys & fields.values.keys())

    return knows


def own_curves(name: str, where: str, lines: Iterable[Line], options: Options) -> list[Curve]:
    """One curve a line, as curve_json writes them."""
    found = [line for line in lines if line.text.strip()]
    fields = [line._replace(whole=True).fields(line.text) for line in found]
    return [curve_from_json(line.where, item.values) for line, item in zip(found, fields, strict=True)]


READERS = (
    Reader(is_mlperf, mlperf_curves),
    Reader(lambda line: line.text.startswith("~~"), event_log_curve),
    Reader(lambda line: is_airbench_header(line.text), airbench_curves),
    Reader(lambda line: is_tsv_header(line.text), tsv_curve),
    Reader(has_keys({"curve"}), own_curves),
    Reader(has_keys({"event"}), lambda name, where, lines, options: [run_curve(Path(where))]),
    Reader(has_keys(FFCV_KEYS), ffcv_curve),
    Reader(has_keys(DEIT_KEYS), deit_curve),
    Reader(is_console_line, console_curve),
)
