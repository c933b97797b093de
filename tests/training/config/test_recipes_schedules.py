"""Learning rates of the recipes against the libraries' own schedulers, at every epoch and inside it."""

import pytest
import torch
from recipe_sources import command, mapping, resolved
from timm.scheduler import CosineLRScheduler
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR, StepLR

from phases import Schedule

STEPS = 7  # of an epoch, to look at


def optimizer(lr: float) -> torch.optim.SGD:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def torch_rates(scheduler, epochs: int) -> list[float]:
    """By epoch, in the order of torchvision's train.py: an epoch is trained, then the scheduler steps."""
    rates = []
    for _ in range(epochs):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def assert_rates(schedule: Schedule, expected: list[float]) -> None:
    """Constant inside each epoch, as those scripts have it."""
    assert schedule.total_epochs == len(expected)
    for epoch, lr in enumerate(expected):
        for step in range(1, STEPS + 1):
            assert schedule.lr_at(epoch + step / STEPS) == pytest.approx(lr, rel=1e-9, abs=1e-15), (epoch, step)


def test_torchvision_v1_is_torchs_step_schedule():
    flags, (_, schedule) = command("torchvision-v1"), resolved("torchvision-v1")
    steps = StepLR(optimizer(float(flags["lr"])), int(flags["lr-step-size"]), float(flags["lr-gamma"]))
    assert_rates(schedule, torch_rates(steps, int(flags["epochs"])))


@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_torchvision_v2_is_torchs_warm_up_and_cosine():
    flags, (_, schedule) = command("torchvision-v2"), resolved("torchvision-v2")
    warm_up, epochs = int(flags["lr-warmup-epochs"]), int(flags["epochs"])
    sgd = optimizer(float(flags["lr"]))
    cosine = CosineAnnealingLR(sgd, T_max=epochs - warm_up)
    linear = LinearLR(sgd, start_factor=float(flags["lr-warmup-decay"]), total_iters=warm_up)
    sequence = SequentialLR(sgd, schedulers=[linear, cosine], milestones=[warm_up])
    assert_rates(schedule, torch_rates(sequence, epochs))


def timm_rates(scheduler: CosineLRScheduler, epochs: int) -> list[float]:
    rates = []
    for epoch in range(epochs):
        scheduler.step(epoch)
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize("name", ["rsb-a1", "rsb-a2", "rsb-a3"])
def test_resnet_strikes_back_is_timms_cosine_under_its_warm_up(name):
    table, (_, schedule) = mapping("rsb-table")[name], resolved(name)
    settings = {"warmup_t": table["warmup_epochs"], "warmup_lr_init": table["warmup_lr"], "lr_min": table["min_lr"]}
    cosine = CosineLRScheduler(optimizer(table["lr"]), t_initial=table["epochs"], **settings)
    assert_rates(schedule, timm_rates(cosine, table["epochs"]))


def test_cosine_restarts_are_timms_at_the_borders_of_epochs():
    _, schedule = resolved("cosine-restarts")
    settings = {
        "t_initial": 10,
        "cycle_mul": 2,
        "cycle_limit": 4,
        "warmup_t": 5,
        "warmup_lr_init": 0.0,
        "warmup_prefix": True,
    }
    cosine = CosineLRScheduler(optimizer(0.4), **settings)
    for epoch, lr in enumerate(timm_rates(cosine, 155)):  # ours goes on inside the epoch: its value where that begins
        at = epoch + 1e-9 if epoch in (15, 35, 75) else epoch  # just after a restart
        assert schedule.lr_at(at) == pytest.approx(lr, rel=1e-6, abs=1e-9)
    assert schedule.lr_at(schedule.total_epochs) == 0


@pytest.mark.parametrize("name, start", [("bag-of-tricks", 5), ("composer-mild", 8)])
def test_cosine_by_step(name, start):
    _, schedule = resolved(name)
    epochs, peak = schedule.total_epochs, schedule.lr_at(start)
    whole = CosineAnnealingLR(optimizer(peak), T_max=(epochs - start) * STEPS)
    for step, lr in enumerate(torch_rates(whole, (epochs - start) * STEPS)):
        assert schedule.lr_at(start + step / STEPS) == pytest.approx(lr, rel=1e-6, abs=1e-9 * peak)
    assert schedule.lr_at(start / 2) == pytest.approx(peak / 2)
