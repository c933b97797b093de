"""The tables of an inspected run as CSV: pairs of classes, classes, worst images."""

import csv
import io
from collections.abc import Iterable

import torch

from training.inspect.counts import NOTHING, Counts, by_class
from training.inspect.history import Suspect, Worst

MOST_PAIRS = 30


def confusion_csv(counts: Counts, names: list[str]) -> str:
    """Rows: labels; columns: predictions."""
    return text(["label", *names], ([name, *row] for name, row in zip(names, counts.confusion.tolist(), strict=True)))


def confused_pairs(counts: Counts, most: int = MOST_PAIRS) -> list[tuple[int, int, int]]:
    """(label, prediction, images) of the most confused pairs, the largest number first."""
    wrong = counts.confusion.clone().fill_diagonal_(0).flatten()
    images, places = wrong.sort(descending=True, stable=True)
    classes, count = len(counts.confusion), min(most, int((images > 0).sum()))
    return [(int(p) // classes, int(p) % classes, int(n)) for p, n in zip(places[:count], images[:count], strict=True)]


def classes_csv(counts: Counts, names: list[str]) -> str:
    """The worst class, by F1, first. A cell is empty where its number has no value."""
    found = by_class(counts)
    order = torch.argsort(found.f1.nan_to_num(2.0), stable=True).tolist()
    header = ["label", "class", "precision", "recall", "f1", "average_precision", "roc_auc", "images", "predicted"]
    header.append("not_finite")  # of the images
    whole = (found.images, found.predicted, counts.not_finite)
    numbers = (found.precision, found.recall, found.f1, found.average_precision, found.roc_auc)
    rows = ([i, names[i], *(share(part[i]) for part in numbers), *(int(part[i]) for part in whole)] for i in order)
    return text(header, rows)


def share(value: torch.Tensor) -> str:
    return "" if torch.isnan(value) else f"{float(value):.4f}"


def calibration_csv(counts: Counts) -> str:
    """Per bin of the highest probability: images, those that were right, mean probability."""
    bins, wrong, right = len(counts.confidence_sum), *counts.confidence.tolist()
    rows = (
        [f"{i / bins:.4f}", f"{(i + 1) / bins:.4f}", w + r, r, f"{float(total) / (w + r):.4f}" if w + r else ""]
        for i, (w, r, total) in enumerate(zip(wrong, right, counts.confidence_sum, strict=True))
    )
    return text(["from", "to", "images", "right", "mean_probability"], rows)


def worst_csv(worst: list[Worst], names: list[str], files: list[str], epochs: list[int]) -> str:
    header = ["file", "label", "prediction", "probability", "loss", *(f"rank_epoch_{epoch + 1}" for epoch in epochs)]
    rows = ([files[w.row], names[w.label], *prediction(w, names), f"{w.loss:.4f}", *w.ranks] for w in worst)
    return text(header, rows)


def prediction(worst: Worst, names: list[str]) -> tuple[str, str]:
    """And its probability; empty of an image whose logits are not finite."""
    return ("", "") if worst.predicted == NOTHING else (names[worst.predicted], f"{worst.probability:.4f}")


def suspects_csv(found: list[Suspect], names: list[str], files: list[str]) -> str:
    header = ["file", "label", "prediction", "score", "validations_wrong", "validations"]
    rows = ([files[s.row], names[s.label], names[s.predicted], f"{s.score:.4f}", s.wrong, s.of] for s in found)
    return text(header, rows)


def text(header: list, rows: Iterable[list]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    return stream.getvalue()
