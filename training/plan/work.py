"""What a run has to do, as counts: steps, validations and saves of each stretch of its schedule. No torch."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from data_prep import Manifest
from phases import DataPhase, Schedule
from phases.parts import epoch_parts
from training.config.config import Config
from training.config.loaders import reads_files
from training.data.dataset import loader_name
from training.models.layouts import LAYOUTS


class Training(NamedTuple):
    """All that the time of a training step depends on, beside what the whole run shares (training/plan/key.py)."""

    size: int  # pixels
    batch: int  # images per device
    folder: str  # suffix of DATA
    whitening: bool = False  # whether cifarnet trains its first layer, which makes the backward pass longer
    min_scale: float = 0.0  # of image files, which are decoded in part; 0: nothing is decoded
    aug: float = 1.0


class Checking(NamedTuple):
    """The same of a validation."""

    size: int  # pixels
    batch: int
    folder: str
    rectangular: bool
    tta: str
    resize: float


class Entry(NamedTuple):
    """The same of entering a data phase."""

    training: Training
    checking: Checking
    first: bool  # of the run: the dataset is opened, and a first layer looks at it


@dataclass(frozen=True)
class Stretch:
    """Epochs one after the other with the same work in each."""

    phase: DataPhase
    training: Training
    checking: Checking
    start: float  # epochs
    epochs: float
    steps: int
    checks: int  # validations
    enters: Entry | None  # the data phase that begins here


@dataclass(frozen=True)
class Work:
    stretches: tuple[Stretch, ...]
    validation_images: int
    saves: int  # after epochs; more come with --checkpoint-minutes
    shapes: int  # of training batches, which a run warms up with: those of skipped epochs, too

    @property
    def trainings(self) -> list[Training]:
        return list(dict.fromkeys(item.training for item in self.stretches))

    @property
    def checkings(self) -> list[Checking]:
        return list(dict.fromkeys(item.checking for item in self.stretches if item.checks))

    @property
    def entries(self) -> list[Entry]:
        return list(dict.fromkeys(item.enters for item in self.stretches if item.enters))


def work_of(config: Config, schedule: Schedule, dataset: Manifest, world_size: int = 1) -> Work:
    """Of the whole schedule: a run that stops at its target does less."""
    decodes = reads_files(loader_name(config, schedule))
    images, found, before = dataset.splits["train"].images, [], None
    for epoch in range(config.start_epoch, schedule.epochs):
        parts = epoch_parts(schedule, epoch, images, world_size)
        whole = config.steps_of(parts[-1].stop_step)  # of the epoch, which --short-epoch cuts
        for part in parts:
            phase, steps = part.phase, max(0, min(part.stop_step, whole) - part.first_step)
            training, checking = training_of(config, phase, epoch, decodes), checking_of(config, phase)
            enters = Entry(training, checking, before is None) if phase != before else None
            checks = validated(config, schedule, epoch) if part is parts[-1] else 0
            add(found, Stretch(phase, training, checking, part.start, part.end - part.start, steps, checks, enters))
            before = phase
    shapes = len({(phase.sz, phase.bs) for phase in schedule.data})
    return Work(tuple(found), dataset.splits["validation"].images, saves_of(config, schedule), shapes)


def add(found: list[Stretch], item: Stretch) -> None:
    """To the stretch before, where the epoch is like its own."""
    last = found[-1] if found else None
    if last is None or item.enters or item.training != last.training:
        found.append(item)
        return
    sums = {name: getattr(last, name) + getattr(item, name) for name in ("epochs", "steps", "checks")}
    found[-1] = replace(last, **sums)


def training_of(config: Config, phase: DataPhase, epoch: int, decodes: bool) -> Training:
    whitening = config.model in LAYOUTS and epoch < config.whitening_epochs
    scale = phase.min_scale if decodes else 0.0
    return Training(phase.sz, phase.bs, phase.trndir, whitening, scale, phase.aug)


def checking_of(config: Config, phase: DataPhase) -> Checking:
    resize = phase.val_resize or config.val_resize
    return Checking(phase.val_sz, phase.val_bs, phase.valdir, phase.rect_val, config.tta, resize)


def validated(config: Config, schedule: Schedule, epoch: int) -> int:
    """1 for an epoch that is validated, else 0; the rule of training.engine.trainer."""
    last = epoch + 1 >= schedule.total_epochs
    return int(last or (epoch >= config.eval_from and (epoch - config.eval_from) % config.eval_every == 0))


def saves_of(config: Config, schedule: Schedule) -> int:
    epochs = range(config.start_epoch, schedule.epochs)
    return sum(epoch + 1 >= schedule.total_epochs or (epoch + 1) % config.checkpoint_every == 0 for epoch in epochs)
