"""Measurements on disk: a JSON file for each key in the user's cache folder. One that cannot be read is named and
passed over."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_prep.files import write_atomically
from training.plan.key import digest_of
from training.plan.work import Checking, Entry, Training

VERSION = 1


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
    peak_bytes: int | None = None  # None: an earlier step of the same process had needed more


@dataclass(frozen=True)
class CheckTime:
    """Of a validation."""

    per_pixel: float  # seconds for each pixel of the network's input
    spread: float
    batches: int  # measured


@dataclass(frozen=True)
class StartTime:
    """Seconds of what comes once, or with each save."""

    init: float
    prepare: float
    warm: float
    checkpoint: float
    precision: str  # what `auto` has chosen
    device: str
    memory_bytes: int  # that a run may take


@dataclass
class Measurements:
    start: StartTime | None = None
    steps: dict[Training, StepTime] = field(default_factory=dict)
    checks: dict[Checking, CheckTime] = field(default_factory=dict)
    entries: dict[Entry, float] = field(default_factory=dict)  # seconds
    flops: dict[tuple[int, bool], int] = field(default_factory=dict)  # to train an image of (pixels, whitening)
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
        content = json.loads(path.read_text())
        if content["version"] != VERSION or content["key"] != key:
            raise ValueError("made for something else")
        return measurements_of(content)
    except FileNotFoundError:
        return Measurements()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        warn(f"{path}: not a file of measurements ({said:.80}); measuring again. Delete it to be rid of this line")
        return Measurements()


def write(key: Mapping[str, Any], found: Measurements, warn: Callable[[str], None]) -> None:
    """A cache that cannot be written costs a line and no plan."""
    path = file_of(key)
    content = {"version": VERSION, "key": dict(key), **content_of(found)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    except OSError as error:
        warn(f"{path}: cannot keep the measurements ({error.strerror}); the next plan measures again")


def content_of(found: Measurements) -> dict[str, Any]:
    return {
        "utc": found.utc,
        "start": asdict(found.start) if found.start else None,
        "steps": [[list(point), asdict(value)] for point, value in found.steps.items()],
        "checks": [[list(point), asdict(value)] for point, value in found.checks.items()],
        "entries": [[list(map(list, entry[:2])), entry.first, value] for entry, value in found.entries.items()],
        "flops": [[list(point), value] for point, value in found.flops.items()],
        "shapes": [[list(point), value] for point, value in found.shapes.items()],
    }


def measurements_of(content: dict[str, Any]) -> Measurements:
    """Raises: ValueError, KeyError, TypeError for what content_of has not made."""
    return Measurements(
        start=StartTime(**content["start"]) if content["start"] else None,
        steps={Training(*point): checked(StepTime(**value)) for point, value in content["steps"]},
        checks={Checking(*point): checked(CheckTime(**value)) for point, value in content["checks"]},
        entries={Entry(Training(*a), Checking(*b), first): float(v) for (a, b), first, v in content["entries"]},
        flops={(int(size), bool(white)): int(value) for (size, white), value in content["flops"]},
        shapes={Checking(*point): float(value) for point, value in content["shapes"]},
        utc=str(content["utc"]),
    )


def checked(value: Any) -> Any:
    """Raises: ValueError for a time that is none."""
    for name, number in asdict(value).items():
        if number is not None and not 0 <= number < 1e15:
            raise ValueError(f"{name} is {number!r:.40}")
    return value
