"""config.json of a run folder: saved, read, and compared with the flags of another start."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from data_prep.files import write_atomically
from dawn.filekind import wrong_kind
from phases import PRESETS, Schedule
from training.config.config import Config, with_values
from training.errors import ConfigError

CONFIG = "config.json"
NOT_SAVED = ("resume", "logdir", "dry_run", "evaluate", "inject_fault", "allow_elastic", "dist_url")


def save_config(folder: Path, config: Config) -> None:
    """config.json: the flags as resolved from recipe and command line; what --resume starts from, in any folder."""
    write_settings(folder, settings_of(config))


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    write_atomically(folder / CONFIG, (json.dumps(settings, indent=1) + "\n").encode())


def settings_of(config: Config) -> dict[str, Any]:
    """What config.json holds: nothing that is relative to the folder of the command."""
    settings = {name: value for name, value in asdict(config).items() if name not in NOT_SAVED}
    settings["data"] = str(Path(config.data).resolve())
    if config.phases not in PRESETS:
        schedule = Schedule.parse(config.phases)
        settings["phases"] = json.dumps({"phases": schedule.phases, "world_size": schedule.world_size})
    return settings


def read_config(folder: Path) -> Config:
    """The settings that the run was started with. Raises: ConfigError."""
    path = folder / CONFIG
    try:
        return with_values(Config(), json.loads(path.read_text()))
    except OSError as error:
        raise ConfigError(
            f"{folder}: no run there ({path.name}: {error.strerror}). Give the folder of a run, such as "
            "runs/cifar10-demo-001"
        ) from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = wrong_kind(path) or f"not a configuration ({error}). Restore the file"
        raise ConfigError(f"{path}: {reason}") from None


def check_settings(folder: Path, config: Config) -> None:
    """Raises: ConfigError where a run is in `folder` that is another experiment than `config`."""
    if not (folder / CONFIG).exists():
        return
    asked, there = settings_of(config), settings_of(read_config(folder))
    compared = ["data", *(item.name for item in fields(Config) if item.metadata["training"])]
    other = next((name for name in compared if there[name] != asked[name]), None)
    if other:
        flag = "DATA" if other == "data" else f"--{other.replace('_', '-')}"
        raise ConfigError(
            f"{folder}: a run with other settings is there: {flag} is {there[other]!r:.60} there, {asked[other]!r:.60} "
            "here. Name another folder"
        )
