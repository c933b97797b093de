"""The meter of every validation image: any cut into batches and chunks counts the same."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from training.data.loader import Batch
from training.inspect.counts import CHUNK, count
from training.inspect.predictions import Predictions

CPU = torch.device("cpu")


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            self.elements = max(self.elements, getattr(tensor, "numel", int)())
        return result


def fed(classes: int, images: int, batch: int) -> tuple[Predictions, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    logits, targets = torch.randn(images, classes, generator=generator), torch.arange(images) % classes
    meter = Predictions(classes, CPU)
    for some in torch.arange(images).split(batch):
        meter.update(Batch(torch.empty(0), targets[some], some), logits[some])
    return meter, logits, targets


def test_a_rank_without_images_counts_on_the_device_of_the_run():
    """CPU tensors would not meet the other ranks' in a sum over GPUs."""
    counts, images = Predictions(6, torch.device("meta")).of_this_rank()
    assert all(part.is_meta for part in counts) and images == []
    reference = count(torch.full((1, 6), 1 / 6), torch.tensor([0]))
    assert [(part.shape, part.dtype) for part in counts] == [(part.shape, part.dtype) for part in reference]


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_counts_do_not_depend_on_the_batches(batch):
    meter, logits, targets = fed(6, 60, batch)
    counts, (images,) = meter.of_this_rank()
    whole = count(logits.softmax(1), targets)
    assert all(torch.equal(*pair) for pair in zip(counts[:3], whole[:3], strict=True))
    torch.testing.assert_close(counts.confidence_sum, whole.confidence_sum)
    assert images.rows.tolist() == list(range(60)) and images.predicted.tolist() == logits.argmax(1).tolist()
    assert meter.parts == []


def test_no_copy_of_all_logits_is_made():
    """50,000 images x 1,000 classes are 200 MB, a chunk is 16 MB."""
    meter, logits, targets = fed(1000, 2 * CHUNK // 1000, 256)
    with LargestTensor() as largest:
        counts, parts = meter.of_this_rank()
    assert CHUNK <= largest.elements < CHUNK + 256 * 1000 < logits.numel()
    assert torch.equal(counts.confusion.sum(0), torch.bincount(logits.argmax(1), minlength=1000))
    assert np.concatenate([part.rows for part in parts]).tolist() == list(range(len(targets)))


def test_a_loader_that_does_not_tell_rows():
    meter = Predictions(3, CPU)
    meter.update(Batch(torch.empty(0), torch.tensor([1, 2])), torch.eye(3)[:2])
    assert meter.of_this_rank()[1][0].rows.tolist() == [-1, -1]
