"""The schedule as a value: the 2018 arithmetic, data phases, momentum, round trip."""

import json
import math
import random
from itertools import pairwise
from pathlib import Path

import pytest

import phases
from phases import PRESETS, DataPhase, Schedule, load_preset

PUBLISHED = ("imagenet18-1", "imagenet18-4", "imagenet18-8", "imagenet18-16", "titan-rtx")
IMAGES = 1281167
DATA = {"ep": 0, "sz": 32, "bs": 100}


def lr_2018(phases: list[dict], epoch: int, step: int, steps: int) -> float:
    """The original code's way: the last phase of the list that has begun, `step` counted from 1."""
    for phase in reversed([phase for phase in phases if "lr" in phase]):
        ep = phase["ep"] if isinstance(phase["ep"], list) else [phase["ep"]]
        if ep[0] <= epoch:
            break
    if not isinstance(phase["lr"], list):
        return phase["lr"]
    (first, last), (start, end) = phase["lr"], ep
    return first + (last - first) * ((epoch - start) * steps + step) / ((end - start) * steps)


@pytest.mark.parametrize(
    "name", [PUBLISHED[0], *(pytest.param(name, marks=pytest.mark.slow) for name in PUBLISHED[1:])]
)
def test_every_step_of_the_published_schedules_equals_the_2018_formula(name):
    preset, schedule = load_preset(name), Schedule.parse(name)
    for epoch in range(schedule.total_epochs):
        steps = math.ceil(IMAGES / (schedule.data_at(epoch).bs * preset["world_size"]))  # 2018 kept the last batch
        for step in range(1, steps + 1):
            expected = lr_2018(preset["phases"], epoch, step, steps)
            assert schedule.lr_at(epoch + step / steps) == pytest.approx(expected, rel=1e-12, abs=0)


def test_golden_values_of_the_one_machine_schedule():
    schedule = Schedule.parse("imagenet18-1")
    assert schedule.lr_at(0 + 1 / 313) == pytest.approx(1.000456, abs=5e-7)
    assert schedule.lr_at(7 + 1 / 313) == pytest.approx(1.999068, abs=5e-7)
    assert schedule.lr_at(13 + 1 / 715) == pytest.approx(0.437439, abs=5e-7)
    assert schedule.lr_at(28) == pytest.approx(0.00025, rel=1e-12)
    assert schedule.lr_at(7) == 2.0  # the last step of epoch 6 ends the first range
    assert schedule.lr_at(0) == 1.0


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_complete_and_round_trip_through_json(name):
    schedule = Schedule.parse(name)
    again = Schedule.parse(json.dumps(schedule.phases))
    assert again == schedule and again.phases == schedule.phases
    assert hash(again) == hash(schedule)
    assert (again.preset, schedule.preset) == (None, name)
    assert schedule.world_size == load_preset(name)["world_size"]
    assert set(load_preset(name)) == {"source", "hardware", "result", "world_size", "images", "phases"}


def test_presets_folder_holds_exactly_the_listed_names():
    files = (Path(phases.__file__).parent / "presets").glob("*.json")
    assert {file.stem for file in files} == set(PRESETS)


def test_python_text_json_text_file_and_list_give_the_same_schedule(tmp_path):
    phases = load_preset("imagenet18-8")["phases"]
    expected = Schedule.parse(phases)
    file = tmp_path / "my phases (1).json"
    file.write_text(json.dumps(phases, indent=1), encoding="utf-8")
    literal = repr(
        [{**phase, "ep": tuple(phase["ep"]) if isinstance(phase["ep"], list) else phase["ep"]} for phase in phases]
    )
    for source in (repr(phases), literal, json.dumps(phases), file, str(file), "imagenet18-8", tuple(phases)):
        assert Schedule.parse(source) == expected


def test_arithmetic_of_numbers_is_computed(tmp_path):
    text = "[{'ep': 0, 'sz': 4*(3+5), 'bs': 1024/4}, {'ep': (0, 2*5), 'lr': (1.0/8*256/512, 0.1 - -0.1)}]"
    schedule = Schedule.parse(text)
    assert (schedule.data[0].sz, schedule.data[0].bs, schedule.total_epochs) == (32, 256, 10)
    assert (schedule.lr_at(0), schedule.lr_at(10)) == (0.0625, 0.2)
    file = tmp_path / "phases.json"
    file.write_text('[{"ep": 0, "sz": 32, "bs": 256*2, "rect_val": true}, {"ep": [0, 9], "lr": +1.5e0/2}]')
    schedule = Schedule.parse(file)
    assert schedule.data[0] == DataPhase(0, 32, 512, rect_val=True, val_sz=32, val_bs=512)
    assert schedule.lr_at(9) == 0.75


def test_a_copied_preset_file_can_be_edited_and_used(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(load_preset("titan-rtx")), encoding="utf-8")
    schedule = Schedule.parse(file)
    assert schedule == Schedule.parse("titan-rtx")
    assert (schedule.world_size, schedule.preset) == (8, None)


# ---- data phases


