"""The scalars of a run from its TensorBoard event files: one file, or a folder with a file for each attempt.

A session start at step S, which a resumed run writes, hides everything before it from step S on, as in TensorBoard. The
files of a folder are put in order by these steps, not by their times: a clock may have been set back.
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dawn.importers.tfevents_file import Scalar, Truncated, no_event_file, read_file
from dawn.importers.times import UNITS, unit_since_1970
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
    shift_seconds: float = 0.0  # added to the wall times of the attempt that is being read
    unit_seconds: float = 1.0  # of the wall times in the files

    def of(self, tag: str) -> list[Scalar]:
        return [scalar for scalar in self.scalars if scalar.tag == tag]

    def take_unit(self, wall_time: float) -> None:
        """Find out by the first wall time in which unit all of them are."""
        unit = unit_since_1970(wall_time)
        self.unit_seconds = UNITS[unit or "seconds"]
        if unit is None:
            self.notes.append(f"its wall times ({wall_time!r}) are no times since 1970, they were taken as seconds.")
        elif unit != "seconds":
            self.notes.append(f"its wall times ({wall_time!r}) are in {unit} since 1970, they were read so.")

    def start_session(self, path: Path, step: int, wall_time: float) -> None:
        """A clock that was set back cannot tell the gap before the session, which then counts as 0."""
        wall_time *= self.unit_seconds
        self.scalars = [scalar for scalar in self.scalars if scalar.step < step]
        last = max((scalar.wall_time for scalar in self.scalars), default=None)
        if last is None or wall_time >= last:
            self.shift_seconds = 0.0
        elif wall_time + self.shift_seconds < last:
            self.shift_seconds = last - wall_time
            self.notes.append(
                f"{path.name} goes on at step {step}, but begins {self.shift_seconds:.1f} s before the attempt it goes "
                "on from has ended: the clock was set back. The hours count no time between these two attempts."
            )
        begin = wall_time + self.shift_seconds
        self.sessions.append(Session(path, step, begin, None if last is None else begin - last))

    def add(self, scalar: Scalar) -> None:
        wall_time = scalar.wall_time * self.unit_seconds + self.shift_seconds
        self.scalars.append(scalar._replace(wall_time=wall_time))


def read_event_log(path: str | os.PathLike[str]) -> EventLog:
    """Every scalar of a file or folder, of `simple_value` and tensor form.

    RunError, one line, for a file that is not whole (see tfevents_file), and for a folder with files of several runs.
    A file that a crash cut off is accepted, and told in `notes`, where the next file begins with a session start. So is
    a file without any event beside one that has some.
    """
    path = Path(path)
    log, last_steps, cut = EventLog(path), {}, None
    files = event_files(path, log.notes)
    log.take_unit(first_wall_time(files[0]))
    for file in files:
        cut = add_file(log, file, last_steps, cut)
    if cut:
        raise cut
    if path.is_file() and (others := sum(not without_events(file) for file in files_in(path.parent))) > 1:
        log.notes.append(f"one of {others} event files in {path.parent}; a resumed run has one for each attempt.")
    return log


def event_files(path: Path, notes: list[str]) -> list[Path]:
    """The file itself, or those of a folder in the order of the attempts. RunError if there is none. What lies beside
    them and holds no event is told in `notes`."""
    if not path.is_dir():
        return [path]
    found = {file: without_events(file) for file in sorted(files_in(path))}
    if not found:
        raise RunError(f"{path}: no event file (*{NAME_PART}*) in this folder. Name the file or its folder.")
    kept = [file for file, reason in found.items() if not reason]
    if not kept:
        file, reason = next(iter(found.items()))
        raise RunError(f"{file}: {reason}. No other event file is in this folder.")
    notes += [f"{file.name} was passed over: {reason}." for file, reason in found.items() if reason]
    return sorted(kept, key=begun)


def without_events(path: Path) -> str:
    """Why the file holds no event at all; "" for one that holds some, or may have before it was damaged."""
    if path.name.startswith("._"):
        return "macOS keeps such a file beside another one. Delete it"
    if kind := no_event_file(path):
        return kind
    try:
        next(read_file(path))
    except Truncated:
        return "it ends in its first record, its writer was stopped there"
    except (RunError, StopIteration):
        return ""
    return ""


def files_in(folder: Path) -> list[Path]:
    try:
        return [file for file in folder.iterdir() if NAME_PART in file.name and file.is_file()]
    except OSError as error:
        raise RunError(f"{folder}: {error.strerror}. Give an event file or the folder it lies in.") from None


def begun(path: Path) -> tuple[int, int, float, str]:
    """Where an attempt begins: the step of its session start (-1: it has none), then the second in the name, then the
    time of the first event, as two attempts may begin within a second."""
    second, step, wall_time = re.search(NAME_PART + r"\.(\d{1,18})", path.name), -1, math.inf
    try:
        for event in read_file(path):
            wall_time = min(wall_time, event.wall_time)
            if is_session_start(event):
                step = event.step
            if is_session_start(event) or event.summary.value:
                break
    except RunError:  # it is raised again when the file's turn has come
        pass
    return step, int(second[1]) if second else 0, wall_time, path.name


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
            log.add(item)
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
    plugins: dict[str, str] = {}  # by tag; only the first value of a tag tells its plugin
    for event in read_file(path):
        if is_session_start(event):
            yield event.step, event.wall_time
        for value in event.summary.value:
            plugin = plugins.setdefault(value.tag, value.metadata.plugin_data.plugin_name)
            number = scalar_of(value, plugin)
            if number is not None:
                yield Scalar(value.tag, event.step, event.wall_time, number)


def first_wall_time(path: Path) -> float:
    """Raises as read_file; 0.0 where there is no event."""
    return next((event.wall_time for event in read_file(path)), 0.0)


def is_session_start(event: Any) -> bool:
    from tensorboard.compat.proto.event_pb2 import SessionLog

    return event.HasField("session_log") and event.session_log.status == SessionLog.START


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
