"""Checkpoints that survive a kill at any instant: two generations, each complete, named with its hash in an index
written last."""

import hashlib
import io
import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from data_prep.files import write_atomically
from training.errors import ConfigError, Preempted

INDEX = "checkpoints.json"
GENERATIONS = 2


class Saver:
    """Writes the checkpoints of one run into FOLDER/checkpoints. `before_write` sees the file and its bytes first
    (fault injection)."""

    def __init__(self, folder: Path, before_write: Callable[[Path, bytes], None] = lambda path, data: None) -> None:
        self.folder, self.before_write = folder / "checkpoints", before_write
        self.saved_at = time.monotonic()  # or begun

    def save(self, content: dict[str, Any]) -> Path:
        """Write `content` as the newest generation. Raises: ConfigError when the disk refuses it; older generations
        stay."""
        counters = content["state"]["counters"]
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data = buffer.getvalue()
        digest = hashlib.sha256(data).hexdigest()  # in the name: a save never writes over a file that the index lists
        path = self.folder / f"epoch{counters['epoch']:04d}-step{counters['step']:06d}-{digest[:8]}.pt"
        try:
            self.write(path, data, {"sha256": digest, **counters})
        except OSError as error:
            before = "The one before is whole" if read_index(self.folder) else "There is none before"
            raise ConfigError(
                f"{path}: cannot save the checkpoint ({error.strerror}). {before}: "
                f"free some space and go on with --resume {self.folder.parent}"
            ) from error
        self.saved_at = time.monotonic()
        return path

    def is_due(self, minutes: float) -> bool:
        """Whether the last save is longer ago than --checkpoint-minutes; 0: never inside an epoch."""
        return bool(minutes) and time.monotonic() - self.saved_at > 60 * minutes

    def preempted(self, signal: str, done: str) -> Preempted:
        """To raise after the save that a signal asked for. `done`: how far the run came."""
        return Preempted(f"{signal} after {done}; saved. Go on with --resume {self.folder.parent}")

    def write(self, path: Path, data: bytes, about: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        older = [g for g in read_index(self.folder) if g["file"] != path.name][: GENERATIONS - 1]
        self.before_write(path, data)
        write_atomically(path, data)
        newest = {"file": path.name, "bytes": len(data), **about}
        write_atomically(self.folder / INDEX, json.dumps([newest, *older], indent=1).encode())
        self.remove_all_but({g["file"] for g in [newest, *older]})

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


def load(place: Path, warn: Callable[[str], None]) -> dict[str, Any]:
    """The newest whole checkpoint of a run folder, or one named file of it. A damaged one is named through `warn` and
    the older one is used.

    Raises: ConfigError when none is whole.
    """
    folder = place / "checkpoints" if place.is_dir() else place.parent
    generations = [g for g in read_index(folder) if place.is_dir() or g["file"] == place.name]
    for generation in generations:
        path = folder / generation["file"]
        try:
            return read_generation(path, generation)
        except ValueError as error:
            warn(f"{path}: {error}; falling back to the checkpoint before")
    raise ConfigError(
        f"{place}: no whole checkpoint there"
        + (f" ({len(generations)} damaged)" if generations else "")
        + ". Start a new run"
    )


def read_generation(path: Path, generation: dict) -> dict[str, Any]:
    """Raises: ValueError for a file that is missing, short or changed. Loads tensors and plain values only."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"unreadable ({error.strerror})") from None
    if len(data) != generation["bytes"] or hashlib.sha256(data).hexdigest() != generation["sha256"]:
        raise ValueError(f"damaged: {len(data)} bytes on disk do not match the recorded hash")
    try:
        # weights_only has had holes: CVE-2025-32434 before torch 2.6, CVE-2026-24747 before 2.10.
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        raise ValueError("not a checkpoint: it holds more than tensors and plain values") from None
