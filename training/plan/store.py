"""Measurements on disk: a JSON file for each key in the user's cache folder. One that cannot be read is named and
passed over."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_prep import DataError
from data_prep.files import one_writer, write_atomically
from training.plan.key import digest_of
from training.plan.work import Checking, Entry, Training

VERSION = 3
POINTS = ("steps", "checks", "entries", "flops", "saved", "shapes")  # fields of Measurements that grow
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class StepTime:
    """Medians of single training steps, in seconds a step of one process."""

    loader: float  # that the loader needs for a batch, alone
    model: float  # that a step takes on a batch that is there
    joint: float  # of both together, as a run has them
    wait: float  # the part of `joint` in which the step waits for its batch
    spread: float  # half the range of the measured steps, as a share of `joint`
    steps: int  # measured
    first: float = 0.0  # what the first step of this kind took longer
    peak_bytes: int | None = None  # of the process in such steps alone, or of the GPU's allocator; None: not known
    image_bytes: float = 0.0  # that each image of the batch adds; 0: not known


@dataclass(frozen=True)
class CheckTime:
    """Of a validation."""

    per_pixel: float  # seconds for each pixel of the network's input
    spread: float
    batches: int  # measured
    peak_bytes: int = 0  # as StepTime's, on top of what the steps before have freed; 0: not known


@dataclass(frozen=True)
class EntryTime:
    """Of entering a data phase."""

    seconds: float
    peak_bytes: int = 0  # as StepTime's; 0: not known


@dataclass(frozen=True)
class StartTime:
    """Seconds of what comes once, or with each save."""

    init: float
    prepare: float
    warm: float  # for each shape of a training batch
    checkpoint: float
    precision: str  # what `auto` has chosen
    device: str
    memory_bytes: int  # that a run may take
    peak_flops: float = 0.0  # a second, of a large matrix product
    checkpoint_bytes: int = 0  # that one takes on top of what is in memory, freed blocks included; 0: not known


@dataclass
class Measurements:
    start: StartTime | None = None
    steps: dict[Training, StepTime] = field(default_factory=dict)
    checks: dict[Checking, CheckTime] = field(default_factory=dict)
    entries: dict[Entry, EntryTime] = field(default_factory=dict)
    flops: dict[tuple[int, bool], int] = field(default_factory=dict)  # to train an image of (pixels, whitening)
    saved: dict[tuple[int, bool], int] = field(default_factory=dict)  # fp32 bytes that an image keeps for its gradient
    shapes: dict[Checking, float] = field(default_factory=dict)  # mean pixels of a validation image
    utc: str = ""


def cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "dawn-harness" / "plan"


def file_of(key: Mapping[str, Any]) -> Path:
    return cache_folder() / f"{digest_of(key)}.json"


def read(key: Mapping[str, Any], warn: Callable[[str], None]) -> Measurements:
    """What is known for `key`; nothing, and a line through `warn`, for a file that does not hold that."""
    path = file_of(key)
    try:
        return on_disk(path, key)
    except UNREADABLE as error:
        said = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        warn(f"{path}: not a file of measurements ({said:.80}); measuring again. Delete it to be rid of this line")
        return Measurements()


def on_disk(path: Path, key: Mapping[str, Any]) -> Measurements:
    """Nothing where there is no file. Raises: UNREADABLE for one that does not hold measurements for `key`."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return Measurements()
    if content["version"] != VERSION or content["key"] != key:
        raise ValueError("made for something else")
    return measurements_of(content)


def refresh(key: Mapping[str, Any], found: Measurements) -> None:
    """Into `found`, what other processes have kept since it was read. Theirs counts where both have measured a point,
    so that a plan from the cache says what this process says; of what every measurement tells anew, the later one."""
    with suppress(*UNREADABLE):
        other = on_disk(file_of(key), key)
        if other.start and (not found.start or other.utc > found.utc):
            found.start, found.utc = other.start, other.utc
        for name in POINTS:
            setattr(found, name, getattr(found, name) | getattr(other, name))


def write(key: Mapping[str, Any], found: Measurements, warn: Callable[[str], None]) -> None:
    """Beside what is there: one process at a time, and `found` then holds what others have kept. A cache that cannot
    be written costs a line and no plan."""
    path = file_of(key)
    try:
        with one_writer(path.parent, wait=True):
            refresh(key, found)
            content = {"version": VERSION, "key": dict(key), **content_of(found)}
            write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    except DataError as error:
        warn(f"{error} The measurements are not kept: the next plan measures again")


def content_of(found: Measurements) -> dict[str, Any]:
    return {
        "utc": found.utc,
        "start": asdict(found.start) if found.start else None,
        "steps": [[list(point), asdict(value)] for point, value in found.steps.items()],
        "checks": [[list(point), asdict(value)] for point, value in found.checks.items()],
        "entries": [[list(map(list, entry[:2])), entry.first, asdict(value)] for entry, value in found.entries.items()],
        "flops": [[list(point), value] for point, value in found.flops.items()],
        "saved": [[list(point), value] for point, value in found.saved.items()],
        "shapes": [[list(point), value] for point, value in found.shapes.items()],
    }


def measurements_of(content: dict[str, Any]) -> Measurements:
    """Raises: ValueError, KeyError, TypeError for what content_of has not made."""
    return Measurements(
        start=StartTime(**content["start"]) if content["start"] else None,
        steps={Training(*point): checked(StepTime(**value)) for point, value in content["steps"]},
        checks={Checking(*point): checked(CheckTime(**value)) for point, value in content["checks"]},
        entries={
            Entry(Training(*a), Checking(*b), first): checked(EntryTime(**value))
            for (a, b), first, value in content["entries"]
        },
        flops={(int(size), bool(white)): int(value) for (size, white), value in content["flops"]},
        saved={(int(size), bool(white)): int(value) for (size, white), value in content["saved"]},
        shapes={Checking(*point): float(value) for point, value in content["shapes"]},
        utc=str(content["utc"]),
    )


def checked(value: Any) -> Any:
    """Raises: ValueError for a time that is none."""
    for name, number in asdict(value).items():
        if number is not None and not 0 <= number < 1e15:
            raise ValueError(f"{name} is {number!r:.40}")
    return value
