"""Sheets of pictures: the batches of an epoch with the largest and the smallest loss, and where the network looks."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_prep.files import write_atomically
from training.data.loader import Batch, Loader
from training.distributed.group import Group
from training.inspect.counts import NOTHING, called
from training.inspect.pictures import NoMap, caption, looks, sheet, strip, to_levels
from training.inspect.predictions import numbered
from training.inspect.tables import MOST_PAIRS
from training.logs.metrics import View

FOLDER = "sheets"
MOST = 12  # pictures on a sheet
PAIRS = "pairs"
IN_STRIP = 6  # pictures of a pair


class TrainingBatches:
    """See training.logs.metrics.Watch. Losses, predictions and probabilities of all images stay on the device; the two
    batches are rendered again at the end of the epoch, as the sample plan can, and shown before they were mixed."""

    def __init__(self, loader: Loader, names: list[str]) -> None:
        self.loader, self.names = loader, names
        self.seen: dict[int, tuple[Tensor, Tensor, Tensor]] = {}  # by step: loss, prediction, probability of each image

    def batch(self, number: int, batch: Batch, logits: Tensor, loss: Tensor) -> None:
        self.seen[number] = facts_of(logits, batch.targets)

    def is_due(self, number: int) -> bool:
        return False

    def gradients(self, images_seen: int) -> None: ...

    def updated(self) -> None: ...

    def finish(self, group: Group, view: View | None) -> None:
        """All ranks render their part of the two batches of largest and smallest mean loss."""
        seen, self.seen = self.seen, {}
        first = getattr(self.loader, "first_step", 0)  # of the phase: an earlier one's pictures cannot be made now
        numbers = sorted(number for number in seen if number >= first)
        if not numbers:
            return
        means = group.sum(torch.stack([seen[number][0].mean() for number in numbers]).double()).tolist()
        epoch = group.gather(view.epoch if view else None)[0]
        for kind, choose in (("largest", max), ("smallest", min)):
            number = numbers[means.index(choose(means))]
            with closing(self.loader.train(epoch, number)) as batches:
                parts = group.gather(self.part(next(batches), seen[number]))
            if view:
                save(view, f"training-{kind}-loss", *chosen(parts, kind))

    def part(self, batch: Batch, facts: tuple[Tensor, Tensor, Tensor]) -> list[tuple[float, np.ndarray, str]]:
        """Loss, picture and caption of this rank's images."""
        pictures = to_levels(batch.images, self.loader.mean, self.loader.std)
        return list(captioned(pictures, batch.targets, facts, self.names))


class ValidationBatches:
    """See training.logs.metrics.Meter: the validation batches of the largest and the smallest mean loss. With two or
    more ranks the batches of all are compared."""

    def __init__(self, loader: Loader, names: list[str]) -> None:
        self.loader, self.names = loader, names
        self.seen: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []

    def update(self, batch: Batch, logits: Tensor) -> None:
        if batch.rows is not None:
            self.seen.append((batch.rows, batch.targets, *facts_of(logits, batch.targets)))

    def finish(self, group: Group, view: View | None) -> None:
        seen, self.seen = self.seen, []
        mine = [(float(loss.mean()), *(part.cpu() for part in parts)) for parts in seen for loss in [parts[2]]]
        ends = [min(mine, key=lambda one: one[0]), max(mine, key=lambda one: one[0])] if mine else []
        every = [one for rank in group.gather(ends) for one in rank]
        if view and every:
            for kind, choose in (("largest", max), ("smallest", min)):
                _, rows, targets, *facts = choose(every, key=lambda one: (one[0], -int(one[1][0])))
                pictures = still_levels(self.loader, rows)
                save(
                    view,
                    f"validation-{kind}-loss",
                    *chosen([list(captioned(pictures, targets, facts, self.names))], kind),
                )