def test_data_at_finds_the_last_phase_begun_and_fills_in_the_2018_defaults():
    schedule = Schedule.parse("imagenet18-1")
    first = DataPhase(0, 128, 512, "-sz/160", "-sz/160", 0.08, False, False, val_sz=128, val_bs=512)
    assert schedule.data_at(0) == schedule.data_at(12) == first
    assert schedule.data_at(13) == DataPhase(13, 224, 224, "-sz/352", "-sz/352", 0.087, False, False, 224, 256)
    assert schedule.data_at(27) == DataPhase(25, 288, 128, "", "", 0.5, True, False, 288, 128)
    with pytest.raises(ValueError):
        schedule.data_at(-1)


def test_validation_keys_override_the_defaults():
    phases = [{**DATA, "trndir": "-a", "valdir": "-b", "val_sz": 40, "val_bs": 77}, {"ep": (0, 2), "lr": 1}]
    data = Schedule.parse(phases).data_at(0)
    assert (data.valdir, data.val_sz, data.val_bs) == ("-b", 40, 77)


def test_strength_and_resize_of_a_phase_and_their_defaults():
    phases = [DATA, {**DATA, "ep": 1, "aug": 0, "val_resize": 2}, {"ep": 2, "bs": 9, "keep_dl": True}]
    schedule = Schedule.parse([*phases, {"ep": (0, 3), "lr": 1}])
    assert [(phase.aug, phase.val_resize) for phase in schedule.data] == [(1.0, None), (0.0, 2.0), (0.0, 2.0)]
    assert Schedule.parse(schedule.phases) == schedule
    assert ["val_resize" in phase for phase in schedule.phases[:3]] == [False, True, True]


def test_keep_dl_changes_only_the_batch_size():
    schedule = Schedule.parse("imagenet18-8")
    before, after = schedule.data_at(16), schedule.data_at(17)
    assert (before.bs, after.bs, after.keep_dl, after.epoch) == (128, 224, True, 17)
    for key in ("sz", "trndir", "valdir", "min_scale", "rect_val", "val_sz", "val_bs", "aug", "val_resize"):
        assert getattr(before, key) == getattr(after, key)
    repeated = [DATA, {"ep": 1, "sz": 32, "bs": 200, "keep_dl": True}, {"ep": (0, 2), "lr": 1}]
    assert Schedule.parse(repeated).data_at(1).keep_dl


def test_a_dict_with_data_and_lr_is_split_and_order_does_not_matter():
    mixed = [{"ep": (2, 4), "lr": (1, 0), "sz": 64, "bs": 5}, {"ep": (0, 2), "lr": 1}, DATA]
    split = [DATA, {"ep": 2, "sz": 64, "bs": 5}, {"ep": (0, 2), "lr": 1}, {"ep": (2, 4), "lr": (1, 0)}]
    assert Schedule.parse(mixed) == Schedule.parse(split)


# ---- learning rate and momentum


def test_one_number_holds_until_the_next_phase_begins_also_after_a_range_of_epochs():
    schedule = Schedule.parse([DATA, {"ep": (0, 2), "lr": 0.5}, {"ep": 4, "lr": 0.25}, {"ep": (6, 8), "lr": (1, 0)}])
    assert [schedule.lr_at(position) for position in (0, 2, 4, 4.01, 6, 7, 8)] == [0.5, 0.5, 0.5, 0.25, 0.25, 0.5, 0]


def test_a_last_phase_with_one_epoch_trains_nothing_past_it():
    schedule = Schedule.parse([DATA, {"ep": 0, "lr": 0.5}, {"ep": 3, "lr": 9.0}])
    assert schedule.total_epochs == 3
    assert schedule.lr_at(3) == 0.5
    assert Schedule.parse(schedule.phases) == schedule


def test_epoch_step_counts_only_when_true():
    phases = [DATA, {"ep": (0, 4), "lr": (1.0, 0.0), "epoch_step": True}]
    steps = [1 / 3, 2 / 3, 1.0]
    stepped = Schedule.parse(phases)
    assert [stepped.lr_at(epoch + step) for epoch in range(4) for step in steps] == [1.0] * 3 + [0.75] * 3 + [
        0.5
    ] * 3 + [0.25] * 3
    phases[1]["epoch_step"] = False
    assert Schedule.parse(phases).lr_at(4) == 0.0


def test_cosine_curve():
    schedule = Schedule.parse([DATA, {"ep": (0, 4), "lr": (1.0, 0.2), "curve": "cos"}])
    values = [schedule.lr_at(position) for position in (0, 1, 2, 3, 4)]
    half = math.sqrt(0.5)
    assert values == pytest.approx([1.0, 0.6 + 0.4 * half, 0.6, 0.6 - 0.4 * half, 0.2])


def test_square_curve_is_steep_first():
    schedule = Schedule.parse([DATA, {"ep": (0, 4), "lr": (1.0, 0.2), "curve": "pow2"}])
    values = [schedule.lr_at(position) for position in (0, 1, 2, 3, 4)]
    assert values == pytest.approx([0.2 + 0.8 * (1 - position / 4) ** 2 for position in range(5)])


