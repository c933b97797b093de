"""The meter of --inspect: what the network says of every validation image, kept until the validation is over.

Inside the validation it only keeps the logits. Everything is computed at its end, on the device and on the clock's
label `inspect`, and stored as arrays; training/inspect/views.py makes tables and pictures of them after the run.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_prep.files import write_atomically
from training.data.loader import Batch
from training.distributed.group import Group
from training.inspect.counts import Counts, by_class, calibration_error, count
from training.logs.metrics import View

COUNTS = "counts.npz"  # of the last validation


class Images(NamedTuple):
    """(N,) arrays, by row of the split."""

    rows: np.ndarray  # int64
    labels: np.ndarray  # int32
    predicted: np.ndarray  # int32
    probability: np.ndarray  # float32, of the predicted class
    loss: np.ndarray  # float32, cross entropy without label smoothing


class Predictions:
    """See training.logs.metrics.Meter. `views`: whose logits were added to one (2 with --tta flip)."""

    def __init__(self, classes: int, views: int) -> None:
        self.classes, self.views = classes, views
        self.parts: list[tuple[Batch, Tensor]] = []

    def update(self, batch: Batch, logits: Tensor) -> None:
        self.parts.append((batch._replace(images=None), logits))

    def finish(self, group: Group, view: View | None) -> None:
        logits, targets, rows = self.of_this_rank()
        log_probabilities = (logits / self.views).log_softmax(1)
        probabilities = log_probabilities.exp()
        counts = Counts(*(group.sum(part) for part in count(probabilities, targets)))
        parts = group.gather(images_of(log_probabilities, probabilities, targets, rows))
        if view:
            images = together(parts)
            save_epoch(view.folder, view.epoch, images)
            save_counts(view.folder, view.epoch, counts)
            view.scalars(scalars(counts, images))

    def of_this_rank(self) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (n, C), targets (n,), rows (n,); of a loader that does not tell rows: -1. Starts again from none."""
        parts, self.parts = self.parts, []
        if not parts:
            return torch.empty(0, self.classes), torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
        rows = [torch.full((len(b.targets),), -1) if b.rows is None else b.rows for b, _ in parts]
        return torch.cat([part for _, part in parts]), torch.cat([batch.targets for batch, _ in parts]), torch.cat(rows)


def images_of(log_probabilities: Tensor, probabilities: Tensor, targets: Tensor, rows: Tensor) -> Images:
    highest, predicted = probabilities.max(1)
    loss = -log_probabilities.gather(1, targets[:, None])[:, 0]
    return Images(
        rows.numpy(),
        targets.int().cpu().numpy(),
        predicted.int().cpu().numpy(),
        highest.cpu().numpy(),
        loss.cpu().numpy(),
    )


def together(parts: list[Images]) -> Images:
    """Those of all ranks, by row: the same file whatever the number of ranks."""
    whole = Images(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    order = np.argsort(whole.rows, kind="stable")
    return Images(*(column[order] for column in whole))


def scalars(counts: Counts, images: Images) -> dict[str, float]:
    found = by_class(counts)
    return {
        "validation/loss": float(images.loss.mean()),
        "validation/ece": calibration_error(counts),
        "validation/macro_f1": float(found.f1.nanmean()),
        "validation/macro_average_precision": float(found.average_precision.nanmean()),
    }


def epoch_file(folder: Path, epoch: int) -> Path:
    return folder / "epochs" / f"{epoch:04d}.npz"


def save_epoch(folder: Path, epoch: int, images: Images) -> None:
    path = epoch_file(folder, epoch)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, npz(images._asdict()))


def save_counts(folder: Path, epoch: int, counts: Counts) -> None:
    arrays = {name: part.cpu().numpy() for name, part in counts._asdict().items()}
    write_atomically(folder / COUNTS, npz(arrays | {"epoch": np.array(epoch)}, compressed=True))


def npz(arrays: dict[str, np.ndarray], compressed: bool = False) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()
