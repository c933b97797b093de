"""Warm-up leaves no trace; precision is a choice that touches nothing; the schedule's values reach each step."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny_run import CPU, IMAGES, STEPS, events, tiny_job, tiny_schedule, tiny_state, train

from phases import Schedule
from training.config.config import Config
from training.data.loader import Batch
from training.distributed.parallel import compiled, graphs_fixed
from training.engine import trainer
from training.engine.precision import (
    Precision,
    choose_precision,
    emulated,
    has_fast_bf16,
    has_fast_fp16,
    step_seconds,
)
from training.engine.state import fingerprint
from training.engine.warmup import needs_warm_up, prepare_device, random_batch, warm_up, without_clock

CONFIG = Config(data="/nowhere", width=0.125, optimizer="muon", ema_decay=0.9, ema_every=1, nesterov=True)
MOMENTA = "[{'ep': 0, 'sz': 12, 'bs': 60}, {'ep': (0, 2), 'lr': (0.1, 0.4), 'mom': (0.9, 0.5)}]"


def some_steps(config, state, count: int) -> None:
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(8, 3, 12, 12, generator=generator)
        trainer.step(config, state, Batch(images, torch.randint(6, (8,), generator=generator)), 0.1, None)


@pytest.mark.parametrize(("steps_before", "tta"), [(0, "none"), (3, "flip")])
def test_warm_up_puts_every_part_of_the_state_back(steps_before, tta):
    """Weights, momentum, BN statistics, average, counters, sums and random state; a dataset is not even there."""
    config = replace(CONFIG, tta=tta)
    state = tiny_state(config)
    some_steps(config, state, steps_before)
    before, mode = fingerprint(without_clock(state)), state.model.training
    warm_up(config, tiny_schedule(), state, CPU, 6, trainer.step)
    assert fingerprint(without_clock(state)) == before and state.model.training == mode
    assert all(p.grad is None for p in state.model.parameters())


def test_a_run_after_warm_up_is_the_run_without_it():
    warmed, cold = tiny_state(CONFIG), tiny_state(CONFIG)
    warm_up(CONFIG, tiny_schedule(), warmed, CPU, 6, trainer.step)
    for state in (warmed, cold):
        torch.manual_seed(0)
        some_steps(CONFIG, state, 3)
    assert fingerprint(without_clock(warmed)) == fingerprint(without_clock(cold))


def test_memory_that_torch_keeps_is_given_back_for_the_loader(monkeypatch):
    """DALI's pools and pixels on the device come after the warm-up, and torch would still hold its largest batch."""
    given_back = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(True))
    prepare_device(Config(preflight="off"), tiny_schedule(), tiny_state(CONFIG), CPU, 6)
    assert given_back == [True]


def test_warm_up_meets_every_shape_of_the_schedule():
    shapes = []

    def watched(config, state, batch, *rates):
        shapes.append((batch.images.shape[2], len(batch.targets)))
        return trainer.step(config, state, batch, *rates)

    warm_up(CONFIG, tiny_schedule(), tiny_state(CONFIG), CPU, 6, watched)
    assert set(shapes) == {(12, 60), (16, 40)} and len(shapes) == 8  # whitening frozen, trained


def test_the_check_notices_a_trace():
    """Negative control: a restore that forgets everything."""
    state = tiny_state(CONFIG)
    state.load_state_dict = lambda saved: None
    with pytest.raises(AssertionError, match="left a trace"):
        warm_up(CONFIG, tiny_schedule(), state, CPU, 6, trainer.step)


def test_random_batches_have_the_form_of_real_ones():
    batch = random_batch((12, 12), 5, 6, tiny_state(CONFIG, precision="bf16"), CPU)
    assert batch.images.dtype == torch.bfloat16 and batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.targets.dtype == torch.int64 and int(batch.targets.max()) < 6


def test_eager_code_on_a_cpu_needs_no_warm_up():
    assert not needs_warm_up(Config(), CPU) and needs_warm_up(Config(compile=True), CPU)


@pytest.mark.slow
def test_a_compiled_run_counts_its_warm_up_before_the_clock(toy, tmp_path):
    assert train(toy, tmp_path / "run", "--compile") == 0
    start = events(tmp_path / "run", "start")[0]
    assert start["setup_seconds"]["warm"] > 1 and events(tmp_path / "run")[-1]["images_seen"] == IMAGES


@pytest.mark.slow
def test_a_size_that_was_not_warmed_up_is_an_error_inside_the_clock():
    config = Config(compile=True)
    network = compiled(config, torch.nn.Conv2d(3, 4, 3))
    network(torch.zeros(1, 3, 8, 8))
    with graphs_fixed(config):
        network(torch.zeros(1, 3, 8, 8))
        with pytest.raises(RuntimeError, match="recompile"):
            network(torch.zeros(1, 3, 9, 9))


