"""The parts of recipes that live in the sample plan, in every loader: policies, erasing, repeated images, filters, and
the strength and resize of a phase."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tree_runs import PHASE, epoch_of, levels, make_tree, once, psnr, tree_loader

from training.data.dataset import has_dali
from training.data.renderers.packed import resampled
from training.data.renderers.picture import resized

LOADERS = [
    pytest.param("dali", marks=pytest.mark.skipif(not has_dali(), reason="needs DALI")),
    "processes",
    "torchvision",
    "packed",
]
# of DALI EVERYTHING shows it, and processes draw as torchvision does
ON_CPU = [
    *LOADERS[2:],
    pytest.param("processes", marks=pytest.mark.slow),
    pytest.param(*LOADERS[0].values, marks=[*LOADERS[0].marks, pytest.mark.slow]),
]
EVERYTHING = {
    "policy": "timm-randaugment",
    "policy_magnitude": 7.0,
    "policy_magnitude_std": 0.5,
    "random_erasing": 0.5,
    "repeated_augmentation": 3,
    "interpolation": "bicubic",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("parts") / "tree", train=62, validation=20)


def pictures(loader, batches):
    """(N, 3, H, W) in 0..255"""
    return np.concatenate([levels(loader, batch.images) for batch in batches])


def both(tree, name, phase=PHASE, **settings):
    """Pictures of the loader and of the reference, labels compared."""
    loader = tree_loader(tree, name, phase, **settings)
    ours, theirs = (once(tree, other, phase=phase, **settings) for other in (name, "torchvision"))
    loader.close()
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(ours, theirs, strict=True)) and len(ours) == 3
    return pictures(loader, ours), pictures(loader, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_CPU)
def test_autoaugment_is_the_same_operations_in_every_loader(tree, name):
    ours, theirs = both(tree, name, policy="autoaugment")
    plain, _ = both(tree, name)
    quality = psnr(ours, theirs)
    assert np.median(quality) > 30 and np.mean(quality > 15) > 0.95
    assert np.mean(psnr(ours, plain) < 30) > 0.3


@pytest.mark.parametrize("name", ON_CPU)
def test_the_same_boxes_are_erased_in_every_loader(tree, name):
    """An erased pixel is exactly 0 after normalisation, which no pixel of 8 bits is."""
    loader = tree_loader(tree, name)
    plain, ours, theirs = (
        torch.cat([batch.images for batch in once(tree, other, phase=PHASE, **settings)])
        for other, settings in ((name, {}), (name, {"random_erasing": 0.5}), ("torchvision", {"random_erasing": 0.5}))
    )
    loader.close()
    erased = (ours == 0).all(1)
    assert torch.equal(erased, (theirs == 0).all(1)) and not (plain == 0).any()
    assert 0.3 < erased.any((1, 2)).float().mean() < 0.7
    kept = ~erased[:, None].expand_as(ours)
    assert torch.equal(ours[kept], plain[kept])


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("size", [pytest.param(16, marks=pytest.mark.slow), 64])
def test_bicubic_pictures_agree_in_every_loader(tree, name, size):
    phase = replace(PHASE, sz=size, val_sz=size)
    filters = {"interpolation": "bicubic", "val_interpolation": "bicubic"}
    ours, theirs = both(tree, name, phase, **filters)
    loader = tree_loader(tree, name, phase)
    linear = pictures(loader, once(tree, name, phase=phase))
    loader.close()
    assert psnr(ours, theirs).min() > 45 and (psnr(ours, theirs) > psnr(ours, linear)).mean() > 0.95
    loader, other = (tree_loader(tree, each, phase, **filters) for each in (name, "torchvision"))
    ours, theirs = (pictures(each, each.validation()) for each in (loader, other))
    loader.close(), other.close()
    assert psnr(ours, theirs).min() > 38


@pytest.mark.parametrize("name", ON_CPU)
def test_training_and_validation_have_filters_of_their_own(tree, name):
    train, validation = first_pictures(tree, name)
    for cubic in ("interpolation", "val_interpolation"):
        one, other = first_pictures(tree, name, **{cubic: "bicubic"})
        same = torch.equal(one, train), torch.equal(other, validation)
        assert same == (cubic == "val_interpolation", cubic == "interpolation")


def first_pictures(tree, name, **settings):
    """Of training and validation."""
    loader = tree_loader(tree, name, **settings)
    found = next(loader.train(0)).images, next(loader.validation()).images
    loader.close()
    return found


def resized_by_torch(window: torch.Tensor, side: int, cubic: bool) -> torch.Tensor:
    """(1, height, width, 3) uint8 to (1, 3, side, side) whole float32 numbers."""
    mode, planes = "bicubic" if cubic else "bilinear", window.permute(0, 3, 1, 2).float()
    return torch.nn.functional.interpolate(planes, (side, side), mode=mode, antialias=True).round().clamp(0, 255)


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("side", [9, 40, 90])
def test_resizing_on_a_cpu_is_torchs(cubic, side):
    """In either order of the two passes; each rounds, and a cubic one cuts off what is too dark or too light. Mirrored
    before or after: the same."""
    window = np.random.default_rng(side).integers(60, 196, (90, 53, 3), dtype=np.uint8)
    ours = resized(window, (side, side), cubic)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(resized(window, (side, side), cubic, mirrored=True), ours.flip(3))
    theirs = resized_by_torch(torch.from_numpy(window)[None], side, cubic)
    assert (ours - theirs).abs().max() <= 1 + cubic


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("side", [9, 40, 90])
def test_resampling_on_the_device_is_torchs(cubic, side):
    """Within a level of rounding for each of torch's two passes."""
    window = torch.from_numpy(np.random.default_rng(side).integers(0, 256, (1, 37, 53, 3), dtype=np.uint8))
    size = torch.tensor([[side, side]])
    ours = resampled(window, torch.tensor([[37, 53]]), (side, side), size, size * 0, cubic)
    assert (ours.permute(0, 3, 1, 2) - resized_by_torch(window, side, cubic)).abs().max() <= 1


