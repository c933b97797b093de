"""Counts of a validation against scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch

from training.inspect.counts import (
    THRESHOLDS,
    average_precision,
    by_class,
    calibration_error,
    count,
    curve,
    roc_auc,
)

CLASSES = 7


@pytest.fixture(scope="module")
def seen():
    """Probabilities and targets of 900 images; class 5 has no image, class 6 is never called."""
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(CLASSES - 2, (900,), generator=generator)
    targets[:20] = 6
    logits = torch.randn(900, CLASSES, generator=generator)
    logits[torch.arange(900), targets] += 1.5
    logits[:, 6] -= 20
    return logits.softmax(1), targets


def binned(probabilities):
    return (probabilities * (THRESHOLDS - 1)).long().numpy()


def test_pairs_and_classes_are_scikit_learns(seen):
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    probabilities, targets = seen
    counts = count(probabilities, targets)
    predicted = probabilities.argmax(1)
    labels = range(CLASSES)
    assert counts.confusion.tolist() == confusion_matrix(targets, predicted, labels=labels).tolist()
    found = by_class(counts)
    expected = precision_recall_fscore_support(targets, predicted, labels=labels, zero_division=np.nan)
    for ours, theirs in zip((found.precision, found.recall), expected, strict=False):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    np.testing.assert_allclose(found.f1[:5], expected[2][:5], atol=1e-12)
    assert found.images.tolist() == expected[3].tolist() and found.predicted[6] == 0


def test_average_precision_and_auc_are_scikit_learns_of_the_binned_scores(seen):
    from sklearn.metrics import average_precision_score, roc_auc_score

    probabilities, targets = seen
    counts, scores = count(probabilities, targets), binned(probabilities)
    others, own = counts.scores
    for number in (0, 1, 2, 3, 4, 6):
        is_own = (targets == number).numpy()
        ap = average_precision_score(is_own, scores[:, number])
        assert float(average_precision(own[number], others[number])) == pytest.approx(ap, abs=1e-9)
        auc = roc_auc_score(is_own, scores[:, number])
        assert float(roc_auc(own[number], others[number])) == pytest.approx(auc, abs=1e-9)
    assert torch.isnan(average_precision(own[5], others[5])) and torch.isnan(roc_auc(own[5], others[5]))


@pytest.mark.slow  # torchmetrics takes seconds to import
def test_curves_and_calibration_are_torchmetrics(seen):
    from torchmetrics.functional.classification import binary_precision_recall_curve, multiclass_calibration_error

    probabilities, targets = seen
    counts = count(probabilities, targets)
    others, own = counts.scores
    points = curve(own[1], others[1])
    precision, recall, _ = binary_precision_recall_curve(
        probabilities[:, 1], (targets == 1).long(), thresholds=torch.arange(THRESHOLDS) / (THRESHOLDS - 1)
    )
    called = (points.true_positives + points.false_positives) > 0
    torch.testing.assert_close(points.precision[called].float(), precision[:-1][called], atol=1e-6, rtol=0)
    torch.testing.assert_close(points.recall.float(), recall[:-1], atol=1e-6, rtol=0)
    theirs = multiclass_calibration_error(probabilities, targets, CLASSES, n_bins=15, norm="l1")
    assert calibration_error(counts) == pytest.approx(float(theirs), abs=1e-6)


def test_parts_add_up_to_the_whole(seen):
    """As the ranks of a run do."""
    probabilities, targets = seen
    halves = [count(probabilities[part::2], targets[part::2]) for part in (0, 1)]
    for whole, one, other in zip(count(probabilities, targets), *halves, strict=True):
        torch.testing.assert_close(one + other, whole)


def test_images_whose_logits_are_not_finite_are_counted_apart(seen):
    """Wrong, in no bin of the calibration, below all others in the curves; a mask of minus infinity is finite."""
    probabilities, targets = seen
    lost = torch.tensor([[float("nan"), 1], [float("inf"), 1], [-float("inf")] * 2, [1, -float("inf")]]).softmax(1)
    lost = torch.cat([lost, torch.zeros(4, CLASSES - 2)], 1)
    lost[:3, 2:] = float("nan")
    before = count(probabilities, targets)
    counts = count(torch.cat([probabilities, lost]), torch.cat([targets, torch.tensor([0, 1, 1, 0])]))
    assert counts.not_finite.tolist() == [1, 2, 0, 0, 0, 0, 0] and counts.images.sum() == 904
    pairs, bins = counts.confusion - before.confusion, counts.confidence - before.confidence
    assert pairs.sum() == pairs[0, 0] == bins.sum() == bins[1, -1] == 1  # the image with a masked class
    assert np.isfinite(calibration_error(counts))
    found, was = by_class(counts), by_class(before)
    assert found.recall[1] == 114 / (189 + 2) < was.recall[1]
    assert found.precision[1] == was.precision[1] and found.average_precision[1] < was.average_precision[1]
    assert (counts.scores.sum((0, 2)) == 904).all()


def test_a_single_class_is_called_for_everything():
    counts = count(torch.tensor([[0.9, 0.1]] * 4), torch.tensor([0, 0, 1, 1]))
    found = by_class(counts)
    assert found.recall.tolist() == [1, 0] and found.precision[0] == 0.5 and torch.isnan(found.precision[1])
