"""evaluations.json of a run folder: what `python -m training evaluate` measured after the run.

It is no part of the run: no clock counts it, and run.jsonl does not know it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dawn.filekind import wrong_kind
from dawn.runlog.fields import Fields
from dawn.runlog.records import Validation
from dawn.runlog.writer import RunError

EVALUATIONS = "evaluations.json"
SHAPES = ("square", "rectangular")
IDENTITY = ("dataset_sha256", "size", "shape", "tta", "weights", "epoch", "step", "resize", "loader", "holdout")
REMEDY = "Restore the file, or delete it and evaluate again."


@dataclass(frozen=True)
class Evaluation:
    """One way of validation. All images were counted once, in fp32."""

    utc: str
    dataset: str  # name
    dataset_sha256: str
    size: int  # pixels of the short side
    shape: str  # of SHAPES
    tta: str  # none | flip
    weights: str  # model | ema
    epoch: int  # trained before these weights were saved, and steps of the next one
    step: int
    resize: float | None  # short side before the crop, in sizes; None: images are not resized before it
    loader: str
    device: str
    world_size: int
    correct1: int
    correct5: int
    k5: int
    images: int
    flops_per_image: float  # a multiply-add counted as two
    seconds: float  # of the pass, loading included
    own: bool  # the setting that the run validates with
    holdout: float = 0.0  # of the training images, see --holdout; 0: validation images

    @property
    def seen(self) -> Validation:
        return Validation(self.correct1, self.correct5, self.images, self.size, self.weights, self.tta, self.k5)

    @property
    def identity(self) -> tuple:
        """Equal for a measurement that replaces another."""
        return tuple(getattr(self, name) for name in IDENTITY)


def read_evaluations(folder: Path) -> list[Evaluation]:
    """In the order that they were made first; none where the folder has no such file. RunError for a damaged one."""
    path = folder / EVALUATIONS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        reason = wrong_kind(path) or f"cannot be read ({str(error)[:80]})"
        raise RunError(f"{path}: {reason}. {REMEDY}") from None
    if not isinstance(content, list):
        raise RunError(f"{path}: must be a list. {REMEDY}")
    return [evaluation(f"{path}: entry {number}", item) for number, item in enumerate(content, 1)]


def evaluation(where: str, item: Any) -> Evaluation:
    if not isinstance(item, dict):
        raise RunError(f"{where}: is {item!r:.40}. It must be an object. {REMEDY}")
    fields = Fields(where, item)
    images, k5 = fields.count("images", 1), fields.count("k5", 1)
    correct5 = fields.count("correct5", 0, images)
    return Evaluation(
        fields.utc(),
        *(fields.text(name) for name in ("dataset", "dataset_sha256")),
        fields.count("size", 1),
        fields.choice("shape", SHAPES),
        *(fields.text(name) for name in ("tta", "weights")),
        *(fields.count(name) for name in ("epoch", "step")),
        fields.number_or_none("resize", 0),
        *(fields.text(name) for name in ("loader", "device")),
        fields.count("world_size", 1),
        fields.count("correct1", 0, correct5),
        correct5,
        k5,
        images,
        *(fields.number(name, 0) for name in ("flops_per_image", "seconds")),
        bool(fields.flag_or_none("own")),
        fields.optional_number("holdout", 0) or 0.0,
    )


def merged(before: Iterable[Evaluation], new: Iterable[Evaluation]) -> list[Evaluation]:
    """A repeated measurement stands where the first one stood."""
    return list({item.identity: item for item in (*before, *new)}.values())


def encoded(items: Iterable[Evaluation]) -> bytes:
    """The content of the file, an entry a line."""
    lines = ",\n".join(json.dumps(asdict(item)) for item in items)
    return f"[\n{lines}\n]\n".encode()
