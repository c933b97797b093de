"""The sources' own command lines and configurations of recipes: tests/fixtures/recipes, one file each, parsed."""

import json
import shlex
from pathlib import Path
from typing import Any

import yaml

from phases import Schedule
from training.config.config import Config
from training.config.parser import config_from

FOLDER = Path(__file__).parents[1] / "fixtures" / "recipes"


def command(name: str) -> dict[str, str | bool]:
    """The flags of a command line, without their hyphens; True for those without a value. A line that begins with #
    names the source."""
    lines = (FOLDER / f"{name}.txt").read_text().splitlines()
    assert lines[0].startswith("# ") and len(lines) == 2
    words = shlex.split(lines[1])
    flags: dict[str, str | bool] = {}
    for word, after in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            flag, equals, value = word.removeprefix("--").partition("=")
            flags[flag] = value if equals else True if after.startswith("--") else after
    return flags


def variables(name: str) -> dict[str, str]:
    """NAME=VALUE words of a configuration for a shell."""
    return dict(word.split("=", 1) for word in (FOLDER / f"{name}.txt").read_text().splitlines()[1].split())


def mapping(name: str) -> dict[str, Any]:
    """A JSON or YAML file."""
    path = FOLDER / f"{name}.json"
    if path.exists():
        content = json.loads(path.read_text())
        assert content["source"]
        return content
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def resolved(name: str) -> tuple[Config, Schedule]:
    """What `--recipe NAME` runs."""
    config = config_from(["DATA", "--recipe", name])
    return config, Schedule.parse(config.phases)


def global_batches(schedule: Schedule) -> list[int]:
    """By epoch."""
    return [schedule.data_at(epoch).bs * schedule.world_size for epoch in range(schedule.epochs)]