class Confused:
    """See training.logs.metrics.Meter: of the pairs of classes that the last validation confused most, a strip of the
    images with the largest loss. Rank 0 alone renders."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.seen: list[tuple[Tensor, ...]] = []  # row, label, prediction and loss of each image

    def update(self, batch: Batch, logits: Tensor) -> None:
        if batch.rows is not None:
            loss, predicted, _ = facts_of(logits, batch.targets)
            self.seen.append((batch.rows, batch.targets, predicted, loss))

    def finish(self, group: Group, view: View | None) -> None:
        columns = [
            torch.cat(parts).tolist() for parts in zip(*(map(Tensor.cpu, one) for one in self.seen), strict=True)
        ]
        self.seen = []
        wrong = [one for one in zip(*columns, strict=True) if one[1] != one[2] != NOTHING]
        pairs: dict[tuple[int, int], list[tuple[float, int]]] = {}
        for row, label, predicted, loss in (one for rank in group.gather(wrong) for one in rank):
            pairs.setdefault((label, predicted), []).append((-loss, row))
        if view:
            most = sorted(pairs, key=lambda pair: (-len(pairs[pair]), pair))[:MOST_PAIRS]
            self.save(view.folder / PAIRS, {pair: [row for _, row in sorted(pairs[pair])[:IN_STRIP]] for pair in most})

    def save(self, folder: Path, rows: dict[tuple[int, int], list[int]]) -> None:
        """In the place of those of the validation before."""
        folder.mkdir(parents=True, exist_ok=True)
        files = {folder / f"{label}-{predicted}.png": chosen for (label, predicted), chosen in rows.items()}
        for path in set(folder.glob("*.png")) - files.keys():
            path.unlink()
        for path, some in files.items():
            write_atomically(path, strip(still_levels(self.loader, torch.tensor(some))))


class Looks:
    """See training.logs.metrics.Meter: Grad-CAM of the same validation images in every epoch, so that one sees where
    the network looks as the size grows, and of those with the largest loss. Rank 0 alone draws. A phase whose images
    are too small for the network to have a map has none, and says so."""

    def __init__(self, loader: Loader, model: Callable[[], nn.Module], names: list[str]) -> None:
        self.loader, self.model, self.names = loader, model, names
        self.rows = np.linspace(0, loader.validation_images - 1, MOST).round().astype(np.int64)
        self.seen: list[tuple[Tensor, Tensor]] = []  # loss and row of each image

    def update(self, batch: Batch, logits: Tensor) -> None:
        if batch.rows is not None:
            self.seen.append((facts_of(logits, batch.targets)[0], batch.rows))

    def finish(self, group: Group, view: View | None) -> None:
        worst = self.worst(group)
        if not view:
            return
        try:
            self.draw(view, "grad-cam", np.unique(self.rows).tolist())
            if worst:
                self.draw(view, "grad-cam-worst", worst)
        except NoMap as error:
            view.say(f"epoch {view.epoch + 1}: no Grad-CAM: {error}")

    def worst(self, group: Group) -> list[int]:
        """Rows of the largest losses of all ranks, the largest first."""
        seen, self.seen = self.seen, []
        loss, rows = (torch.cat([one[i].cpu() for one in seen]) if seen else torch.empty(0) for i in range(2))
        mine = [(-float(loss[i]), int(rows[i])) for i in loss.argsort(descending=True)[:MOST]]
        return [row for _, row in sorted(one for rank in group.gather(mine) for one in rank)[:MOST]]

    def draw(self, view: View, name: str, rows: list[int]) -> None:
        still = self.loader.pictures("validation", torch.tensor(rows))
        shown, logits = looks(self.model(), still, lambda images: to_levels(images, self.loader.mean, self.loader.std))
        probability, predicted = called(logits.softmax(1))
        pairs = zip(predicted.tolist(), probability.tolist(), strict=True)
        words = [f"{name_of(p, self.names)} {x:.2f}" for p, x in pairs]
        save(view, name, shown, words)


def facts_of(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B,) each: cross entropy, prediction, its probability; infinite, NOTHING and NaN where the logits are not finite.
    Stay on the device."""
    logits = logits.float()
    probability, predicted = called(logits.softmax(1))
    loss = F.cross_entropy(logits, targets, reduction="none")
    return torch.where(predicted == NOTHING, torch.inf, loss), predicted, probability


def captioned(
    pictures: np.ndarray, targets: Tensor, facts, names: list[str]
) -> Iterator[tuple[float, np.ndarray, str]]:
    columns = (part.tolist() for part in (targets, *facts))
    for picture, label, loss, predicted, probability in zip(pictures, *columns, strict=True):
        yield loss, picture, caption(names[label], name_of(predicted, names), probability, loss)


def name_of(predicted: int, names: list[str]) -> str:
    return "not finite" if predicted == NOTHING else names[predicted]


def chosen(parts: list[list[tuple[float, np.ndarray, str]]], kind: str) -> tuple[list[np.ndarray], list[str]]:
    """The most telling pictures of a batch, whatever rank they were on."""
    every = sorted((one for part in parts for one in part), key=lambda one: one[0], reverse=kind == "largest")[:MOST]
    return [picture for _, picture, _ in every], [words for *_, words in every]


def still_levels(loader: Loader, rows: Tensor) -> np.ndarray:
    return to_levels(loader.pictures("validation", rows), loader.mean, loader.std)


def save(view: View, name: str, pictures: list[np.ndarray], captions: list[str]) -> None:
    path = sheet_file(view.folder, name, view.epoch)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, sheet(pictures, captions))


def sheet_file(folder: Path, name: str, epoch: int) -> Path:
    return folder / FOLDER / f"{name}-{numbered(epoch)}.png"