@pytest.mark.parametrize("name", LOADERS)
def test_everything_together_agrees_in_every_loader(tree, name):
    settings = {"packed_in": "device"} if name == "packed" else {}
    quality = psnr(*both(tree, name, **EVERYTHING, **settings))
    assert np.median(quality) > 30 and np.mean(quality > 15) > 0.95


@pytest.mark.parametrize("name", ON_CPU)
def test_everything_resumes_at_any_batch_and_splits_among_ranks(tree, name):
    whole = epoch_of(tree, name, 1, **EVERYTHING)
    share = epoch_of(tree, name, 1, start=1, world_size=2, rank=1, **EVERYTHING)
    for one, other in zip(whole[1:], share, strict=True):
        assert torch.equal(one.images[1::2], other.images) and torch.equal(one.targets[1::2], other.targets)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_over_all_ranks_each_chosen_picture_comes_so_often_each_time_cut_otherwise(tree, world_size):
    seen = []
    for rank in range(world_size):
        loader = tree_loader(tree, "packed", replace(PHASE, bs=24), world_size, rank, repeated_augmentation=4)
        folder = str(tree)
        places = (loader.places(step) for step in range(loader.steps))
        drawn = loader.plan.epoch(loader.indices[folder]["train"], loader.phase, 0)
        requests = loader.plan.train(folder, loader.indices[folder]["train"], loader.phase, drawn, places)
        seen += [tuple(cut) for each in requests for cut in np.column_stack([each.rows, each.windows]).tolist()]
        loader.close()
    rows, counts = np.unique([each[0] for each in seen], return_counts=True)
    assert len(seen) == 72 and len(rows) == 18 and set(counts) == {4}
    assert len(set(seen)) > 68  # the smallest pictures have few windows


def test_aug_of_a_phase_weakens_policy_and_erasing_and_nothing_else(tree):
    settings = {"policy": "randaugment", "policy_magnitude": 20.0, "random_erasing": 0.6}
    phases = [replace(PHASE, aug=aug) for aug in (1.0, 0.5, 0.0)]
    full, half, none = (torch.cat([b.images for b in once(tree, "packed", phase=p, **settings)]) for p in phases)
    plain = torch.cat([batch.images for batch in once(tree, "packed", phase=PHASE)])
    assert torch.equal(none, plain)
    erased = [((images == 0).all(1).any((1, 2))).float().mean() for images in (full, half)]
    assert abs(erased[0] - 0.6) < 0.15 and abs(erased[1] - 0.3) < 0.15
    far = [(images - plain).abs().mean() for images in (full, half)]
    assert far[1] < 0.8 * far[0]


@pytest.mark.parametrize("name", ON_CPU)
def test_aug_changes_in_an_open_loader(tree, name):
    loader, seen = tree_loader(tree, name, **EVERYTHING), []
    for aug in (1.0, 0.0, 1.0):
        loader.set_phase(replace(PHASE, aug=aug))
        seen.append(torch.cat([batch.images for batch in loader.train(0)]))
    loader.close()
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])


def test_val_resize_of_a_phase_goes_before_the_flag(tree):
    for phase, expected in ((PHASE, 80), (replace(PHASE, val_resize=1.5), 60), (replace(PHASE, val_resize=1.0), 40)):
        for rect in (False, True):
            loader = tree_loader(tree, "packed", replace(phase, rect_val=rect), val_resize=2.0)
            requests = loader.plan.validation(str(tree), loader.indices[str(tree)]["validation"], loader.phase)
            loader.close()
            assert {int(request.resized.min(1).max()) for request in requests} == {expected}


def test_synthetic_noise_is_not_erased(tree):
    one, other = (epoch_of(tree, "synthetic", random_erasing=erasing) for erasing in (1.0, 0.0))
    assert all(torch.equal(a.images, b.images) for a, b in zip(one, other, strict=True))
