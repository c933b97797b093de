"""Loaders of image trees: one sample plan, so the same pictures, labels and order whatever reads them."""

import itertools
import multiprocessing
import shutil
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from tree_runs import PHASE, epoch_of, levels, make_tree, once, psnr, same, tree_loader

from data_prep import DataError
from data_prep.formats.image_index import open_index
from phases import DataPhase
from training.config.config import Config
from training.data.dataset import has_dali
from training.data.renderers.packed import gathered, on_device
from training.data.renderers.picture import PILLOW
from training.logs.metrics import correct_counts
from training.models.build import build_model

LOADERS = [
    pytest.param("dali", marks=pytest.mark.skipif(not has_dali(), reason="needs DALI")),
    "processes",
    "threads",
    "torchvision",
    "packed",
]
# what the tests of the sample plan say of DALI already
QUICK = [*LOADERS[1:], pytest.param(*LOADERS[0].values, marks=[*LOADERS[0].marks, pytest.mark.slow])]
# where a picture is drawn as torchvision's workers do it
DRAWN = [*QUICK[1:], pytest.param("threads", marks=pytest.mark.slow)]
STEPS = 6  # of an epoch
RECT = replace(PHASE, rect_val=True, val_sz=48, val_bs=7)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("pictures") / "tree", train=134, validation=40)


@pytest.fixture(scope="module")
def reference(tree):
    return once(tree, "torchvision", epoch=1)


def pictures_of(loader, batches) -> np.ndarray:
    return np.concatenate([levels(loader, batch.images) for batch in batches])


@pytest.mark.parametrize("name", LOADERS)
def test_every_loader_shows_the_same_pictures_and_labels(tree, reference, name):
    """144 images of all kinds; the only differences are a decoder's and a resizer's rounding."""
    loader, batches = tree_loader(tree, name), once(tree, name, epoch=1)
    assert sum(len(batch.targets) for batch in batches) == 144 == STEPS * 24
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(batches, reference, strict=True))
    labels = torch.from_numpy(open_index(tree)["train"].labels)
    assert all(torch.equal(batch.targets, labels[batch.rows]) for batch in batches)
    assert len(torch.cat([batch.rows for batch in batches]).unique()) == 144
    quality = psnr(pictures_of(loader, batches), pictures_of(loader, reference))
    loader.close()
    assert quality.min() > 38, quality.min()


@pytest.mark.parametrize("name", [LOADERS[0], "packed", pytest.param("threads", marks=pytest.mark.slow)])
def test_validation_pictures_agree_too(tree, name):
    for phase in (PHASE, RECT):
        ours, theirs = tree_loader(tree, name, phase), tree_loader(tree, "torchvision", phase)
        pairs = zip(ours.validation(), theirs.validation(), strict=True)
        for one, other in pairs:
            assert one.images.shape == other.images.shape and torch.equal(one.targets, other.targets)
            assert psnr(levels(ours, one.images), levels(theirs, other.images)).min() > 38
        ours.close(), theirs.close()


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("workers", [4, pytest.param(0, marks=pytest.mark.slow)])
def test_the_number_of_workers_changes_nothing(tree, name, workers):
    assert same(epoch_of(tree, name, workers=workers), once(tree, name))  # by two


@pytest.mark.parametrize("name", LOADERS)
def test_two_ranks_share_the_batches_of_one(tree, name):
    ranks = [epoch_of(tree, name, world_size=2, rank=rank) for rank in range(2)]
    together = [tuple(torch.cat(parts) for parts in zip(*step, strict=True)) for step in zip(*ranks, strict=True)]
    assert same(together, once(tree, name))


@pytest.mark.parametrize("name", [*LOADERS, "synthetic"])
@pytest.mark.parametrize("start", [3, pytest.param(STEPS, marks=pytest.mark.slow)])
def test_an_epoch_resumed_at_any_batch_has_the_same_rest(tree, name, start):
    rest, whole = epoch_of(tree, name, 1, start), once(tree, name, epoch=1)
    assert [len(b.targets) for b in rest] == [24] * (STEPS - start)
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(rest, whole[start:], strict=True))
    assert same(rest, whole[start:])


@pytest.mark.parametrize("name", QUICK)
def test_an_abandoned_pass_does_not_disturb_the_next(tree, reference, name):
    loader = tree_loader(tree, name)
    for phase in (PHASE, RECT):
        loader.set_phase(phase)
        passes = (loader.train(0), loader.validation())
        for one in passes:
            next(one)
            one.close()
    loader.set_phase(PHASE)
    batches = list(loader.train(1))
    quality = psnr(pictures_of(loader, batches), pictures_of(loader, reference))
    loader.close()
    assert quality.min() > 38