@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp32", marks=pytest.mark.slow)])
def test_weights_statistics_sums_and_average_stay_fp32(toy, tmp_path, precision):
    flags = ("--precision", precision, "--ema-decay", "0.9", "--ema-every", "2")
    with tiny_job(toy, tmp_path / "run", *flags) as job:
        trainer.fit(job)
        state = job.state
        assert state.precision.name == precision and job.loader.dtype == state.precision.dtype
        parts = [*state.model.state_dict().values(), *state.average.module.state_dict().values()]
        parts += [value for o in state.optimizers for s in o.state.values() for value in s.values()]
        floats = {tensor.dtype for tensor in parts if torch.is_tensor(tensor) and tensor.is_floating_point()}
        assert floats == {torch.float32} and state.loss_sum.dtype == torch.float64
    losses = [epoch["train_loss"] for epoch in events(tmp_path / "run")]
    assert losses[1] < losses[0]


def test_auto_precision_chooses_without_touching_weights_or_gradients():
    model = tiny_state(CONFIG).model
    before = copy.deepcopy(model.state_dict())
    precision = choose_precision(Config(precision="auto"), CPU, model, 12)
    assert precision.name in ("fp32", "bf16")
    assert fingerprint(model.state_dict()) == fingerprint(before) and all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_a_named_precision_is_taken(name):
    assert choose_precision(Config(precision=name), CPU, tiny_state(CONFIG).model, 12).name == name


@pytest.mark.parametrize(("name", "has"), [("bf16", has_fast_bf16), ("fp16", has_fast_fp16)])
def test_a_format_that_the_processor_emulates_is_warned_about(name, has, toy, tmp_path, capsys):
    assert train(toy, tmp_path / "run", "--precision", name, "--evaluate") == 0
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == (not has())
    for words in (f"--precision {name}: PyTorch emulates", "times as long as in fp32", "--precision auto"):
        assert all(words in line for line in warnings)
    assert emulated(Precision(name, "cuda")) == emulated(Precision("fp32", "cpu")) == ""


def test_auto_does_not_time_a_format_that_the_processor_lacks():
    """The network would fail if a step of it were timed."""
    if has_fast_bf16():
        pytest.skip("this processor has bf16")
    assert choose_precision(Config(precision="auto"), CPU, torch.nn.Module(), 12) == Precision("fp32", "cpu")


def test_steps_are_timed_on_a_copy_in_both_formats():
    model = tiny_state(CONFIG).model
    before = fingerprint(model.state_dict())
    seconds = step_seconds(model, CONFIG, 12, batch_size=8)
    assert seconds.keys() == {"fp32", "bf16"} and min(seconds.values()) > 0
    assert fingerprint(model.state_dict()) == before and all(p.grad is None for p in model.parameters())


def test_lr_and_momentum_of_every_step_are_the_schedules(toy, tmp_path, monkeypatch):
    seen, original = [], trainer.step

    def watched(config, state, *arguments):
        result = original(config, state, *arguments)
        groups = [group for optimizer in state.optimizers for group in optimizer.param_groups]
        seen.append([(group["lr"] / group["lr_factor"], group["momentum"]) for group in groups])
        return result

    monkeypatch.setattr(trainer, "step", watched)
    flags = ("--phases", MOMENTA, "--optimizer", "muon", "--bias-lr", "0.25", "--head-lr", "3")
    with tiny_job(toy, tmp_path / "run", *flags) as job:
        trainer.fit(job)
    schedule = Schedule.parse(MOMENTA)
    assert len(seen) == 8
    for number, groups in enumerate(seen):
        position = number // 4 + (number % 4 + 1) / 4
        expected = schedule.lr_at(position), schedule.momentum_at(position)
        assert len(groups) == 4 - 1 and all(group == pytest.approx(expected) for group in groups)


def test_images_and_steps_of_the_run_are_those_of_the_schedule(toy, tmp_path):
    assert train(toy, tmp_path / "run") == 0
    epochs = events(tmp_path / "run")
    assert [epoch["steps"] for epoch in epochs] == list(STEPS)
    assert [epoch["images_seen"] for epoch in epochs] == [240, IMAGES]
    assert [epoch["lr"] for epoch in epochs] == [
        [tiny_schedule().lr_at(e + 1 / steps), tiny_schedule().lr_at(e + 1.0)] for e, steps in enumerate(STEPS)
    ]
