"""Validation against a plain loop: exact counts, nothing of the model changed."""

import pytest
import torch
from tiny_run import events, tiny_job, train
from torch import nn

from dawn.runlog.records import Validation
from training.data.loader import Batch
from training.engine.evaluate import evaluate
from training.engine.near_ties import Referee
from training.engine.precision import Precision
from training.engine.state import fingerprint
from training.engine.trainer import fit
from training.logs.metrics import correct_counts
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


@pytest.mark.parametrize(
    "size", [pytest.param(1, marks=pytest.mark.slow), 10, pytest.param(53, marks=pytest.mark.slow), 100]
)  # 53 = 5 x 10 + 3
@pytest.mark.parametrize("classes", [3, 10])
@pytest.mark.parametrize("tta", ["none", "flip"])
def test_counts_equal_a_plain_loop(size, classes, tta):
    model, targets = CifarNet(classes, 0.125), labels(classes)
    seen = evaluate(model, batches(targets, size), 53, FP32, tta, size=12, weights="ema")
    assert seen == Validation(*plain_counts(model, targets, tta == "flip"), 53, 12, "ema", tta, min(5, classes))
    assert all(type(value) is int for value in (seen.correct1, seen.correct5, seen.images, seen.k5))


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


class Tuning(nn.Linear):
    """Notes whether cuDNN would try out kernels for what comes to it, or to a copy of it."""

    def __init__(self, seen: list[tuple[torch.dtype, bool]]) -> None:
        super().__init__(2, 3)
        self.note = seen.append  # a bound method, which copies share

    def forward(self, x):
        self.note((x.dtype, torch.backends.cudnn.benchmark))
        return super().forward(x.mean((2, 3))[:, :2])


def test_no_kernel_is_tried_out_for_a_shape_of_validation(monkeypatch):
    """cuDNN would do so on the clock for each new pair of shape and batch: 38 of them at 288 px with rectangles."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    seen = []
    model = Tuning(seen)
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)  # all images are ties: the referee decides
    evaluate(model, batches(labels(3), 20), 53, FP32, "flip", referee=Referee(model))
    assert {dtype for dtype, _ in seen} == {torch.float32, torch.float64} and not any(tuned for _, tuned in seen)
    assert torch.backends.cudnn.benchmark


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


class Confusion:
    """A meter: of each class, how many of its images the model takes for each."""

    def __init__(self, classes: int) -> None:
        self.counts, self.tables, self.written = torch.zeros(classes, classes, dtype=torch.int64), [], []

    def update(self, batch, logits):
        pairs = batch.targets * len(self.counts) + logits.argmax(1)
        self.counts += torch.bincount(pairs, minlength=self.counts.numel()).view_as(self.counts)

    def finish(self, group, view):
        self.tables.append(group.sum(self.counts.clone()))
        self.counts.zero_()
        self.written.append((*self.moment(), view.epoch))
        view.scalars({"confusion/first_for_second": float(self.tables[-1][0, 1])})


def test_a_meter_counts_every_validation_on_a_label_of_its_own(toy, tmp_path):
    """A confusion matrix: its diagonal is top-1; the epoch's line counts what it took, and says no more of it."""
    meter, scalars = Confusion(6), []
    with tiny_job(toy, tmp_path / "run") as job:
        job.meters = (meter,)
        meter.moment = lambda: (job.state.images_seen, len(events(tmp_path / "run")), job.state.clock.label)
        job.book.scalars.write = lambda seen, values: scalars.append((seen, values))
        fit(job)
        job.loader.close()
    validations = [row["validation"] for row in events(tmp_path / "run")]
    assert [int(table.sum()) for table in meter.tables] == [60, 60]
    assert [int(table.diag().sum()) for table in meter.tables] == [seen["correct1"] for seen in validations]
    assert set(validations[0]) == {"correct1", "correct5", "images", "k5", "size", "tta", "weights"}
    # images seen, epoch lines there, the clock's label, epoch
    assert meter.written == [(240, 0, "inspect", 0), (480, 1, "inspect", 1)]
    assert all(row["seconds"]["inspect"] > 0 for row in events(tmp_path / "run"))
    told = [(seen, values) for seen, values in scalars if "confusion/first_for_second" in values]
    assert told == [
        (seen, {"confusion/first_for_second": float(table[0, 1])})
        for seen, table in zip((240, 480), meter.tables, strict=True)
    ]


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
