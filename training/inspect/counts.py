"""What a validation says beyond top-1 and top-5, as counts in tensors: pairs of classes, scores in bins, calibration.

torchmetrics gives the same numbers (the tests compare), but its curves of 1,000 classes take minutes: here one pass of
`bincount` counts the scores of all classes at once.
"""

from typing import NamedTuple

import torch
from torch import Tensor

THRESHOLDS = 127  # of TensorBoard's precision-recall curves
CALIBRATION_BINS = 15  # Guo et al., arXiv:1706.04599
MOST_CURVES = 10  # of the worst classes, and of the best, in pictures and in TensorBoard
NOTHING = -1  # in the place of a class
CHUNK = 2**22  # scores counted at once, so that 1,000 classes take no more memory than 10


class Counts(NamedTuple):
    """Of the images of one rank, or of all: whole numbers, and float64 sums of probabilities."""

    confusion: Tensor  # (C, C) int64: images of class i that were called class j
    not_finite: Tensor  # (C,) int64: images of class i that were called nothing, as their logits are not finite
    scores: Tensor  # (2, C, THRESHOLDS) int64: probabilities of class c in bins, of other images and of its own
    confidence: Tensor  # (2, CALIBRATION_BINS) int64: highest probabilities in bins, of wrong and right images
    confidence_sum: Tensor  # (CALIBRATION_BINS,) float64

    @property
    def images(self) -> Tensor:
        """(C,) int64, those that were called nothing as well."""
        return self.confusion.sum(1) + self.not_finite


def no_counts(classes: int, device: torch.device) -> Counts:
    """Of no image."""
    shapes = (classes, classes), (classes,), (2, classes, THRESHOLDS), (2, CALIBRATION_BINS)
    sums = torch.zeros(CALIBRATION_BINS, dtype=torch.float64, device=device)
    return Counts(*(torch.zeros(shape, dtype=torch.int64, device=device) for shape in shapes), sums)


