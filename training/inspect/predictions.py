"""The meter of --inspect: what the network says of every validation image, kept until the validation is over.

Inside the validation it only keeps the logits. Everything is computed at its end, on the device and on the clock's
label `inspect`, a chunk of images at a time: the logits of 50,000 images and 1,000 classes are 200 MB, and no
copy of all of them is made. What is found is stored as arrays; training/inspect/views.py makes tables and pictures of
them after the run.
"""

import io
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_prep.files import write_atomically
from training.data.loader import Batch
from training.distributed.group import Group
from training.inspect.counts import CHUNK, NOTHING, Counts, by_class, calibration_error, called, count, no_counts
from training.logs.metrics import View

COUNTS = "counts.npz"  # of the last validation
FOLDER = "epochs"
DIGITS = 4  # of an epoch in the name of a file


class Images(NamedTuple):
    """(N,) arrays, by row of the split."""

    rows: np.ndarray  # int64
    labels: np.ndarray  # int32
    predicted: np.ndarray  # int32; NOTHING where the logits are not finite
    probability: np.ndarray  # float32, of the predicted class; NaN there
    loss: np.ndarray  # float32, cross entropy without label smoothing; infinite there


class Predictions:
    """See training.logs.metrics.Meter. `device`: the run's, as a rank without images takes part in the sums as well."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self.classes, self.device = classes, device
        self.parts: list[Part] = []

    def update(self, batch: Batch, logits: Tensor) -> None:
        rows = torch.full((len(batch.targets),), -1) if batch.rows is None else batch.rows
        self.parts.append(Part(logits, batch.targets, rows))

    def finish(self, group: Group, view: View | None) -> None:
        counts, images = self.of_this_rank()
        counts = Counts(*map(group.sum, counts))
        parts = [part for rank in group.gather(images) for part in rank]
        if view:
            whole = together(parts)
            save_epoch(view.folder, view.epoch, whole)
            save_counts(view.folder, view.epoch, counts)
            view.scalars(scalars(counts, whole))
            if number := int(counts.not_finite.sum()):
                images = "image has" if number == 1 else "images have"
                view.say(f"epoch {view.epoch + 1}: {number} validation {images} logits that are not finite")

    def of_this_rank(self) -> tuple[Counts, list[Images]]:
        """Counts on the run's device. Starts again from none."""
        counts, found = no_counts(self.classes, self.device), []
        for logits, targets, rows in self.chunks():
            log_probabilities = logits.log_softmax(1)
            probabilities = log_probabilities.exp()
            for total, some in zip(counts, count(probabilities, targets), strict=True):
                total += some
            found.append(images_of(log_probabilities, probabilities, targets, rows))
        return counts, found

    def chunks(self) -> Iterator["Part"]:
        """Batches joined to about CHUNK logits. What has been given is kept no longer."""
        parts, self.parts = deque(self.parts), []
        while parts:
            some = [parts.popleft()]
            while parts and sum(len(part.targets) for part in some) * self.classes < CHUNK:
                some.append(parts.popleft())
            yield Part(*(torch.cat(column) for column in zip(*some, strict=True)))


class Part(NamedTuple):
    logits: Tensor  # (n, C) float32
    targets: Tensor  # (n,) int64
    rows: Tensor  # (n,) int64 on the CPU; -1 of a loader that does not tell rows


def images_of(log_probabilities: Tensor, probabilities: Tensor, targets: Tensor, rows: Tensor) -> Images:
    highest, predicted = called(probabilities)
    loss = -log_probabilities.gather(1, targets[:, None])[:, 0]
    loss = torch.where(predicted == NOTHING, torch.inf, loss)
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


def numbered(epoch: int) -> str:
    """How file names tell an epoch (0-based): counted from 1, as on the console and in the tables."""
    return f"{epoch + 1:04d}"


def epoch_of(stem: str) -> int:
    """0-based, from the end of a file name without its suffix."""
    return int(stem[-DIGITS:]) - 1


def epoch_file(folder: Path, epoch: int) -> Path:
    return folder / FOLDER / f"{numbered(epoch)}.npz"


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
