"""The scalars of a run from its TensorBoard event files: one file, or a folder with a file for each attempt.

A session start at step S, which a resumed run writes, hides everything before it from step S on, as in TensorBoard.
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dawn.importers.tfevents_file import Scalar, Truncated, read_file
from dawn.runlog.writer import RunError

NAME_PART = "tfevents"
SCALARS_PLUGIN = "scalars"


@dataclass(frozen=True)
class Session:
    """A session start. gap_seconds: wall time since the last scalar before it that still counts; None: there is none.

    The gap holds the work that was lost, the time nothing ran, and the start of the new attempt up to its first event.
    """

    path: Path
    step: int  # what was written before it from this step on is hidden
    wall_time: float
    gap_seconds: float | None


@dataclass
class EventLog:
    """Scalars in the order they were written, the hidden ones left out."""

    path: Path
    scalars: list[Scalar] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what a reader should be told

    def of(self, tag: str) -> list[Scalar]:
        return [scalar for scalar in self.scalars if scalar.tag == tag]

    def start_session(self, path: Path, step: int, wall_time: float) -> None:
        self.scalars = [scalar for scalar in self.scalars if scalar.step < step]
        gap = wall_time - max(s.wall_time for s in self.scalars) if self.scalars else None
        self.sessions.append(Session(path, step, wall_time, gap))


def read_event_log(path: str | os.PathLike[str]) -> EventLog:
    """Every scalar of a file or folder, of `simple_value` and tensor form.

    RunError, one line, for a file that is not whole (see event_file), and for a folder with files of several runs.
    A file that a crash cut off is accepted, and told in `notes`, where the next file begins with a session start.
    """
    path = Path(path)
    log, last_steps, cut = EventLog(path), {}, None
    for file in event_files(path):
        cut = add_file(log, file, last_steps, cut)
    if cut:
        raise cut
    if path.is_file() and len(others := files_in(path.parent)) > 1:
        log.notes.append(f"one of {len(others)} event files in {path.parent}; a resumed run has one for each attempt.")
    return log


def event_files(path: Path) -> list[Path]:
    """The file itself, or those of a folder by the time they were begun. RunError if there is none."""
    if not path.is_dir():
        return [path]
    found = files_in(path)
    if not found:
        raise RunError(f"{path}: no event file (*{NAME_PART}*) in this folder. Name the file or its folder.")
    return sorted(found, key=begun)


def files_in(folder: Path) -> list[Path]:
    try:
        return [file for file in folder.iterdir() if NAME_PART in file.name and file.is_file()]
    except OSError as error:
        raise RunError(f"{folder}: {error.strerror}. Give an event file or the folder it lies in.") from None


def begun(path: Path) -> tuple[int, float, str]:
    """The second in the name, then the time of the first event: two attempts may begin within a second."""
    second = re.search(NAME_PART + r"\.(\d{1,18})", path.name)
    try:
        wall_time = next(read_file(path)).wall_time
    except RunError:  # it is raised again when the file's turn has come
        wall_time = math.inf
    return int(second[1]) if second else 0, wall_time, path.name


def add_file(log: EventLog, path: Path, last_steps: dict[str, int], cut: Truncated | None) -> Truncated | None:
    """Add a file. cut, also returned: the verdict on a file that ends in a record and waits for a session start.
    last_steps, by tag: of the files before it; with this file's afterwards."""
    sessions, steps = len(log.sessions), {}
    is_next = bool(last_steps or cut)
    try:
        for item in scalars_and_starts(path):
            if not isinstance(item, Scalar):
                log.start_session(path, *item)
                continue
            if is_next and len(log.sessions) == sessions:
                refuse_mixture(path, item, last_steps, cut)
            log.scalars.append(item)
            steps[item.tag] = max(item.step, steps.get(item.tag, item.step))
    except Truncated as verdict:
        new_cut = verdict
    else:
        new_cut = None
    if cut and len(log.sessions) == sessions:
        raise cut
    if cut:
        log.notes.append(f"{cut} The next attempt, {path.name}, went on from step {log.sessions[sessions].step}.")
    last_steps |= steps
    return new_cut


def refuse_mixture(path: Path, scalar: Scalar, last_steps: dict[str, int], cut: Truncated | None) -> None:
    """A file without a session start may only go on where the ones before it ended."""
    if cut:
        raise cut
    if scalar.step <= last_steps.get(scalar.tag, -1):
        raise RunError(
            f"{path}: writes {scalar.tag!r:.60} at step {scalar.step} again, without a session start: the folder holds "
            "more than one run. Name one file."
        )


def scalars_and_starts(path: Path) -> Iterator[Scalar | tuple[int, float]]:
    """Each scalar of a file, and (step, wall time) of each session start."""
    from tensorboard.compat.proto.event_pb2 import SessionLog

    plugins: dict[str, str] = {}  # by tag; only the first value of a tag tells its plugin
    for event in read_file(path):
        if event.HasField("session_log") and event.session_log.status == SessionLog.START:
            yield event.step, event.wall_time
        for value in event.summary.value:
            plugin = plugins.setdefault(value.tag, value.metadata.plugin_data.plugin_name)
            number = scalar_of(value, plugin)
            if number is not None:
                yield Scalar(value.tag, event.step, event.wall_time, number)


def scalar_of(value: Any, plugin: str) -> float | None:
    """The number of a summary value; None if it is something else, e.g. an image."""
    if value.HasField("simple_value"):
        return value.simple_value
    # A new-style scalar is a tensor, of which TensorBoard's accumulator keeps ten a tag (tensorboard#5488).
    if not value.HasField("tensor") or plugin not in ("", SCALARS_PLUGIN):
        return None
    return number_of(value.tensor)


def number_of(tensor: Any) -> float | None:
    """None unless it is one real number. The shape is looked at first: it may claim to be huge."""
    from tensorboard.util.tensor_util import make_ndarray

    if any(dimension.size != 1 for dimension in tensor.tensor_shape.dim):
        return None
    try:
        array = make_ndarray(tensor)
    except (TypeError, ValueError):
        return None
    return float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "fiub" else None
