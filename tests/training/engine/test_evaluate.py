"""Validation against a plain loop: exact counts, nothing of the model changed."""

import pytest
import torch
from tiny_run import train
from torch import nn

from training.data.loader import Batch
from training.engine.evaluate import evaluate
from training.engine.precision import Precision
from training.engine.state import fingerprint
from training.logs.metrics import Counts, correct_counts
from training.models.cifarnet import CifarNet

FP32 = Precision("fp32", "cpu")
IMAGES = torch.randn(53, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def batches(targets: torch.Tensor, size: int) -> list[Batch]:
    return [Batch(IMAGES[i : i + size], targets[i : i + size]) for i in range(0, len(targets), size)]


def labels(classes: int) -> torch.Tensor:
    return torch.randint(classes, (len(IMAGES),), generator=torch.Generator().manual_seed(2))


def plain_counts(model: nn.Module, targets: torch.Tensor, mirrored: bool = False) -> tuple[int, int]:
    """One image at a time, in eval mode, by sorting."""
    model.eval()
    correct1 = correct5 = 0
    with torch.no_grad():
        for image, target in zip(IMAGES, targets.tolist(), strict=True):
            logits = model(image[None])[0]
            if mirrored:
                logits = logits + model(image[None].flip(3))[0]
            ranked = logits.sort(descending=True).indices.tolist()
            correct1 += ranked[0] == target
            correct5 += target in ranked[:5]
    return correct1, correct5


@pytest.mark.parametrize("size", [1, 10, 53, 100])  # 53 = 5 x 10 + 3
@pytest.mark.parametrize("classes", [3, 10])
@pytest.mark.parametrize("tta", ["none", "flip"])
def test_counts_equal_a_plain_loop(size, classes, tta):
    model, targets = CifarNet(classes, 0.125), labels(classes)
    counts = evaluate(model, batches(targets, size), 53, FP32, tta)
    assert counts == Counts(*plain_counts(model, targets, tta == "flip"), 53, min(5, classes))
    assert all(type(value) is int for value in counts)


def test_top_5_of_three_classes_counts_every_image():
    assert evaluate(CifarNet(3, 0.125), batches(labels(3), 20), 53, FP32).correct5 == 53


def test_flip_adds_the_logits_of_the_mirror_image():
    """A net that reads the left edge only: with flip it is right for images that are bright at either edge."""

    class LeftEdge(nn.Module):
        def forward(self, x):
            bright = x[:, 0, :, 0].mean(1)
            return torch.stack([torch.full_like(bright, 0.5), bright], 1)

    images = torch.zeros(3, 3, 4, 4)
    images[0, :, :, 0], images[1, :, :, 3] = 2.0, 2.0
    batch, model = [Batch(images, torch.tensor([1, 1, 0]))], LeftEdge()
    assert evaluate(model, batch, 3, FP32, "none").correct1 == 2
    assert evaluate(model, batch, 3, FP32, "flip").correct1 == 3


@pytest.mark.parametrize("training", [True, False])
def test_mode_and_weights_stay(training):
    model = CifarNet(6, 0.125).train(training)
    before = fingerprint(model.state_dict())
    evaluate(model, batches(labels(6), 10), 53, FP32)
    assert {m.training for m in model.modules()} == {training}
    assert fingerprint(model.state_dict()) == before
    assert all(p.grad is None for p in model.parameters())


def test_mode_and_weights_stay_when_a_batch_raises():
    def broken():
        yield batches(labels(6), 10)[0]
        raise OSError("gone")

    model = CifarNet(6, 0.125).train()
    before = fingerprint(model.state_dict())
    with pytest.raises(OSError, match="gone"):
        evaluate(model, broken(), 53, FP32)
    assert {m.training for m in model.modules()} == {True} and fingerprint(model.state_dict()) == before


@pytest.mark.parametrize("kept", [0, 4])
def test_a_missing_batch_is_our_bug(kept):
    with pytest.raises(AssertionError, match=f"validation saw {10 * kept} images of 53"):
        evaluate(CifarNet(6, 0.125), batches(labels(6), 10)[:kept], 53, FP32)


def test_an_image_twice_is_our_bug():
    twice = [*batches(labels(6), 10), batches(labels(6), 10)[0]]
    with pytest.raises(AssertionError, match="validation saw 63 images of 53"):
        evaluate(CifarNet(6, 0.125), twice, 53, FP32)


def test_correct_counts_by_hand():
    logits = torch.tensor([[9.0, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]])
    assert correct_counts(logits, torch.tensor([0, 1, 0]), 5).tolist() == [1, 2]


def test_percent():
    assert Counts(94, 99, 100, 5).percent("top1") == 94.0 and Counts(94, 99, 100, 5).percent("top5") == 99.0


def test_bf16_logits_are_counted_in_fp32():
    model = CifarNet(6, 0.125)
    rounded = [Batch(b.images.bfloat16(), b.targets) for b in batches(labels(6), 10)]
    assert evaluate(model, rounded, 53, Precision("bf16", "cpu")).images == 53


def test_evaluate_flag_prints_and_writes_nothing(toy, tmp_path, capsys):
    assert train(toy, tmp_path / "run", "--evaluate", "--tta", "flip") == 0
    out = capsys.readouterr().out
    assert out.startswith("top-1 ") and out.count("\n") == 1
    assert "of 60), top-5 " in out and out.endswith("at 16 px, fp32, tta flip, UNTRAINED weights\n")
    assert not (tmp_path / "run").exists()
