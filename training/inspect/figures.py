"""Pictures of an inspected run, drawn after it."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from training.inspect.counts import Counts, calibration_error, curve, drawn_classes
from training.inspect.gradients import NORM
from training.inspect.pictures import short
from training.inspect.tables import confused_pairs

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#5F6670"  # Okabe and Ito: told apart with every common colour blindness
MOST_CLASSES = 30  # in one map
MOST_LAYERS, MOST_LETTERS = 60, 34  # names beside a map


@contextmanager
def figure(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """A matplotlib figure and its axes that need no display and heed no user settings."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context(["default", {"font.size": 9, "text.parse_math": False}]):
        made = Figure(figsize=(width, height), dpi=110, layout="constrained")
        FigureCanvasAgg(made)
        yield made, made.add_subplot()


def png(made: Any) -> bytes:
    stream = io.BytesIO()
    made.canvas.print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def confusion_figure(counts: Counts, names: list[str]) -> bytes:
    """The whole matrix of up to 30 classes, as shares of each label; of more the most confused pairs."""
    if len(names) > MOST_CLASSES:
        return pairs_figure(counts, names)
    matrix = counts.confusion.numpy()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = 3 + 0.32 * len(names)
    with figure(side + 1, side) as (made, axes):
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        places = range(len(names))
        axes.set_xticks(places, [short(name) for name in names], rotation=90)
        axes.set_yticks(places, [short(name) for name in names])
        axes.set_xlabel("prediction"), axes.set_ylabel("label")
        for i, j in zip(*matrix.nonzero(), strict=True):
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=7, color=colour)
        axes.set_title(f"{int(matrix.sum())} validation images: label and prediction")
        return png(made)


def pairs_figure(counts: Counts, names: list[str]) -> bytes:
    pairs = confused_pairs(counts)
    with figure(8, 1.2 + 0.2 * max(len(pairs), 4)) as (made, axes):
        axes.barh(range(len(pairs)), [images for *_, images in pairs], color=BLUE)
        axes.set_yticks(range(len(pairs)), [f"{short(names[i])} as {short(names[j])}" for i, j, _ in pairs])
        axes.invert_yaxis()
        axes.set_xlabel("validation images")
        axes.set_title("most confused pairs: label as prediction")
        return png(made)


def calibration_figure(counts: Counts) -> bytes:
    """Accuracy over confidence, and how the highest probabilities of right and wrong images are distributed."""
    wrong, right = counts.confidence.numpy()
    images, bins = wrong + right, len(wrong)
    middle = (np.arange(bins) + 0.5) / bins
    there = images > 0
    with figure(6, 4) as (made, axes):
        axes.bar(middle, right, 0.9 / bins, color=BLUE, alpha=0.5, label="right images")
        axes.bar(middle, wrong, 0.9 / bins, bottom=right, color=ORANGE, alpha=0.5, label="wrong images")
        axes.set_xlabel("highest probability"), axes.set_ylabel("validation images")
        shares = axes.twinx()
        shares.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfectly calibrated")
        means = counts.confidence_sum.numpy()[there] / images[there]
        shares.plot(means, right[there] / images[there], color="black", marker="o", markersize=3, label="accuracy")
        shares.set_ylim(0, 1.03), shares.set_ylabel("accuracy")
        (bars, words), (lines, more) = (part.get_legend_handles_labels() for part in (axes, shares))
        axes.legend(bars + lines, words + more, loc="upper left", fontsize=8)
        error = f"expected error {100 * calibration_error(counts):.2f} %"
        axes.set_title(f"calibration: {error if there.any() else 'no image has finite logits'}")
        return png(made)


def predicted_figure(counts: Counts, names: list[str]) -> bytes:
    """How often each class was named against how often it is there; of many classes those that are furthest off."""
    images, predicted = counts.images.numpy(), counts.confusion.sum(0).numpy()
    order = np.argsort(-np.abs(predicted - images), kind="stable")[:MOST_CLASSES]
    with figure(6, 1.4 + 0.2 * len(order)) as (made, axes):
        places = np.arange(len(order))
        axes.barh(places - 0.2, images[order], 0.38, color=GREY, label="images")
        axes.barh(places + 0.2, predicted[order], 0.38, color=BLUE, label="predictions")
        axes.set_yticks(places, [short(names[i]) for i in order])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.35 * max(images.max(), predicted.max(), 1))  # room for the legend
        axes.legend(loc="upper right", fontsize=8)
        axes.set_title("images and predictions of each class")
        return png(made)


def curves_figure(counts: Counts, names: list[str]) -> bytes:
    """Precision over recall."""
    chosen = drawn_classes(counts)
    others, own = counts.scores
    with figure(7, 5) as (made, axes):
        for place, number in enumerate(chosen):
            points = curve(own[number], others[number])
            colour = f"C{place % 10}"
            style = "-" if place < 10 else "--"
            axes.step(points.recall, points.precision, color=colour, linestyle=style, label=short(names[number]))
        axes.set_xlabel("recall"), axes.set_ylabel("precision"), axes.set_ylim(0, 1.02)
        axes.legend(fontsize=7, loc="lower left")
        axes.set_title("precision and recall of each class, one against all others")
        return png(made)


def gradients_figure(names: np.ndarray, images_seen: np.ndarray, facts: np.ndarray) -> bytes:
    """Norms of every layer's gradients, the first layer on top, over time. `names` (L,), `images_seen` (S,), `facts`
    (S, L, F). Grey: a gradient that is zero or not finite."""
    norms = facts[:, :, NORM].T
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = np.ma.masked_invalid(np.log10(norms))
    with figure(8, 1.6 + 0.17 * min(len(names), MOST_LAYERS)) as (made, axes):
        axes.set_facecolor("#B0B4BA")
        mesh = axes.pcolormesh(np.arange(len(images_seen) + 1), np.arange(len(names) + 1), powers, cmap="cividis")
        every = -(-len(names) // MOST_LAYERS)
        axes.set_yticks(np.arange(len(names))[::every] + 0.5, [tail(str(name)) for name in names[::every]], fontsize=7)
        marks = np.unique(np.linspace(0, len(images_seen) - 1, 6).round().astype(int))
        axes.set_xticks(marks + 0.5, [f"{images_seen[mark]:,}" for mark in marks])
        axes.invert_yaxis(), axes.set_xlabel("training images seen")
        made.colorbar(mesh, ax=axes, label="log10 of the norm")
        axes.set_title("gradients of the layers, the input on top (grey: zero, as of a frozen layer)")
        return png(made)


def tail(name: str) -> str:
    """The end of a layer's name says which it is."""
    return name if len(name) <= MOST_LETTERS else f"…{name[1 - MOST_LETTERS :]}"