@pytest.mark.parametrize("curve", ["linear", "cos", "pow2"])
def test_a_piece_of_a_curve_is_the_curve_there(curve):
    whole = Schedule.parse([DATA, {"ep": (0, 8), "lr": (1.0, 0.1), "curve": curve}])
    pieces = [{"ep": ep, "lr": (1.0, 0.1), "curve": curve, "over": (0, 8)} for ep in ((0, 3), (3, 5), (5, 8))]
    cut = Schedule.parse([DATA, *pieces])
    shown = Schedule.parse([DATA, {"ep": (0, 2), "lr": 7}, {**pieces[1], "ep": (2, 6)}])
    for position in (0.5, 1, 2.5, 3, 4.25, 6, 8):
        assert cut.lr_at(position) == pytest.approx(whole.lr_at(position), rel=1e-12)
    assert shown.total_epochs == 6 and shown.lr_at(2) == 7
    assert shown.lr_at(5.5) == whole.lr_at(5.5) and shown.lr_at(6) == whole.lr_at(6)
    for schedule in (cut, shown):
        assert Schedule.parse(json.loads(json.dumps(schedule.phases))) == schedule


def test_compressed_keeps_the_piece_of_the_curve():
    rates = [{"ep": (0, 5), "lr": (0.1, 1.0)}, {"ep": (5, 100), "lr": (1.0, 0.0), "curve": "cos", "over": (0, 100)}]
    schedule = Schedule.parse([DATA, *rates])
    short = schedule.compressed(20)
    assert short.lr[1].over == (0, 20)
    for epoch in range(1, 101):
        assert short.lr_at(epoch / 5) == pytest.approx(schedule.lr_at(epoch), rel=1e-9, abs=1e-15)


def test_momentum_has_its_own_phases():
    schedule = Schedule.parse("alibaba-1")
    assert [schedule.momentum_at(position) for position in (0, 5, 21)] == pytest.approx([0.96, 0.90, 0.96])
    assert schedule.momentum_at(13) == pytest.approx(0.93)
    assert Schedule.parse("imagenet18-1").momentum_at(3) is None
    lone = Schedule.parse([DATA, {"ep": (0, 6), "lr": 1}, {"ep": 0, "mom": 0.8}, {"ep": (2, 6), "mom": (0.9, 0.95)}])
    assert [lone.momentum_at(position) for position in (2, 4, 6)] == pytest.approx([0.8, 0.925, 0.95])


@pytest.mark.parametrize("position", [-0.1, 28.001, math.nan])
def test_a_position_outside_the_run_is_an_error(position):
    with pytest.raises(ValueError, match="outside"):
        Schedule.parse("imagenet18-1").lr_at(position)


# ---- property


def random_phases(draw: random.Random) -> list[dict]:
    """An accepted schedule: borders first, then data, lr and momentum phases on them, shuffled."""
    total = draw.randint(2, 40)
    phases = []
    for i, epoch in enumerate(borders(draw, total)[:-1]):
        if i and draw.random() < 0.3:
            phases.append({"ep": epoch, "bs": draw.randint(1, 600), "keep_dl": True})
        else:
            phases.append({"ep": epoch, "sz": draw.randint(8, 320), "bs": draw.randint(1, 600)})
    for key, limit in (("lr", 3.0), ("mom", 0.99)):
        cuts = borders(draw, total)
        for start, end in pairwise(cuts):
            curve = {"curve": draw.choice(["linear", "cos", "pow2"]), "epoch_step": draw.random() < 0.2}
            if end < total and draw.random() < 0.3:
                phases.append({"ep": start, key: draw.random() * limit, **curve})
            else:
                pair = (draw.choice([0, draw.random() * limit]), draw.choice([0.0, draw.random() * limit]))
                over = {"over": (max(0, start - draw.randint(0, 3)), end + draw.randint(0, 3))}
                phases.append({"ep": (start, end), key: pair, **curve, **(over if draw.random() < 0.3 else {})})
    draw.shuffle(phases)
    return phases


def borders(draw: random.Random, total: int) -> list[int]:
    return sorted({0, total, *draw.sample(range(total), min(total, draw.randint(0, 4)))})


@pytest.mark.parametrize("tenth", range(6))
def test_any_accepted_schedule_is_defined_everywhere_and_round_trips(tenth):
    for seed in range(10 * tenth, 10 * tenth + 10):
        draw = random.Random(seed)
        listed = random_phases(draw)
        check_everywhere(listed, draw)


def check_everywhere(listed: list[dict], draw: random.Random) -> None:
    schedule = Schedule.parse(repr(listed))
    for changed in (schedule, schedule.compressed(draw.randint(1, 50)), schedule.with_lr_factor(0.1)):
        for epoch in range(changed.total_epochs):
            steps = draw.randint(1, 30)
            for step in range(1, steps + 1):
                lr, momentum = changed.lr_at(epoch + step / steps), changed.momentum_at(epoch + step / steps)
                assert math.isfinite(lr) and lr >= 0
                assert 0 <= momentum < 1
            assert changed.data_at(epoch).bs >= 1
    assert Schedule.parse(json.loads(json.dumps(schedule.phases))) == schedule
