"""The memory loader: the same global batches for any world size and from any step on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_run import PHASES

from data_prep import load_manifest, open_packed
from phases import DataPhase, Schedule
from training.config.config import Config
from training.data.loader import open_loader
from training.data.memory import channel_statistics
from training.data.transforms import crop_and_flip, normalise, resize
from training.distributed.env import Env

PHASE = DataPhase(epoch=0, sz=12, bs=40, val_sz=16, val_bs=25)
CONFIG = Config(phases=PHASES, seed=5, shift=2, flip="alternating", cutout=6, brightness=0.2, contrast=0.3)


def loader_for(toy, phase=PHASE, world_size=1, rank=0, config=CONFIG, dtype=torch.float32):
    env = Env(torch.device("cpu"), rank, world_size)
    schedule = Schedule.parse(config.phases)
    loader = open_loader(replace(config, data=str(toy)), schedule, load_manifest(toy), env, dtype)
    loader.set_phase(replace(phase, bs=phase.bs // world_size))
    return loader


def global_batches(toy, world_size: int, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Images and targets of each step, ranks in order."""
    ranks = [list(loader_for(toy, world_size=world_size, rank=r).train(epoch)) for r in range(world_size)]
    return [tuple(torch.cat(parts) for parts in zip(*step, strict=True)) for step in zip(*ranks, strict=True)]


