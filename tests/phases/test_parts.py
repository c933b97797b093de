"""Epochs that are not whole: which steps they have, where each step lies, and that every image comes once."""

import pytest

from phases import PhaseError, Schedule
from phases.parts import epoch_parts, special_epochs
from phases.table import schedule_table, segments

IMAGES = 1000
HALF = [{"ep": 0, "sz": 16, "bs": 40}, {"ep": 2.5, "sz": 24, "bs": 30}]


def schedule(total: float, data: list[dict] = HALF) -> Schedule:
    return Schedule.parse([*data, {"ep": (0, total), "lr": (1.0, 0.0)}])


def spans(parts) -> list[tuple]:
    return [(part.start, part.end, part.first_step, part.first_image, part.steps) for part in parts]


def test_a_whole_epoch_is_one_part_and_its_positions_are_those_of_2018():
    (part,) = epoch_parts(schedule(4), 1, IMAGES, 1)
    assert spans([part]) == [(1, 2, 0, 0, 25)]
    assert [part.position(step) for step in range(25)] == [1 + (step + 1) / 25 for step in range(25)]


def test_a_cut_epoch_has_its_share_of_the_steps_and_ends_where_the_schedule_ends():
    (part,) = epoch_parts(schedule(3.65), 3, IMAGES, 1)
    assert spans([part]) == [(3, 3.65, 0, 0, 21)]  # of 33 steps: 21.45
    assert part.position(20) == 3.65 and schedule(3.65).lr_at(part.position(20)) == 0.0


@pytest.mark.parametrize(("total", "steps"), [(1.5, 5), (1.25, 3), (1.1, 1), (1.95, 10)])
def test_shares_are_rounded_and_halves_go_up(total, steps):
    """2.5 of 10 steps are 3."""
    data = [{"ep": 0, "sz": 16, "bs": 100}]
    assert epoch_parts(schedule(total, data), 1, IMAGES, 1)[0].steps == steps


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("images", [240, 999, 1000, 1013])
def test_an_epoch_in_two_parts_shows_every_image_once_but_for_the_last_partial_batch(images, world_size):
    first, second = epoch_parts(schedule(4), 2, images, world_size)
    seen = [
        part.first_image + step * part.phase.bs * world_size + place
        for part in (first, second)
        for step in range(part.steps)
        for place in range(part.phase.bs * world_size)
    ]
    assert seen == list(range(len(seen))) and images - len(seen) < 30 * world_size
    assert second.first_step == first.steps and abs(first.steps * 40 * world_size - images / 2) <= 40 * world_size
    assert (first.position(first.steps - 1), second.position(second.stop_step - 1)) == (2.5, 3)


def test_a_cut_epoch_in_two_parts():
    assert spans(epoch_parts(schedule(2.75), 2, IMAGES, 1)) == [(2, 2.5, 0, 0, 13), (2.5, 2.75, 13, 520, 8)]


def test_a_step_that_ends_on_a_border_of_two_ramps_belongs_to_the_first():
    """Its computed position may lie an ulp beyond it, as for 1.64 epochs of 100 steps."""
    for last in range(1, 200):  # step of the first ramp
        border = last / 100
        ramps = [{"ep": (0, border), "lr": (0.0, 1.0)}, {"ep": (border, 3), "lr": (9.0, 0.0)}]
        found = Schedule.parse([{"ep": 0, "sz": 16, "bs": 10}, *ramps])
        parts = [part for epoch in range(3) for part in epoch_parts(found, epoch, IMAGES, 1)]
        positions = [part.position(step) for part in parts for step in range(part.first_step, part.stop_step)]
        rates = [found.lr_at(position) for position in positions]
        assert rates[last - 1] == pytest.approx(1.0) and max(rates[:last]) <= 1 < rates[last], last


def test_without_images_the_rate_at_a_border_inside_a_stepped_ramp_is_that_after_it():
    phases = [{"ep": 0, "sz": 16, "bs": 40}, {"ep": 5, "sz": 24, "bs": 30}]
    stepped = Schedule.parse([*phases, {"ep": (0, 10), "lr": (1.0, 0.0), "epoch_step": True}])
    assert [item.lr for item in segments(stepped, 1)] == [pytest.approx((1.0, 0.6)), pytest.approx((0.5, 0.1))]


def test_a_part_without_a_step_is_refused():
    with pytest.raises(PhaseError, match=r"epochs 3 to 3\.01: no step of 30 of the 1000 training images"):
        epoch_parts(schedule(3.01), 3, IMAGES, 1)


def test_the_table_counts_the_steps_of_the_parts():
    written = schedule(3.65)
    found = segments(written, 1, IMAGES)
    assert [(item.start, item.end, item.steps, item.images) for item in found] == [
        (0, 2.5, 63, 2520),
        (2.5, 3.65, 37, 1110),
    ]
    assert found[0].lr == pytest.approx((1 - 1 / 25 / 3.65, 1 - 2.5 / 3.65)) and found[1].lr[1] == 0.0
    assert "total: 3.65 epochs, 100 steps, 3,630 images" in schedule_table(written, 1, IMAGES)


def test_fractions_survive_the_normalised_list_and_whole_floats_are_whole():
    written = Schedule.parse([*HALF, {"ep": (0, 1.25), "lr": (0, 1), "curve": "cos"}, {"ep": (1.25, 4.0), "lr": 1}])
    assert Schedule.parse(written.phases) == written
    assert type(written.total_epochs) is int and written.total_epochs == 4 == written.epochs
    assert schedule(3.65).epochs == 4


def test_special_epochs_are_those_whose_steps_differ():
    assert special_epochs(schedule(9.5)) == [0, 2, 3, 9]


def test_compressing_a_cut_schedule_gives_whole_epochs():
    short = schedule(7.65).compressed(2)
    assert (short.total_epochs, [phase.epoch for phase in short.data]) == (2, [0, 1])
