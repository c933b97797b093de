"""The sample plan: every image once an epoch, a pure function of (seed, epoch)."""

import numpy as np
import pytest
from timm.data.distributed_sampler import RepeatAugSampler

from training.data.sample_plan import SamplePlan

N = 1001


def same(one, two) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("epoch", [0, 1, 17, 99_999])
def test_every_image_exactly_once_per_epoch(epoch):
    plan = SamplePlan(N, seed=3, shift=2, flip="random").epoch(epoch)
    assert np.array_equal(np.sort(plan.index), np.arange(N))
    assert plan.index.dtype == np.int64
    assert plan.shift.shape == (N, 2) and plan.hole.shape == (N, 2) and plan.flip.shape == (N,)


def test_an_epoch_depends_on_seed_and_epoch_only():
    plan = SamplePlan(N, seed=3, shift=2, flip="random")
    np.random.seed(1)
    late = plan.epoch(5)
    [plan.epoch(e) for e in (0, 9, 2)]
    np.random.seed(2)
    assert same(late, SamplePlan(N, seed=3, shift=2, flip="random").epoch(5))


def test_epochs_and_seeds_differ_in_every_part():
    plan = SamplePlan(N, seed=3, shift=2, flip="random").epoch(1)
    for other in (
        SamplePlan(N, 3, 2, "random").epoch(2),
        SamplePlan(N, 4, 2, "random").epoch(1),
        SamplePlan(N, 1, 2, "random").epoch(3),  # seed and epoch are not merely added or swapped
        SamplePlan(N, 2**63 - 1, 2, "random").epoch(1),
    ):
        assert not any(np.array_equal(a, b) for a, b in zip(plan, other, strict=True))


@pytest.mark.parametrize("repeats", [1, 2, 3, 4, 7, N + 5])
def test_chosen_images_come_so_many_times_and_every_draw_once(repeats):
    plan = SamplePlan(N, seed=3, flip="random", repeats=repeats).epoch(2)
    numbers, counts = np.unique(plan.index, return_counts=True)
    assert len(plan.index) == N and len(numbers) == -(-N // repeats)
    assert sorted(counts)[1:] == [min(repeats, N)] * (len(numbers) - 1) and counts.sum() == N
    assert np.array_equal(np.sort(plan.slot), np.arange(N))
    assert np.array_equal(plan.index, SamplePlan(N, seed=3).epoch(2).index.repeat(repeats)[:N])


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("world_size", [1, 2, 8])
def test_shares_of_the_ranks_make_up_the_epoch(repeats, world_size):
    plan = SamplePlan(N, seed=3, repeats=repeats)
    steps, batch = N // 40, 40 // world_size
    shares = [plan.places(step, batch, rank, world_size) for step in range(steps) for rank in range(world_size)]
    places = [np.arange(N)[share] for share in shares]
    assert {len(share) for share in places} == {batch}
    assert np.array_equal(np.sort(np.concatenate(places)), np.arange(40 * steps))


@pytest.mark.parametrize(("repeats", "world_size"), [(3, 1), (3, 4), (4, 8), (2, 2), (4, 4)])
def test_repeats_go_to_the_ranks_as_in_timms_sampler(repeats, world_size):
    """The same permutation in, the same images at the same rank and step out."""
    plan = SamplePlan(1024, seed=1, repeats=repeats)
    order = plan.epoch(0)
    for rank in range(world_size):
        theirs = RepeatAugSampler(range(1024), world_size, rank, shuffle=False, num_repeats=repeats)
        theirs = order.slot[list(theirs)]
        batch = 32 // world_size
        ours = np.concatenate([order.index[plan.places(step, batch, rank, world_size)] for step in range(1024 // 32)])
        assert len(theirs) == len(ours) == 1024 // world_size and np.array_equal(ours, theirs)


def test_as_many_ranks_as_can_be_see_a_repeated_image():
    plan, order = SamplePlan(N, seed=3, repeats=4), SamplePlan(N, seed=3, repeats=4).epoch(0)
    seen = [set(order.index[plan.places(0, 16, rank, 4)]) for rank in range(4)]
    assert seen[0] == seen[1] == seen[2] == seen[3] and len(seen[0]) == 16


def test_flips_of_a_repeated_image_differ():
    plan = SamplePlan(20_000, seed=3, flip="random", repeats=2).epoch(0)
    assert abs((plan.flip[::2] == plan.flip[1::2]).mean() - 0.5) < 0.03


def test_order_does_not_change_with_the_augmentation():
    assert np.array_equal(SamplePlan(N, 3).epoch(4).index, SamplePlan(N, 3, 2, "alternating").epoch(4).index)


def test_shifts_are_uniform_over_both_directions():
    shift = SamplePlan(20_000, seed=0, shift=2).epoch(0).shift
    for axis in range(2):
        counts = np.bincount(shift[:, axis] + 2, minlength=5)
        assert len(counts) == 5 and (abs(counts - 4000) < 300).all()  # 5 standard deviations are 283
    assert abs(np.corrcoef(shift.T)[0, 1]) < 0.05


def test_no_shift_and_no_flip_by_default():
    plan = SamplePlan(N, seed=0).epoch(0)
    assert not plan.shift.any() and not plan.flip.any()


def test_holes_lie_inside_the_image():
    hole = SamplePlan(N, seed=0).epoch(0).hole
    assert (hole >= 0).all() and (hole < 1).all() and abs(hole.mean() - 0.5) < 0.05


def test_alternating_flip_takes_turns_for_each_image_and_is_half_and_half():
    plan = SamplePlan(10_000, seed=7, flip="alternating")
    flips = [plan.flips(epoch) for epoch in range(4)]
    assert abs(flips[0].mean() - 0.5) < 0.03
    assert all(np.array_equal(flips[epoch], ~flips[epoch + 1]) for epoch in range(3))


def test_flip_follows_its_image_through_the_permutation():
    plan = SamplePlan(N, seed=7, flip="alternating")
    for epoch in range(2):
        placed = plan.epoch(epoch)
        assert np.array_equal(placed.flip, plan.flips(epoch)[placed.index])


def test_random_flip_is_half_and_half_and_independent_between_epochs():
    plan = SamplePlan(10_000, seed=7, flip="random")
    first, second = plan.flips(0), plan.flips(1)
    assert abs(first.mean() - 0.5) < 0.03 and abs((first == second).mean() - 0.5) < 0.03
