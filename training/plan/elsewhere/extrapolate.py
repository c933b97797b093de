"""A plan for hardware that is not here: the arithmetic of each step at that hardware's peak, with the efficiency that
was seen elsewhere. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from dawn.runlog.clock import LABELS
from training.config.config import Config
from training.plan.elsewhere.hardware import Hardware
from training.plan.fit import VIEWS, arithmetic, step_time
from training.plan.forecast import NOTHING, Estimate, Forecast, Row, total
from training.plan.memory import check_room
from training.plan.store import Measurements, StepTime
from training.plan.work import Stretch, Training, Work

# By which factor the times may be wrong, either way. Assumed, not measured: docs/plan.md says so.
FROM_HERE, FROM_RUN = 4.0, 2.0
HERE = "the efficiency of steps on this machine, against a large matrix product"
TRAFFIC = 3  # times that what is kept for the gradient goes through the memory: written, read, and its gradient written
FORWARD = 1 / 3  # of the arithmetic of training


@dataclass(frozen=True)
class Basis:
    """What was seen elsewhere, in seconds. `told`: where, in words; `factor`: by which the times may be wrong;
    `efficiency`: share of the peak by (size, batch), or everywhere."""

    told: str
    factor: float
    init: float
    prepare: float
    warm: float
    checkpoint: float
    switch: float
    efficiency: Mapping[Training, float] | float

    def of(self, point: Training) -> float:
        return self.efficiency if isinstance(self.efficiency, float) else self.efficiency[point]


def seen_here(found: Measurements, work: Work) -> Basis:
    """`found` must tell all steps of `work`. The peak here is that of a large matrix product."""
    start = found.start
    share = {point: efficiency_of(found, point, start.peak_flops) for point in work.trainings}
    switch = max((time.seconds for time in found.entries.values()), default=0.0)
    warm = start.warm * work.shapes
    return Basis(HERE, FROM_HERE, start.init, start.prepare, warm, start.checkpoint, switch, share)


def efficiency_of(found: Measurements, point: Training, peak: float) -> float:
    step = step_time(found, point)[0]
    return min(1.0, arithmetic(found, point) / max(1e-9, step.joint - step.wait) / peak)


def extrapolated(
    name: str, config: Config, work: Work, found: Measurements, hardware: Hardware, basis: Basis
) -> Forecast:
    """`work`: of one of the hardware's processes; `found`: FLOPs and kept bytes of all its steps. Nothing is planned
    for waiting for images, nor for talk between GPUs. Raises: ConfigError for a phase that cannot fit into a GPU."""
    precision = hardware.precision_of(config.precision)
    rows = tuple(row_of(config, work, found, hardware, precision, basis, item) for item in work.stretches)
    once = {
        "init": basis.init,
        "prepare": basis.prepare,
        "warm": basis.warm,
        "checkpoint": work.saves * basis.checkpoint,
    }
    ledger = dict.fromkeys(LABELS, NOTHING) | {label: Estimate(seconds, 0.0) for label, seconds in once.items()}
    ledger |= {
        "train": total(row.train for row in rows),
        "eval": total(row.check for row in rows),
        "switch": total(row.switch for row in rows),
    }
    return Forecast(name, rows, ledger, precision, hardware.name, basis.factor)


def row_of(
    config: Config, work: Work, found: Measurements, hardware: Hardware, precision: str, basis: Basis, item: Stretch
) -> Row:
    point = item.training
    kept = found.saved[point.size, point.whitening] * (1.0 if precision == "fp32" else 0.5)
    check_room(item.phase, kept / config.accumulate, config.accumulate, hardware.chip.gigabytes * 1e9)
    rate = hardware.peak(precision) * basis.of(point)
    by_memory = TRAFFIC * kept * point.batch / (hardware.chip.gigabytes_per_second * 1e9)
    seconds = max(arithmetic(found, point) / rate, by_memory)
    step = StepTime(0.0, seconds, seconds, 0.0, 0.0, 0)
    check = check_seconds(work, found, item, rate) / hardware.count if item.checks else 0.0
    return Row(
        item, step, False, NOTHING, Estimate(item.steps * seconds, 0.0), Estimate(item.checks * check, 0.0),
        Estimate(basis.switch if item.enters else 0.0, 0.0), NOTHING,
    )  # fmt: skip


def check_seconds(work: Work, found: Measurements, item: Stretch, rate: float) -> float:
    """Of one validation of all images: arithmetic grows with the pixels."""
    point, check = item.training, item.checking
    per_pixel = found.flops[point.size, point.whitening] / point.size**2
    return work.validation_images * check.size**2 * per_pixel * FORWARD * VIEWS[check.tta] / rate


def images_per_second(plan: Forecast, hardware: Hardware) -> float:
    """That the loaders of all processes must give, where the model is fastest."""
    return hardware.count * max(row.stretch.training.batch / row.step.joint for row in plan.rows)
