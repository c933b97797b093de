"""Mixup and cutmix: torchvision's own with the same seed; how often, until when; form of the batch; accumulation."""

from collections import Counter

import pytest
import torch
from tiny_run import tiny_state
from torchvision.transforms import v2

from training.config.config import Config
from training.data.loader import Batch
from training.data.transforms import build_mixers, mixed
from training.engine.step import step

BOTH = {"mixup": 0.2, "cutmix": 1.0}
WITHOUT_STATISTICS = "timm/test_efficientnet_ln"  # batch norm would see other batches


def batch(dtype=torch.float32, size: int = 16, images: int = 7) -> Batch:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(images, 3, size, size, generator=generator).to(dtype, memory_format=torch.channels_last)
    return Batch(pictures, torch.randint(5, (images,), generator=generator))


def result(config: Config, of: Batch, seed: int = 0, **where) -> Batch:
    torch.manual_seed(seed)
    return mixed(config, build_mixers(config, 5), of, **({"epoch": 0} | where))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_torchvisions_with_the_same_seed(dtype, seed):
    ours = result(Config(**BOTH), batch(dtype), seed)
    torch.manual_seed(seed)
    assert torch.rand(()) < 1
    kind = (v2.MixUp(alpha=0.2, num_classes=5), v2.CutMix(alpha=1.0, num_classes=5))[int(torch.randint(2, ()))]
    images, targets = kind(*batch(dtype)[:2])
    assert torch.equal(ours.images, images) and torch.equal(ours.targets, targets)
    assert ours.images.dtype == dtype and ours.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(ours.targets.sum(1), torch.ones(7)) and ours.targets.dtype == torch.float32


def test_the_batch_itself_is_left_as_it_was():
    own = batch()
    result(Config(**BOTH), own)
    assert torch.equal(own.images, batch().images) and torch.equal(own.targets, batch().targets)


def test_channels_last_is_kept_where_roll_does_not_keep_it():
    """On a GPU torch's roll returns NCHW."""
    turned = mixed(Config(mixup=1.0), [lambda images, targets: (images.contiguous(), targets)], batch(), 0)
    assert turned.images.is_contiguous(memory_format=torch.channels_last)


def test_each_kind_takes_half_of_the_share_that_is_mixed():
    config, own, kinds = Config(**BOTH, mix_prob=0.8), batch(size=8), Counter()
    mixers = [lambda *parts, name=name: kinds.update([name]) or parts for name in ("mixup", "cutmix")]
    torch.manual_seed(0)
    for _ in range(1000):
        mixed(config, mixers, own, 0, strength=0.5)
    assert 160 < kinds["mixup"] < 240 and 160 < kinds["cutmix"] < 240


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({}, {}),
        (BOTH | {"mix_prob": 0.0}, {}),
        (BOTH, {"strength": 0.0}),
        (BOTH | {"mix_off_epoch": 3}, {"epoch": 3}),
    ],
)
def test_off_means_the_same_batch(settings, where):
    own = batch()
    assert all(result(Config(**settings), own, seed, **where) is own for seed in range(5))


def test_the_epoch_before_the_off_epoch_is_mixed():
    assert result(Config(**BOTH, mix_off_epoch=3), batch(), epoch=2).targets.dim() == 2


def test_an_off_batch_draws_nothing_when_mixing_is_not_on():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    mixed(Config(), [], batch(), 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("settings", [BOTH, BOTH | {"loss": "bce", "bce_threshold": 0.2}])
def test_the_parts_of_an_accumulated_batch_are_mixed_as_the_whole(settings):
    states = []
    for accumulate in (1, 3):
        config = Config(model=WITHOUT_STATISTICS, accumulate=accumulate, **settings)
        states.append(tiny_state(config, classes=5))
        torch.manual_seed(1)
        step(config, states[-1], batch(size=32, images=6), 0.1, None)
    for whole, parts in zip(states[0].model.parameters(), states[1].model.parameters(), strict=True):
        assert torch.allclose(whole, parts, atol=1e-6)
