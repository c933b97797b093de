"""Checkpoints that survive a kill at any instant: two generations, each complete, named with its hash in an index
written last."""

import hashlib
import io
import json
import pickle
import re
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from data_prep.files import write_atomically
from dawn.commandline import quoted
from dawn.filekind import wrong_kind, wrong_kind_of
from training.errors import ConfigError, Preempted

INDEX = "checkpoints.json"
GENERATIONS = 2
DIGITS = 8  # of the SHA-256 in a file's name, so that a file can be verified without the index
NAME = re.compile(rf"epoch(\d{{4,}})-step(\d{{6,}})-([0-9a-f]{{{DIGITS}}})\.pt")


class Saver:
    """Writes the checkpoints of one run into FOLDER/checkpoints. `before_write` sees the file and its bytes first
    (fault injection). `attempt` of the run stands in each, so that their order is known without the index."""

    def __init__(
        self,
        folder: Path,
        before_write: Callable[[Path, bytes], None] = lambda path, data: None,
        attempt: int = 0,
    ) -> None:
        self.folder, self.before_write, self.attempt = folder / "checkpoints", before_write, attempt
        self.saved_at = time.monotonic()  # or begun
        self.written: set[str] = set()  # names of the files of this attempt

    def save(self, content: dict[str, Any]) -> Path:
        """Write `content` as the newest generation. Raises: ConfigError when the disk refuses it; older generations
        stay."""
        counters = content["state"]["counters"]
        buffer = io.BytesIO()
        torch.save(content | {"attempt": self.attempt}, buffer)
        data = buffer.getvalue()
        digest = hashlib.sha256(data).hexdigest()  # in the name: a save never writes over a file that the index lists
        path = self.folder / f"epoch{counters['epoch']:04d}-step{counters['step']:06d}-{digest[:DIGITS]}.pt"
        try:
            self.write(path, data, {"sha256": digest, **counters})
        except OSError as error:
            before = "The one before is whole" if generations(self.folder) else "There is none before"
            raise ConfigError(
                f"{path}: cannot save the checkpoint ({error.strerror}). {before}: "
                f"free some space and go on with --resume {quoted(self.folder.parent)}"
            ) from error
        self.saved_at = time.monotonic()
        return path

    def is_due(self, minutes: float) -> bool:
        """Whether the last save is longer ago than --checkpoint-minutes; 0: never inside an epoch."""
        return bool(minutes) and time.monotonic() - self.saved_at > 60 * minutes

    def preempted(self, signal: str, done: str) -> Preempted:
        """To raise after the save that a signal asked for. `done`: how far the run came."""
        return Preempted(f"{signal} after {done}; saved. Go on with --resume {quoted(self.folder.parent)}")

    def write(self, path: Path, data: bytes, about: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        others = (g for g in generations(self.folder) if g["file"] != path.name)
        older = list(islice(filter(self.is_whole, others), GENERATIONS - 1))
        self.before_write(path, data)
        write_atomically(path, data)
        kept = [{"file": path.name, "bytes": len(data), **about}, *older]
        write_atomically(self.folder / INDEX, json.dumps(kept, indent=1).encode())
        self.remove_all_but({generation["file"] for generation in kept})
        self.written.add(path.name)

    def is_whole(self, generation: dict) -> bool:
        """A damaged one that a resume has passed over must not stand in the way of the one that it has used."""
        if generation["file"] in self.written:
            return True
        try:
            return bool(read_generation(self.folder / generation["file"], generation))
        except ValueError:
            return False

    def remove_all_but(self, names: set[str]) -> None:
        for path in self.folder.iterdir():
            if path.name != INDEX and path.name not in names:
                path.unlink()


def read_index(folder: Path) -> list[dict]:
    """Generations, newest first; none when there is no readable index."""
    try:
        generations = json.loads((folder / INDEX).read_text())
        return [
            g
            for g in generations
            if Path(g["file"]).name == g["file"] and {"bytes", "sha256", "epoch", "step"} <= g.keys()
        ]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return []


def generations(folder: Path, warn: Callable[[str], None] = lambda text: None) -> list[dict]:
    """Those of the index, newest first; without a readable one those that the files themselves tell, with a note."""
    listed = read_index(folder)
    if listed or not folder.is_dir():
        return listed
    found = newest_first(folder, [one for path in folder.iterdir() for one in named_generation(path)])
    if found:
        warn(
            f"{folder / INDEX}: lost or damaged; reading the checkpoints themselves ({len(found)} found), "
            f"{found[0]['file']} first, the newest by attempt, epoch and step"
        )
    return found


def newest_first(folder: Path, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A later attempt is newer, also at an earlier step: a run may have gone on from the older generation. Only of two
    at one place the file times decide, which a copy of the folder may change. A damaged file counts as of the last
    attempt, so that it is named."""
    attempts = [attempt_of(folder, generation) for generation in found]
    last = max((attempt for attempt in attempts if attempt is not None), default=0)

    def order(number: int) -> tuple[int, int, int, int]:
        attempt, one = attempts[number], found[number]
        time_ns = (folder / one["file"]).stat().st_mtime_ns
        return last if attempt is None else attempt, one["epoch"], one["step"], time_ns

    return [found[number] for number in sorted(range(len(found)), key=order, reverse=True)]


def attempt_of(folder: Path, generation: dict[str, Any]) -> int | None:
    """None where the file does not tell it."""
    try:
        attempt = read_generation(folder / generation["file"], generation).get("attempt")
    except ValueError:
        return None
    return attempt if isinstance(attempt, int) else None


def named_generation(path: Path) -> list[dict[str, Any]]:
    """What a checkpoint's name and size tell, `sha256` with as many digits as the name has; none for another file or
    a missing one."""
    match = NAME.fullmatch(path.name)
    if not match or not path.is_file():
        return []
    epoch, step, digits = match.groups()
    place = {"epoch": int(epoch), "step": int(step)}
    return [{"file": path.name, "bytes": path.stat().st_size, "sha256": digits, **place}]


def load(place: Path, warn: Callable[[str], None]) -> dict[str, Any]:
    """The newest whole checkpoint of a run folder, or one named file of it. A damaged one is named through `warn` and
    the older one is used.

    Raises: ConfigError when none is whole.
    """
    folder = place / "checkpoints" if place.is_dir() else place.parent
    if place.is_dir():
        found = generations(folder, warn)
    else:
        found = [g for g in read_index(folder) if g["file"] == place.name] or named_generation(place)
    for number, generation in enumerate(found, start=1):
        path = folder / generation["file"]
        try:
            return read_generation(path, generation)
        except ValueError as error:
            warn(f"{path}: {error}" + ("; falling back to the checkpoint before" if number < len(found) else ""))
    if not found and place.is_file() and (kind := wrong_kind(place, "zip")):
        raise ConfigError(f"{place}: {kind}")
    raise ConfigError(
        f"{place}: no whole checkpoint there" + (f" ({len(found)} damaged)" if found else "") + ". Start a new run"
    )


def read_generation(path: Path, generation: dict) -> dict[str, Any]:
    """Raises: ValueError for a file that is missing, short or changed. Loads tensors and plain values only."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"unreadable ({error.strerror})") from None
    recorded = str(generation["sha256"])
    is_whole = len(recorded) >= DIGITS and hashlib.sha256(data).hexdigest().startswith(recorded)
    if len(data) != generation["bytes"] or not is_whole:
        kind = wrong_kind_of(data, path, "zip")
        raise ValueError(kind or f"damaged: {len(data)} bytes on disk do not match the recorded hash")
    try:
        # weights_only has had holes: CVE-2025-32434 before torch 2.6, CVE-2026-24747 before 2.10.
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        raise ValueError("not a checkpoint: it holds more than tensors and plain values") from None
