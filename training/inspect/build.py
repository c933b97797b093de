"""What a run is inspected with, by --inspect."""

import os
from pathlib import Path

from data_prep import Manifest
from training.config.config import Config
from training.data.loader import Loader
from training.distributed.group import Group
from training.engine.state import TrainState
from training.errors import ConfigError
from training.inspect.board import ParameterGroups
from training.inspect.gradients import FILE as GRADIENTS
from training.inspect.gradients import Gradients, read_gradients
from training.inspect.predictions import FOLDER as EPOCHS
from training.inspect.predictions import Predictions
from training.inspect.sheets import FOLDER as SHEETS
from training.inspect.sheets import Confused, Looks, TrainingBatches, ValidationBatches
from training.logs.metrics import INSPECTION, Meter, View, Watch


def meters_of(config: Config, dataset: Manifest, loader: Loader, state: TrainState) -> tuple[Meter, ...]:
    """What every validation of the run counts beside top-1 and top-5. A metric is an entry here."""
    if config.inspect == "off":
        return ()
    names = list(dataset.classes)
    device = next(state.model.parameters()).device
    meters: list[Meter] = [Predictions(len(names), device)]
    if config.inspect == "full" and hasattr(loader, "pictures"):
        meters += [ValidationBatches(loader, names), Confused(loader), Looks(loader, state.evaluated_model, names)]
    return tuple(meters)


def check_folder(run: Path, level: str) -> None:
    """Before the first step: an epoch later it would be lost. Raises: ConfigError for a folder that cannot be written
    and for a damaged file, which a resumed run would append to."""
    for name in (".", EPOCHS, *([SHEETS] if level == "full" else [])):
        folder = run / INSPECTION / name
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise not_writable(folder, error.strerror) from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise not_writable(folder, "no permission")
    path = run / INSPECTION / GRADIENTS
    if path.is_file():
        read_gradients(path)


def not_writable(folder: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"{folder}: cannot be written ({reason}). Move it away, choose another --logdir, or --inspect off"
    )


def watches_of(config: Config, dataset: Manifest, loader: Loader, state: TrainState, folder: Path) -> tuple[Watch, ...]:
    """What looks at the training steps."""
    if config.inspect == "off":
        return ()
    watches: list[Watch] = [ParameterGroups(state.optimizers)]
    if config.inspect == "full":
        watches.append(Gradients(state.model, config.inspect_every, folder / INSPECTION))
    if config.inspect == "full" and hasattr(loader, "pictures"):
        watches.append(TrainingBatches(loader, list(dataset.classes)))
    return tuple(watches)


def show_gradients(watches: tuple[Watch, ...], group: Group, view: View) -> None:
    """Of an epoch that is broken off, on rank 0 alone: gradients need no other rank."""
    for watch in watches:
        if isinstance(watch, Gradients):
            watch.finish(group, view)