@pytest.mark.parametrize("name", LOADERS)
def test_size_batch_and_scale_change_between_two_epochs(tree, name):
    """As keep_dl and phase borders want it: one open loader goes through every phase."""
    loader, seen = tree_loader(tree, name), []
    for phase in (PHASE, replace(PHASE, bs=50), DataPhase(1, 64, 10, min_scale=0.9, val_sz=64, val_bs=9), PHASE):
        loader.set_phase(phase)
        batches = list(loader.train(0))
        seen.append(batches)
        assert {tuple(batch.images.shape) for batch in batches} == {(phase.bs, 3, phase.sz, phase.sz)}
    loader.close()
    assert same(seen[0], seen[3])
    assert torch.equal(torch.cat([b.images for b in seen[1]])[:100], torch.cat([b.images for b in seen[0]])[:100])


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_validation_has_every_image_once_for_any_ranks_and_batch(tree, world_size):
    loaders = [tree_loader(tree, "packed", PHASE, world_size, rank) for rank in range(world_size)]
    for phase, batch_size in itertools.product((PHASE, RECT), (1, 4, 200)):
        seen = []
        for rank, loader in enumerate(loaders):
            loader.set_phase(replace(phase, bs=phase.bs // world_size, val_bs=batch_size))
            requests = loader.plan.validation(str(tree), loader.indices[str(tree)]["validation"], loader.phase)
            seen += [row for request in requests[rank::world_size] for row in request.rows]
        assert sorted(seen) == list(range(50)), (phase, batch_size)
    for loader in loaders:
        loader.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADERS)
def test_predictions_do_not_depend_on_batch_size_or_ranks(tree, name):
    model = build_model(Config(width=0.125), 3).eval()
    results = [predictions(tree, name, model, batch_size, ranks) for batch_size, ranks in ((7, 1), (4, 2), (50, 1))]
    for logits, counts in results[1:]:
        assert torch.equal(counts, results[0][1])
        torch.testing.assert_close(logits, results[0][0], atol=1e-5, rtol=0)


@torch.no_grad()
def predictions(tree, name, model, batch_size, ranks):
    """Logits by image, and the counts of top-1 and top-2."""
    logits, counts = torch.empty(50, 3), torch.zeros(2, dtype=torch.int64)
    for rank in range(ranks):
        loader = tree_loader(tree, name, replace(RECT, val_bs=batch_size), ranks, rank)
        requests = loader.plan.validation(str(tree), loader.indices[str(tree)]["validation"], loader.phase)
        for request, batch in zip(requests[rank::ranks], loader.validation(), strict=True):
            out = model(batch.images)
            logits[torch.from_numpy(request.rows)] = out
            counts += correct_counts(out, batch.targets, 2)
        loader.close()
    return logits, counts


def test_the_2018_rule_depends_on_the_batch_and_may_be_padded_black(tree):
    loader = tree_loader(tree, "torchvision", RECT, rect_rule="2018")
    shapes = [
        request.size for request in loader.plan.validation(str(tree), loader.indices[str(tree)]["validation"], RECT)
    ]
    assert all(side % 8 == 0 for shape in shapes for side in shape) and len(set(shapes)) > 3
    batches = list(loader.validation())
    loader.close()
    assert [tuple(batch.images.shape[2:]) for batch in batches] == shapes
    assert sum(len(batch.targets) for batch in batches) == 50


@pytest.mark.parametrize("where", ["ram", "device"])
def test_packed_pixels_may_live_elsewhere(tree, where):
    """`device` resizes with matrix products, as on a GPU: within two levels of the CPU's integer arithmetic."""
    loader, batches = tree_loader(tree, "packed"), once(tree, "packed")
    others = once(tree, "packed", packed_in=where)
    away = np.abs(pictures_of(loader, batches) - pictures_of(loader, others)).max()
    loader.close()
    assert away < (2.01 if where == "device" else 0.01)


def test_a_policy_of_packed_pixels_is_made_by_threads(tree):
    """On a device each image would take some ten operations of its own."""
    one, other = (once(tree, "packed", policy="trivialaugment", packed_in=where) for where in ("map", "device"))
    assert all(torch.equal(a.images, b.images) for a, b in zip(one, other, strict=True))


class Copies(TorchDispatchMode):
    """Copies to a device, and whether something waits for each."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[bool] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._to_copy.default and kwargs.get("device"):
            self.waits.append(not kwargs.get("non_blocking"))
        return function(*args, **(kwargs or {}))


def test_windows_of_resident_pixels_are_gathered_without_a_wait(tree):
    loader = tree_loader(tree, "packed", packed_in="device")
    index = loader.indices[str(tree)]["train"]
    drawn = loader.plan.epoch(index, PHASE, 0)
    request = next(loader.plan.train(str(tree), index, PHASE, drawn, iter([slice(0, 8)])))
    pixels = loader.renderer.pixels[request.folder, "train"]
    pixels = pixels.to("meta")
    with Copies() as copies:
        windows = gathered(pixels, loader.renderer.tree_of(request), request)
        on_device(windows, request)
    loader.close()
    assert windows.shape == (8, *request.windows[:, 2:].max(0), 3) and copies.waits == [False] * 5


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("policy", ["trivialaugment", pytest.param("randaugment", marks=pytest.mark.slow)])
def test_policies_are_the_same_operations_in_every_loader(tree, name, policy):
    loader = tree_loader(tree, name)
    ours, theirs = once(tree, name, policy=policy), once(tree, "torchvision", policy=policy)
    plain = once(tree, name)
    quality = psnr(pictures_of(loader, ours), pictures_of(loader, theirs))
    changed = psnr(pictures_of(loader, ours), pictures_of(loader, plain))
    loader.close()
    assert np.median(quality) > 30 and np.mean(quality > 15) > 0.97
    assert np.mean(changed < 30) > 0.4


@pytest.mark.parametrize("name", [LOADERS[0], "packed", pytest.param("threads", marks=pytest.mark.slow)])
def test_first_images_are_the_same_for_every_loader(tree, name):
    ours, theirs = tree_loader(tree, name), tree_loader(tree, "torchvision")
    one, other = ours.first_images(20), theirs.first_images(20)
    assert one.shape == (20, 3, 32, 32) and one.dtype == torch.float32
    assert psnr(levels(ours, one), levels(theirs, other)).min() > 38
    ours.close(), theirs.close()


@pytest.fixture(scope="module")
def spare_tree(tree, tmp_path_factory):
    """A copy whose files a test may damage and puts back."""
    return shutil.copytree(tree, tmp_path_factory.mktemp("spare") / "tree")


# what decodes for threads decodes for torchvision
@pytest.mark.parametrize("name", ["dali", "torchvision", pytest.param("threads", marks=pytest.mark.slow)])
@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_a_bad_file_stops_the_epoch_with_its_path(spare_tree, name, damage):
    if name == "dali":
        pytest.importorskip("nvidia.dali")
    path = spare_tree / "train" / "disc" / "0003.JPEG"
    data, other = path.read_bytes(), (spare_tree / "train" / "ring" / "444.JPEG").read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else other)
    with pytest.raises(DataError, match=r"0003\.JPEG.*rank 0, image 1 of train"):
        epoch_of(spare_tree, name, phase=replace(PHASE, min_scale=1.0))
    path.write_bytes(data)


def test_a_worker_that_is_forked_while_a_thread_decodes_has_a_lock_of_its_own():
    """It waited for ever for a thread that is not in it."""
    with PILLOW:
        worker = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(not PILLOW.acquire(timeout=60)))
        worker.start()
        worker.join(120)
    assert worker.exitcode == 0


def test_synthetic_has_the_shapes_and_labels_of_the_phase(tree, reference):
    batches = epoch_of(tree, "synthetic", epoch=1)
    assert [b.images.shape for b in batches] == [b.images.shape for b in reference]
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(batches, reference, strict=True))


def test_windows_belong_to_the_image_and_the_epoch(tree):
    loader = tree_loader(tree, "synthetic")
    index = open_index(tree)["train"]
    one, again, other = (loader.plan.windows(index, 0.25, epoch) for epoch in (3, 3, 4))
    loader.close()
    assert (one == again).all() and (one != other).any(axis=1).mean() > 0.9


@pytest.mark.parametrize("name", DRAWN)
def test_images_are_channels_last_in_every_loader(tree, name):
    for settings in ({}, {"policy": "randaugment"}, *([{"packed_in": "device"}] if name == "packed" else [])):
        images = once(tree, name, **settings)[0].images
        assert images.is_contiguous(memory_format=torch.channels_last) and images.dtype == torch.float32, settings


@pytest.mark.parametrize("name", QUICK)
def test_an_epoch_drawn_ahead_is_the_one_drawn_at_once(tree, name):
    """Draws of the next epoch: once, in another thread, before they are asked for; none after the last epoch."""
    loader, calls = tree_loader(tree, name), []
    draw, phase = loader.drawn.make, loader.schedule.data[0]
    loader.set_phase(phase)

    def counted(*key):
        calls.append((key[-1], threading.current_thread() is threading.main_thread()))
        return draw(*key)

    loader.drawn.make = counted
    last = loader.schedule.epochs - 1
    first = list(loader.train(last - 1))
    loader.drawn.slot[1].result(timeout=60)
    assert calls == [(last - 1, True), (last, False)]
    ahead = list(loader.train(last))
    assert calls == [(last - 1, True), (last, False)]
    assert loader.drawn.slot is None
    loader.close()
    assert same(first, epoch_of(tree, name, last - 1, phase=phase))
    assert same(ahead, epoch_of(tree, name, last, phase=phase))
