"""Changed schedules: compressed to fewer epochs, other batch sizes, other learning rates."""

import math

import pytest

from phases import PRESETS, PhaseError, Schedule, batch_warning

DATA = {"ep": 0, "sz": 32, "bs": 100}


def test_compressed_scales_rates_exactly_and_data_to_whole_epochs():
    schedule = Schedule.parse("imagenet18-1")
    short = schedule.compressed(10)
    assert short.total_epochs == 10
    assert [phase.epoch for phase in short.data] == [0, 5, 9]
    for i in range(2801):
        position = i / 100
        assert short.lr_at(position * 10 / 28) == pytest.approx(schedule.lr_at(position), rel=1e-9)
    assert short.lr_at(10) == schedule.lr_at(28)


@pytest.mark.parametrize("name", PRESETS)
def test_compressed_always_trains_the_last_size(name):
    schedule = Schedule.parse(name)
    for epochs in (1, 2, 3, 7):
        short = schedule.compressed(epochs)
        last, short_last = schedule.data[-1], short.data_at(epochs - 1)
        assert (short_last.sz, short_last.bs, short_last.rect_val) == (last.sz, last.bs, last.rect_val), epochs
        assert short.data[0].epoch == 0 and not short.data[0].keep_dl
        starts = [phase.epoch for phase in short.data]
        assert starts == sorted(set(starts)) and starts[-1] < epochs
        assert all(math.isfinite(short.lr_at(epochs * i / 50)) for i in range(51)), epochs


def test_compressed_to_its_own_length_changes_nothing():
    schedule = Schedule.parse("imagenet18-16")
    assert schedule.compressed(50) == schedule
    assert Schedule.parse(schedule.compressed(100).phases) == schedule.compressed(
        100
    )  # whole borders: the language has them


def test_keep_dl_ends_where_compression_removed_the_loaders_it_kept():
    listed = [
        DATA,
        {"ep": 3, "sz": 64, "bs": 50},
        {"ep": 4, "bs": 60, "keep_dl": True},
        {"ep": 8, "bs": 70, "keep_dl": True},
        {"ep": (0, 10), "lr": 1},
    ]
    data = Schedule.parse(listed).compressed(3).data  # epochs 3 and 4 meet in 1, 8 goes to 2
    assert [(phase.epoch, phase.sz, phase.bs, phase.keep_dl) for phase in data] == [
        (0, 32, 100, False),
        (1, 64, 60, False),
        (2, 64, 70, True),
    ]


def test_batch_and_lr_factors():
    schedule = Schedule.parse("imagenet18-1")
    small = schedule.with_batch_size(64)
    assert [phase.bs for phase in small.data] == [64, 28, 16]
    assert [phase.val_bs for phase in small.data] == [phase.val_bs for phase in schedule.data]
    assert [phase.bs for phase in schedule.with_batch_factor(1e-6).data] == [1, 1, 1]
    half = schedule.with_lr_factor(0.5)
    assert half.lr_at(7) == 1.0 and half.data == schedule.data
    assert Schedule.parse(small.phases) == small


@pytest.mark.parametrize(
    "change",
    [
        lambda schedule: schedule.compressed(0),
        lambda schedule: schedule.compressed(2.5),
        lambda schedule: schedule.with_batch_size(0),
        lambda schedule: schedule.with_batch_size(True),
        lambda schedule: schedule.with_batch_factor(math.nan),
        lambda schedule: schedule.with_lr_factor(0),
        lambda schedule: schedule.with_lr_factor(math.inf),
    ],
)
def test_bad_changes_are_refused_in_one_line(change):
    with pytest.raises(PhaseError) as caught:
        change(Schedule.parse("imagenet18-1"))
    assert "\n" not in str(caught.value)


def test_batch_warning_only_when_the_global_batch_differs():
    schedule = Schedule.parse("imagenet18-1")
    assert batch_warning(schedule, 8) is None
    assert batch_warning(schedule.with_batch_size(1024), 4) is None  # half the devices, twice the batch
    assert "(8 devices); here it begins with 512 (1 device), 0.125 times" in batch_warning(schedule, 1)
    assert "4096" in batch_warning(schedule, 2) and "1024" in batch_warning(schedule, 2)
    assert schedule.batch_ratio(2) == 0.25
    assert batch_warning(Schedule.parse(schedule.phases), 2) is None  # no published batch to compare with
