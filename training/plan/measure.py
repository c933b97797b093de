"""The few steps that a plan takes on this machine: of each (size, batch) on the run's own loader, with a model that is
thrown away."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from data_prep import Manifest
from data_prep.workers import keep_freed_memory
from dawn import Clock, process_start_ns
from phases import DataPhase, Schedule
from training.config.config import Config
from training.config.loaders import reads
from training.data.dataset import loader_name
from training.data.loader import Batch, Loader, open_loader
from training.distributed.env import Env, open_env
from training.distributed.parallel import set_whitening
from training.engine.checkpoint import Saver
from training.engine.evaluate import predict
from training.engine.state import TrainState
from training.engine.step import step
from training.engine.trainer import WHITENING_IMAGES
from training.engine.warmup import prepare_device, random_batch
from training.models.build import has_whitening
from training.plan.fit import arithmetic
from training.plan.flops import add_flops
from training.plan.memory import check_room
from training.plan.peaks import available_bytes, peak_bytes, peak_noted, reset_peak
from training.plan.store import CheckTime, EntryTime, Measurements, StartTime, StepTime
from training.plan.work import Entry, Stretch, Training, Work
from training.runs.session import build_state, checked_input

BUDGET = 22.0  # seconds of steps and validation for all phases; slow steps may take more
LEAST, MOST = 2, 10  # steps a point
CHECKED = 2  # validation batches a point
PART = 8  # a small step, before the first one in full, has this part of the batch
LOADER_SECONDS = 0.5  # for which a loader is watched alone
QUEUE = 4  # batches that a loader may have ready
IN_STEP = ("arrays", "nothing")  # forms of data whose loader works only when a batch is asked for


class Small(NamedTuple):
    """What a small step tells of the full one."""

    seconds: float
    image_bytes: float  # 0: not known


@dataclass(frozen=True)
class Bench:
    """What the steps are taken with."""

    config: Config
    env: Env
    state: TrainState
    loader: Loader
    classes: int
    has_queue: bool  # the loader works ahead of its use

    def step(self, batch: Batch) -> None:
        step(self.config, self.state, batch, 0.0, None)

    def seconds(self, action: Callable[[], object]) -> float:
        """Until the device has done its work."""
        self.env.sync()
        begin = time.monotonic()
        action()
        self.env.sync()
        return time.monotonic() - begin


def measure(
    config: Config, schedule: Schedule, dataset: Manifest, work: Work, found: Measurements, init: float | None = None
) -> list[str]:
    """Add to `found` what it lacks for `work`. The notes to print. `init`: seconds of the start of a run's program;
    None: those since this process began. Raises: ConfigError for a model or a batch that this machine cannot take."""
    clock = Clock(origin_ns=process_start_ns())
    with open_env(config) as env:
        checked_input(config, schedule, env, clock=clock)
        add_flops(config, len(dataset.classes), work, found)
        check_least(config, env, work, found)
        state, _ = build_state(config, schedule, dataset, env, clock)
        with clock.during("warm"):
            prepare_device(config, schedule, state, env, len(dataset.classes))
        setup = clock.setup_seconds()
        with closing(open_loader(config, schedule, dataset, env, state.precision.dtype)) as loader:
            queue = reads(loader_name(config, schedule)).form not in IN_STEP
            bench = Bench(config, env, state, loader, len(dataset.classes), queue)
            notes = measured_phases(bench, schedule, work, found)
            checkpoint, checkpoint_bytes = save_cost(bench)
        found.start = StartTime(
            init=setup["init"] if init is None else init,
            prepare=setup["prepare"],
            warm=setup["warm"] / work.shapes,
            checkpoint=checkpoint,
            precision=state.precision.name,
            device=env.device.type,
            memory_bytes=available_bytes(env),
            peak_flops=found.start.peak_flops if found.start else matrix_flops(bench),
            checkpoint_bytes=checkpoint_bytes,
        )
    found.utc = datetime.now(UTC).isoformat(timespec="seconds")
    return notes


def check_least(config: Config, env: Env, work: Work, found: Measurements) -> None:
    """Before anything is taken: what a step keeps for its gradient, in two bytes a number at least. Raises: ConfigError
    for a phase that cannot fit."""
    share = (1.0 if config.precision == "fp32" else 0.5) / config.accumulate
    for item in work.stretches:
        kept = found.saved[item.training.size, item.training.whitening]
        check_room(item.phase, share * kept, config.accumulate, available_bytes(env))


def measured_phases(bench: Bench, schedule: Schedule, work: Work, found: Measurements) -> list[str]:
    """In the order of the schedule, as a run would meet them: what it has read is in memory, and memory that it has
    freed is kept."""
    small: dict[Training, Small] = {}
    for item in work.stretches:
        if item.enters:
            found.entries.setdefault(item.enters, entry_cost(bench, item.phase, item.enters))
        if item.training not in found.steps and item.training not in small:
            small[item.training] = small_step(bench, item)
    keep_freed_memory()
    chosen, notes = thinned(small, found)
    lacking = [point for point in work.checkings if point not in found.checks]
    share = BUDGET / max(1, len(chosen) + len(lacking) / 2)
    for item in work.stretches:
        here = item.training in chosen and item.training not in found.steps
        checks = item.checks and item.checking in lacking and item.checking not in found.checks
        if (here or checks) and bench.loader.phase != item.phase:
            bench.loader.set_phase(item.phase)
        if here:
            found.steps[item.training] = step_times(bench, item.training, share, small[item.training].image_bytes)
        if checks:
            found.checks[item.checking] = check_times(bench, share / 2)
            found.shapes[item.checking] = mean_pixels(bench.loader, item.phase)
    return notes


def entry_cost(bench: Bench, phase: DataPhase, entry: Entry) -> EntryTime:
    peaks: list[int] = []
    with peak_noted(bench.env, peaks):
        seconds = bench.seconds(lambda: enter(bench, phase, entry))
    return EntryTime(seconds, max(peaks, default=0))


def enter(bench: Bench, phase: DataPhase, entry: Entry) -> None:
    """As the trainer enters a phase."""
    bench.loader.set_phase(phase)
    if entry.first and has_whitening(bench.state.model):
        bench.state.model.initialise_from(bench.loader.first_images(WHITENING_IMAGES))


def small_step(bench: Bench, item: Stretch) -> Small:
    """About how long a step in full will take, from one with a part of the batch; on a CPU also what the full one needs
    of memory, which the system would otherwise end this process for. Raises: ConfigError where it does not fit."""
    point, parts = item.training, bench.config.accumulate
    if bench.env.device.type == "cuda" or bench.config.compile:  # the warm-up has been through all of them
        return Small(0.0, 0.0)
    enter_whitening(bench, point)
    least = min(2 * parts, point.batch)
    images = min(max(2 * least, point.batch // PART // parts * parts), point.batch)
    (_, small), (seconds, large) = (part_of_step(bench, point, count) for count in (least, images))
    per_image = max(0, large - small) / (images - least) if images > least else 0.0
    check_room(item.phase, per_image, parts, available_bytes(bench.env), base=min(small, large) - per_image * least)
    return Small(seconds * point.batch / images, per_image)


def part_of_step(bench: Bench, point: Training, images: int) -> tuple[float, int]:
    """Seconds of the faster of two steps with so many random images, and the peak of the memory."""
    batch = random_batch((point.size, point.size), images, bench.classes, bench.state, bench.env)
    reset_peak(bench.env)
    seconds = min(bench.seconds(lambda: bench.step(batch)) for _ in range(2))
    return seconds, peak_bytes(bench.env)


def enter_whitening(bench: Bench, point: Training) -> None:
    if has_whitening(bench.state.model):
        set_whitening(bench.config, bench.state, bench.env, point.whitening)


def thinned(small: dict[Training, Small], found: Measurements) -> tuple[list[Training], list[str]]:
    """The points to measure: all, or where steps are slow those with the least and the most arithmetic of each folder.
    A fit between them gives the others; it goes no further than its own folder (training/plan/fit.py)."""
    order = sorted(small, key=lambda point: arithmetic(found, point))
    seconds = [told.seconds for told in small.values()]
    first, last = ({point.folder: point for point in points} for points in (reversed(order), order))
    ends = {*first.values(), *last.values()}
    between = ", ".join(sorted({f"{p.size} px, batch {p.batch}" for p in order if p not in ends}))
    if not between or (1 + LEAST) * sum(seconds) <= BUDGET:
        return order, []
    slowest = f"a step takes up to about {max(seconds):.1f} s"
    told = f"{slowest}: measured where it is shortest and longest, fitted for {between}"
    return [point for point in order if point in ends], [told]


def step_times(bench: Bench, point: Training, share: float, image_bytes: float) -> StepTime:
    """Loader alone, then both together, then the model alone where the loader works in the background."""
    enter_whitening(bench, point)
    bench.state.model.train()
    is_own = reset_peak(bench.env)
    batches = endless(bench.loader)
    with closing(batches):
        batch = next(batches)
        loader = loader_seconds(batches)
        first = bench.seconds(lambda: bench.step(batch))
        steps = min(MOST, max(LEAST, int(share / first) - 1 - LEAST * bench.has_queue))
        if bench.has_queue:
            time.sleep(min(1.0, QUEUE * loader))  # a run's queue is as full as it gets
        waits, joints = zip(*(joint_step(bench, batches) for _ in range(steps)), strict=True)
    joint, wait = statistics.median(joints), statistics.median(waits)
    model = joint - wait
    if bench.has_queue:
        model = statistics.median(bench.seconds(lambda: bench.step(batch)) for _ in range(LEAST))
    slower = max(joint, loader)  # what was ready before the steps hides a slow loader
    spread = (max(joints) - min(joints)) / 2 / joint
    extra = max(0.0, first + wait - joint)
    peak = peak_bytes(bench.env) if is_own else None
    return StepTime(loader, model, slower, wait + slower - joint, spread, steps, extra, peak, image_bytes)


def endless(loader: Loader) -> Iterator[Batch]:
    for epoch in count():
        yield from loader.train(epoch)


def loader_seconds(batches: Iterator[Batch]) -> float:
    """For a batch, of at least two, without a model beside it."""
    begin, seen = time.monotonic(), 0
    while seen < 2 or time.monotonic() - begin < LOADER_SECONDS:
        next(batches)
        seen += 1
    return (time.monotonic() - begin) / seen


def joint_step(bench: Bench, batches: Iterator[Batch]) -> tuple[float, float]:
    """Seconds of waiting for the batch, and of all."""
    begin = time.monotonic()
    batch = next(batches)
    waited = time.monotonic() - begin
    bench.step(batch)
    bench.env.sync()
    return waited, time.monotonic() - begin


@torch.no_grad()
def check_times(bench: Bench, share: float) -> CheckTime:
    """Of some batches of the validation; all that it has where they are quick."""
    model = bench.state.evaluated_model().eval()
    found: list[float] = []
    peaks: list[int] = []
    with peak_noted(bench.env, peaks, trim=False), closing(bench.loader.validation()) as batches:
        begin = time.monotonic()
        for _ in islice(count(), MOST):
            seconds, pixels = checked_batch(bench, model, batches)
            if not pixels:
                break
            found.append(seconds / pixels)
            if len(found) > CHECKED and time.monotonic() - begin > share:
                break
    bench.state.model.train()
    kept = found[1:] or found  # the first begins a pass, and prepares its kernels
    middle = statistics.median(kept)
    return CheckTime(middle, (max(kept) - min(kept)) / 2 / middle, len(kept), max(peaks, default=0))


def checked_batch(bench: Bench, model: nn.Module, batches: Iterable[Batch]) -> tuple[float, int]:
    """Seconds and pixels of the next batch; 0 pixels at the end."""
    seen: list[int] = []

    def check() -> None:
        batch = next(batches, None)
        if batch is not None:
            predict(model, batch.images, bench.state.precision, bench.config.tta)
            seen.append(batch.images.shape[0] * batch.images.shape[2] * batch.images.shape[3])

    seconds = bench.seconds(check)
    return seconds, sum(seen)


def mean_pixels(loader: Loader, phase: DataPhase) -> float:
    """Of the images of a validation, which rectangular ones differ in."""
    if not phase.rect_val or not hasattr(loader, "validation_shapes"):
        return float(phase.val_sz**2)
    shapes = loader.validation_shapes(phase)
    return sum(height * width * images for (height, width), images in shapes.items()) / sum(shapes.values())


def save_cost(bench: Bench) -> tuple[float, int]:
    """Seconds of a checkpoint, in a folder that is removed, and the bytes that it takes beside what is in memory and
    what the steps before have freed."""
    peaks: list[int] = []
    with tempfile.TemporaryDirectory() as folder, peak_noted(bench.env, peaks, trim=False):
        before = peak_bytes(bench.env)
        saver = Saver(Path(folder))
        seconds = bench.seconds(lambda: saver.save({"identity": {}, "state": bench.state.state_dict()}))
    return seconds, max([before, *peaks]) - before


def matrix_flops(bench: Bench) -> float:
    """A second, in the run's precision, of the fastest of some large matrix products."""
    side = 4096 if bench.env.device.type == "cuda" else 1024
    matrix = torch.ones(side, side, device=bench.env.device, dtype=bench.state.precision.dtype)
    return 2 * side**3 / min(bench.seconds(lambda: matrix @ matrix) for _ in range(4))