def equal(one, two) -> bool:
    """Of batches: images and targets, bit for bit."""
    return len(one) == len(two) and all(
        torch.equal(x[0], y[0]) and torch.equal(x[1], y[1]) for x, y in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("epoch", [0, 3])
def test_every_world_size_trains_the_same_global_batches(toy, world_size, epoch):
    assert equal(global_batches(toy, world_size, epoch), global_batches(toy, 1, epoch))


@pytest.mark.parametrize("start", [0, 1, 4, 5, 6])
def test_an_epoch_resumed_at_any_step_has_the_same_rest(toy, start):
    whole = list(loader_for(toy).train(2))
    assert len(whole) == 6
    assert equal(list(loader_for(toy).train(2, start)), whole[start:])


@pytest.mark.parametrize(("bs", "steps"), [(40, 6), (70, 3), (240, 1), (121, 1), (7, 34)])
def test_the_last_partial_batch_is_dropped(toy, bs, steps):
    loader = loader_for(toy, replace(PHASE, bs=bs))
    batches = list(loader.train(0))
    assert loader.steps == len(batches) == steps
    assert {len(batch.targets) for batch in batches} == {bs}


def test_a_batch_is_what_the_plan_says(toy):
    config = replace(CONFIG, cutout=0, brightness=0.0, contrast=0.0)
    loader, packed = loader_for(toy, config=config), open_packed(toy)["train"]
    plan = loader.plan.epoch(1)
    images = torch.from_numpy(np.array(packed.images))
    mean, std = channel_statistics(images)
    for step, batch in enumerate(loader.train(1)):
        part = slice(40 * step, 40 * step + 40)
        index, shift, flip = (torch.from_numpy(a[part]) for a in plan[:3])
        expected = normalise(resize(crop_and_flip(images, index, shift, flip), (12, 12)), mean, std, torch.float32)
        assert torch.equal(batch.images, expected)
        assert batch.targets.tolist() == packed.labels[plan.index[part]].tolist()
        assert batch.rows.tolist() == plan.index[part].tolist()


def test_batches_have_the_promised_form(toy):
    for dtype in (torch.float32, torch.bfloat16):
        loader = loader_for(toy, dtype=dtype)
        for batch in (next(loader.train(0)), next(loader.validation())):
            assert batch.images.dtype == dtype and batch.targets.dtype == torch.int64
            assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_size_and_batch_change_between_epochs(toy):
    loader = loader_for(toy)
    assert next(loader.train(0)).images.shape == (40, 3, 12, 12)
    stored = loader.train_data[0]
    loader.set_phase(replace(PHASE, sz=20, bs=60))
    batches = list(loader.train(1))
    assert [batch.images.shape for batch in batches] == [(60, 3, 20, 20)] * 4
    assert loader.train_data[0] is stored  # not read again
    fresh = loader_for(toy, replace(PHASE, sz=20, bs=60))
    assert equal(batches, list(fresh.train(1)))  # nothing left over from the phase before


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_validation_sees_every_image_exactly_once(toy, world_size):
    packed = open_packed(toy)["validation"]
    images, targets = [], []
    for rank in range(world_size):
        for batch in loader_for(toy, world_size=world_size, rank=rank).validation():
            assert len(batch.targets) <= 25 and batch.images.shape[1:] == (3, 16, 16)
            images += [tensor.numpy().tobytes() for tensor in batch.images]
            targets += batch.targets.tolist()
            assert batch.targets.tolist() == packed.labels[batch.rows.numpy()].tolist()
    assert len(images) == len(set(images)) == len(packed.images) == 60
    assert np.bincount(targets).tolist() == np.bincount(packed.labels).tolist()


def test_validation_is_not_augmented(toy):
    loader, packed = loader_for(toy, replace(PHASE, val_sz=32, val_bs=60)), open_packed(toy)["validation"]
    expected = normalise(torch.from_numpy(np.array(packed.images)), loader.mean, loader.std, torch.float32)
    assert torch.equal(next(loader.validation()).images, expected)


def test_cutout_hides_pixels_of_the_training_images_only(toy):
    plain, cut = (loader_for(toy, replace(PHASE, sz=32), config=replace(CONFIG, cutout=c)) for c in (0, 8))
    changed = (next(plain.train(0)).images != next(cut.train(0)).images).any(1).float().sum((1, 2))
    assert (changed <= 64).all() and changed.mean() > 16
    assert torch.equal(next(plain.validation()).images, next(cut.validation()).images)


@pytest.mark.parametrize(("aug", "shift", "side"), [(1.0, 4, 8), (0.5, 2, 4), (0.3, 1, 2), (0.0, 0, 0)])
def test_aug_scales_shift_and_hole_rounded(toy, aug, shift, side):
    no_jitter = replace(CONFIG, brightness=0.0, contrast=0.0)
    ours = loader_for(toy, replace(PHASE, sz=32, aug=aug), config=replace(no_jitter, shift=4, cutout=8))
    theirs = loader_for(toy, replace(PHASE, sz=32), config=replace(no_jitter, shift=shift, cutout=side))
    assert equal(list(ours.train(1)), list(theirs.train(1)))


def test_brightness_and_contrast_are_numbers_of_an_image(toy):
    """image -> (image + b) * c: all of an image's pixels with the same two numbers, spread over their ranges."""
    plain = replace(CONFIG, cutout=0, brightness=0.0, contrast=0.0)
    before, after = (
        torch.cat([batch.images for batch in loader_for(toy, config=config).train(2)]).flatten(1)
        for config in (plain, replace(plain, brightness=0.2, contrast=0.3))
    )
    middle = before - before.mean(1, keepdim=True)
    contrast = (after * middle).sum(1) / (middle**2).sum(1)
    brightness = after.mean(1) / contrast - before.mean(1)
    assert torch.allclose(after, (before + brightness[:, None]) * contrast[:, None], atol=1e-4)
    assert 0.17 < brightness.abs().max() <= 0.2001 and 0.25 < (contrast - 1).abs().max() <= 0.3001
    assert brightness.mean().abs() < 0.03 and (contrast.mean() - 1).abs() < 0.05
    assert abs(np.corrcoef(brightness, contrast)[0, 1]) < 0.25


def test_aug_scales_brightness_and_contrast(toy):
    plain = replace(CONFIG, shift=0, cutout=0)
    ours = loader_for(toy, replace(PHASE, aug=0.5), config=plain)
    theirs = loader_for(toy, config=replace(plain, brightness=0.1, contrast=0.15))
    assert equal(list(ours.train(1)), list(theirs.train(1)))


def test_without_antialias_training_sees_plain_bilinear_images(toy):
    plain = replace(CONFIG, shift=0, flip="none", cutout=0, brightness=0.0, contrast=0.0)
    loader = loader_for(toy, replace(PHASE, sz=24), config=replace(plain, antialias=False))
    batch, stored = next(loader.train(0)), torch.from_numpy(np.array(open_packed(toy)["train"].images)).float()
    exact = torch.nn.functional.interpolate(stored[batch.rows].permute(0, 3, 1, 2), (24, 24), mode="bilinear")
    levels = batch.images * loader.std[:, None, None] + loader.mean[:, None, None]
    assert (levels - exact).abs().max() < 1.01  # rounded to a level
    filtered = next(loader_for(toy, replace(PHASE, sz=24), config=plain).train(0)).images
    assert (filtered - batch.images).abs().max() > 0.1


def test_aug_scales_the_share_of_erased_images(toy):
    loader, seen = loader_for(toy, config=replace(CONFIG, cutout=0, random_erasing=0.8)), []
    for aug in (1.0, 0.5, 0.0):
        loader.set_phase(replace(PHASE, aug=aug))
        images = torch.cat([batch.images for batch in loader.train(0)])
        seen.append(float((images == 0).all(1).any((1, 2)).float().mean()))
    assert abs(seen[0] - 0.8) < 0.12 and abs(seen[1] - 0.4) < 0.12 and seen[2] == 0


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_repeated_images_and_their_rest_after_a_resume(toy, world_size):
    config = replace(CONFIG, flip="random", repeated_augmentation=3, random_erasing=0.5)
    ranks = [loader_for(toy, world_size=world_size, rank=rank, config=config) for rank in range(world_size)]
    shares = [list(loader.train(2)) for loader in ranks]
    for loader, share in zip(ranks, shares, strict=True):
        assert len(share) == 6 and equal(list(loader.train(2, 4)), share[4:])
    whole = list(loader_for(toy, config=config).train(2))
    for step, batch in enumerate(whole):
        for rank, share in enumerate(shares):
            assert torch.equal(batch.images[rank::world_size], share[step].images)
            assert torch.equal(batch.targets[rank::world_size], share[step].targets)


@pytest.mark.parametrize("part", ["interpolation", "val_interpolation"])
def test_bicubic_is_for_training_or_validation(toy, part):
    loader, plain = loader_for(toy, config=replace(CONFIG, **{part: "bicubic"})), loader_for(toy)
    changed = [
        not equal(list(one), list(other))
        for one, other in ((loader.train(0), plain.train(0)), (loader.validation(), plain.validation()))
    ]
    assert changed == [part == "interpolation", part == "val_interpolation"]


def test_first_images_are_the_stored_ones_in_order(toy):
    loader, packed = loader_for(toy), open_packed(toy)["train"]
    first = loader.first_images(10)
    assert first.shape == (10, 3, 32, 32) and first.dtype == torch.float32
    back = (first.permute(0, 2, 3, 1) * loader.std + loader.mean).round().byte()
    assert np.array_equal(back.numpy(), packed.images[:10])


def test_channel_statistics_of_half_black_images():
    images = torch.zeros(1000, 1, 1, 3, dtype=torch.uint8)
    images[::2] = 100
    mean, std = channel_statistics(images)
    assert mean.tolist() == [50.0] * 3 and torch.allclose(std, torch.tensor(50.0), rtol=1e-3)


def test_nothing_is_read_before_the_first_phase(tmp_path, toy):
    env, config = Env(torch.device("cpu")), Config(data=str(tmp_path / "nowhere"), phases=PHASES, loader="memory")
    open_loader(config, Schedule.parse(PHASES), load_manifest(toy), env, torch.float32).close()
