"""What a finished (or interrupted) run has learned: its newest whole checkpoint as a plain network, and what belongs to
it. For everything that hands weights over."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_prep import DataError, Manifest, load_manifest
from dawn import Run, read_events, read_run
from dawn.runlog.records import Row
from phases import DataPhase, Schedule
from phases.parts import epoch_parts
from training.config.config import Config
from training.config.own_code import check_same_code, is_own
from training.config.saved import read_config
from training.config.schedule import resolved_schedule
from training.data.memory import channel_statistics, first_stored
from training.data.transforms import MEAN, STD
from training.engine.checkpoint import load
from training.errors import ConfigError
from training.models.build import build_model
from training.runs.folder import LOG

WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel and AveragedModel, torch.compile


@dataclass(frozen=True)
class Trained:
    """`weights` model | ema; `mean` and `std` (3,) in 0..255 are what its images were normalised with, None when only
    the dataset could tell and is not there."""

    folder: Path
    config: Config
    schedule: Schedule
    run: Run
    network: nn.Module  # fp32, CPU, plain memory format, eval mode
    weights: str
    counters: dict[str, int]
    identity: dict[str, Any]
    classes: int
    names: tuple[str, ...]  # of the classes, by label; empty when the dataset is not there
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    loader: str  # that the run was trained with

    @property
    def validated_sha256(self) -> str | None:
        """Of the dataset whose validation images the run saw last, which need not be that of its first phase."""
        return self.identity.get("datasets", {}).get(self.phase.valdir) or self.run.start.dataset.get("sha256")

    @property
    def phase(self) -> DataPhase:
        """Of the last step that these weights were trained with."""
        epoch, step = self.counters["epoch"], self.counters["step"]
        images = self.run.start.dataset.get("train_images")
        if step and type(images) is int:
            parts = epoch_parts(self.schedule, epoch, images, self.run.start.world_size)
            return next((part.phase for part in parts if step <= part.stop_step), parts[-1].phase)
        return self.schedule.data_at(max(0, epoch - 0.5 if not step else epoch))  # no phase is shorter than half of one

    @property
    def row(self) -> Row | None:
        """The logged epoch whose validation counted just these weights; None when there was none."""
        if self.counters["step"]:  # saved inside an epoch
            return None
        rows = (row for row in self.run.rows if row.epoch == self.counters["epoch"] - 1)
        return next((row for row in rows if row.validation and row.validation.weights == self.weights), None)


def load_trained(folder: Path, weights: str, warn: Callable[[str], None]) -> Trained:
    """`weights` model | ema; '': those that the run evaluates. Raises: ConfigError, RunError."""
    config = read_config(folder)
    run = read_run(folder)
    saved = load(folder, warn)
    state, classes = saved["state"], run.start.dataset.get("classes")
    if type(classes) is not int or classes < 1:
        raise ConfigError(f"{folder}: its log does not tell the number of classes. Restore {LOG}")
    check_same_code(saved["identity"]["fields"].get("own_code", {}), config, str(folder), ("model",))
    weights = weights or ("ema" if state["average"] is not None else "model")
    if weights == "ema" and state["average"] is None:
        raise ConfigError(f"--weights ema: {folder} kept no average of its weights. Use --weights model")
    network = build_model(replace(config, drop_path=0.0), classes)  # which is for training only and has no weights
    try:
        network.load_state_dict(plain(state["model"] if weights == "model" else state["average"]))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{folder}: its checkpoint is not of --model {config.model} ({reason})") from None
    loader = str(next(event for event in read_events(folder / LOG) if event["event"] == "start").get("loader", ""))
    schedule = resolved_schedule(config, run.start.world_size, lambda warning: None)  # told when it was trained
    mean, std, names = input_facts(config, schedule, run, loader)
    facts = weights, state["counters"], saved["identity"], classes, names, mean, std, loader
    return Trained(folder, config, schedule, run, network.eval(), *facts)


def check_classes(trained: Trained, dataset: Manifest, where: str, warn: Callable[[str], None]) -> None:
    """Raises: ConfigError for a dataset whose classes are not those that the run learned, in their order. Names are
    compared where the run's own dataset is still there, else only their number."""
    if dataset.sha256 == trained.run.start.dataset.get("sha256"):
        return
    if len(dataset.classes) != trained.classes:
        raise ConfigError(
            f"{where}: {len(dataset.classes)} classes, the run learned {trained.classes}. Give a dataset of its classes"
        )
    if not trained.names:
        warn(f"{where}: the run's own dataset is gone, so the order of the classes cannot be compared")
    elif dataset.classes != trained.names:
        label = next(n for n, pair in enumerate(zip(dataset.classes, trained.names, strict=True)) if len(set(pair)) > 1)
        raise ConfigError(
            f"{where}: class {label} is {dataset.classes[label]!r:.40}, the run learned {trained.names[label]!r:.40}. "
            "Give a dataset of its classes"
        )


def plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without those of wrappers, fp32 in the plain memory format, each tensor with its own memory."""
    found = {}
    for name, value in state.items():
        if name == "n_averaged":
            continue
        while name.startswith(WRAPPERS):
            name = name.removeprefix(next(wrapper for wrapper in WRAPPERS if name.startswith(wrapper)))
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
        found[name] = value.clone(memory_format=torch.contiguous_format)
    return found


def input_facts(config: Config, schedule: Schedule, run: Run, loader: str) -> tuple:
    """Mean, deviation and class names. The memory loader takes its mean and deviation from the dataset, so that is
    looked at, if it is there and still the same."""
    root = config.data.rstrip("/") + schedule.data[0].trndir
    try:
        manifest = load_manifest(root)
    except DataError:
        manifest = None
    if manifest and manifest.sha256 != run.start.dataset.get("sha256"):
        manifest = None
    names = manifest.classes if manifest else ()
    if is_own(loader):
        return None, None, names
    if loader != "memory":
        return MEAN, STD, names
    if not manifest:
        return None, None, names
    mean, std = channel_statistics(first_stored(config, root))
    return tuple(mean.tolist()), tuple(std.tolist()), names