def count(probabilities: Tensor, targets: Tensor) -> Counts:
    """`probabilities` (N, C) float32, `targets` (N,) int64 on one device. Of an image whose logits are not finite they
    are NaN: it is in no bin of the calibration, and in the lowest bin of all scores."""
    classes = probabilities.shape[1]
    highest, predicted = called(probabilities)
    finite = predicted != NOTHING
    pairs = torch.where(finite, targets * classes + predicted, classes**2 + targets)
    pairs = torch.bincount(pairs, minlength=classes**2 + classes)
    highest = torch.where(finite, highest, 0)
    bins = (highest * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1  # (0, 1/15] is the first
    right = (predicted == targets).long()
    places = torch.where(finite, right * CALIBRATION_BINS + bins, 2 * CALIBRATION_BINS)
    confidence = torch.bincount(places, minlength=2 * CALIBRATION_BINS + 1)[:-1]
    sums = torch.zeros(CALIBRATION_BINS, dtype=torch.float64, device=bins.device).index_add_(0, bins, highest.double())
    confusion, not_finite = pairs.split([classes**2, classes])
    scores = score_bins(probabilities, targets)
    return Counts(confusion.reshape(classes, classes), not_finite, scores, confidence.reshape(2, -1), sums)


def called(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The highest probability of each image, and its class: NaN and NOTHING where the logits are not finite, that is
    where the softmax has no value. A class that is masked by minus infinity has one, 0."""
    highest, predicted = probabilities.max(1)
    return highest, torch.where(highest.isnan(), NOTHING, predicted)


def score_bins(probabilities: Tensor, targets: Tensor) -> Tensor:
    """(2, C, THRESHOLDS) int64. A score is in bin b when b/126 is the largest threshold that it reaches. An image has
    at most 126 scores above bin 0, so only those are counted, and bin 0 is what is left."""
    classes = probabilities.shape[1]
    found = torch.zeros(2 * classes * THRESHOLDS, dtype=torch.int64, device=probabilities.device)
    for some, own in zip(*(part.split(max(1, CHUNK // classes)) for part in (probabilities, targets)), strict=True):
        scaled = some * (THRESHOLDS - 1)
        image, of_class = (scaled >= 1).nonzero(as_tuple=True)
        is_own = (own[image] == of_class).long()
        places = (is_own * classes + of_class) * THRESHOLDS + scaled[image, of_class].long()
        found += torch.bincount(places, minlength=len(found))
    bins, images = found.reshape(2, classes, THRESHOLDS), torch.bincount(targets, minlength=classes)
    bins[:, :, 0] = torch.stack([len(targets) - images, images]) - bins.sum(2)
    return bins


class ByClass(NamedTuple):
    """(C,) float64 each, in 0..1; NaN where a class has no image (recall, average precision, ROC AUC), was never called
    (precision), or neither (F1)."""

    precision: Tensor
    recall: Tensor
    f1: Tensor
    average_precision: Tensor
    roc_auc: Tensor
    images: Tensor  # int64
    predicted: Tensor  # int64


def by_class(counts: Counts) -> ByClass:
    confusion = counts.confusion.double()
    right, images, predicted = confusion.diagonal(), counts.images, confusion.sum(0)
    f1 = 2 * right / (images + predicted)
    others, own = counts.scores
    return ByClass(
        right / predicted,
        right / images,
        f1,
        average_precision(own, others),
        roc_auc(own, others),
        counts.images,
        counts.confusion.sum(0),
    )


class Curve(NamedTuple):
    """At each threshold, (..., THRESHOLDS) int64: images at or above it, and below."""

    true_positives: Tensor
    false_positives: Tensor
    true_negatives: Tensor
    false_negatives: Tensor

    @property
    def precision(self) -> Tensor:
        """1 where nothing is called positive."""
        called = self.true_positives + self.false_positives
        return torch.where(called > 0, self.true_positives.double() / called.clamp_min(1), 1.0)

    @property
    def recall(self) -> Tensor:
        """NaN without a positive image."""
        return self.true_positives.double() / (self.true_positives + self.false_negatives)


def curve(own: Tensor, others: Tensor) -> Curve:
    """From scores in bins (..., THRESHOLDS)."""
    above, false_above = (part.flip(-1).cumsum(-1).flip(-1) for part in (own, others))
    return Curve(above, false_above, others.sum(-1, keepdim=True) - false_above, own.sum(-1, keepdim=True) - above)


def average_precision(own: Tensor, others: Tensor) -> Tensor:
    """(...) float64: sum of precision times step of recall (scikit-learn's average_precision_score of the binned
    scores)."""
    points = curve(own, others)
    recall = points.recall
    steps = recall - torch.cat([recall[..., 1:], torch.zeros_like(recall[..., :1])], -1)
    return (points.precision * steps).sum(-1)


def drawn_classes(counts: Counts) -> list[int]:
    """Those with images, from the worst average precision to the best; of many the first and the last MOST_CURVES."""
    others, own = counts.scores
    order = torch.argsort(average_precision(own, others).nan_to_num(2.0), stable=True).tolist()
    there = [number for number in order if own[number].any()]
    return there if len(there) <= 2 * MOST_CURVES else [*there[:MOST_CURVES], *there[-MOST_CURVES:]]


def roc_auc(own: Tensor, others: Tensor) -> Tensor:
    """(...) float64: the chance that an image of the class scores higher than another; ties count a half. NaN without
    images of either kind."""
    below = others.cumsum(-1) - others
    wins = (own * below).sum(-1).double() + (own * others).sum(-1).double() / 2
    return wins / (own.sum(-1).double() * others.sum(-1).double())


def calibration_error(counts: Counts) -> float:
    """ECE: mean gap of confidence and accuracy over the bins, weighted by their images (arXiv:1706.04599). NaN where
    no image has finite logits."""
    images = counts.confidence.sum(0)
    gaps = (counts.confidence[1].double() - counts.confidence_sum).abs()
    return float(gaps.sum() / images.sum())
