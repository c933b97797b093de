"""Validation images over the epochs of a run: which were hardest, and which look mislabelled."""

from typing import NamedTuple

import numpy as np

from training.inspect.counts import NOTHING
from training.inspect.predictions import Images

LATE = 0.5  # share of the epochs, the last ones, that a suspicion rests on: early on a network is wrong about anything


class Worst(NamedTuple):
    """An image and its loss in the last validation; `ranks` (1: the largest loss) over the validations."""

    row: int
    label: int
    predicted: int  # NOTHING where its logits are not finite
    probability: float
    loss: float
    ranks: tuple[int, ...]


def worst_images(images: dict[int, Images], most: int) -> list[Worst]:
    """By loss of the last validation, largest first; equal losses by row."""
    seen = [images[epoch] for epoch in sorted(images)]
    ranks = np.stack([ranks_of(one.loss) for one in seen], 1)
    last = seen[-1]
    return [
        Worst(
            int(last.rows[i]),
            int(last.labels[i]),
            int(last.predicted[i]),
            float(last.probability[i]),
            float(last.loss[i]),
            tuple(ranks[i].tolist()),
        )
        for i in np.argsort(-last.loss, kind="stable")[:most]
    ]


def ranks_of(loss: np.ndarray) -> np.ndarray:
    """(N,) int64, 1 for the largest."""
    ranks = np.empty(len(loss), np.int64)
    ranks[np.argsort(-loss, kind="stable")] = np.arange(1, len(loss) + 1)
    return ranks


class Suspect(NamedTuple):
    """`score`: mean margin over the late validations, the logarithm of how many times as probable the predicted class
    is as the label; 0 in those that agreed with the label. `predicted`: the class that was named most often there."""

    row: int
    label: int
    predicted: int
    score: float
    wrong: int  # late validations that disagreed with the label
    of: int


def suspects(images: dict[int, Images]) -> list[Suspect]:
    """Images that are wrong with high confidence epoch after epoch, most suspicious first.

    A network that has learned the classes keeps calling a mislabelled image what it is. A mean over epochs tells this
    from a hard image, whose class changes, and the margin of the logits from one between two similar classes, whose
    label is the second choice (Pleiss et al., arXiv:2001.10528: area under the margin).
    """
    epochs = sorted(images)
    late = [images[epoch] for epoch in epochs[int(len(epochs) * (1 - LATE)) :]]
    wrong = np.stack([disagrees(one) for one in late])
    score = np.stack([margin(one) for one in late]).mean(0)
    predicted = np.stack([one.predicted for one in late])
    found = []
    for i in np.argsort(-score, kind="stable"):
        if not score[i]:
            break
        names, times = np.unique(predicted[wrong[:, i], i], return_counts=True)
        row, label = int(late[-1].rows[i]), int(late[-1].labels[i])
        found.append(
            Suspect(row, label, int(names[times.argmax()]), float(score[i]), int(wrong[:, i].sum()), len(late))
        )
    return found


def margin(images: Images) -> np.ndarray:
    """(N,) float64: ln(probability of the prediction / that of the label), the difference of their logits."""
    probability = np.maximum(images.probability.astype(np.float64), np.finfo(np.float32).tiny)
    difference = np.maximum(0, images.loss + np.log(probability))
    return np.where(disagrees(images), difference, 0)


def disagrees(images: Images) -> np.ndarray:
    """(N,) bool: called another class than its label. An image whose logits are not finite is called nothing."""
    return (images.predicted != images.labels) & (images.predicted != NOTHING)
