"""The README names everything a user can type, and nothing that is not there."""

import argparse
import re
from dataclasses import fields
from pathlib import Path

import pytest

from data_prep.__main__ import _parser as data_prep_parser
from dawn.__main__ import parser as dawn_parser
from dawn.importers import prepare_dawn as prepare
from phases import PRESETS
from phases.__main__ import parser as phases_parser
from phases.language import KEYS
from training.config.config import Config
from training.config.parser import build_parser
from training.config.recipes.registry import RECIPES
from training.detection.settings import detect_parser
from training.errors import EXIT_CODES
from training.export.command import export_parser
from training.train_imagenet_nv import legacy_parser

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
HIDDEN = {"--inject-fault", "--help"}


def flags_of(parser) -> set[str]:
    """Long flags of a parser and of its subcommands, without the automatic --no- forms."""
    found = set()
    for action in parser._actions:
        found |= {name for name in action.option_strings[:1] if name.startswith("--")}
        if isinstance(action, argparse._SubParsersAction):
            found |= set().union(*map(flags_of, action.choices.values()))
    return found - HIDDEN


def prepare_parser() -> argparse.ArgumentParser:
    return prepare.parser("", with_target=True)


PARSERS = [build_parser, legacy_parser, data_prep_parser, dawn_parser, phases_parser, prepare_parser]
PARSERS += [export_parser, detect_parser]


@pytest.mark.parametrize("parser", PARSERS)
def test_every_flag_of_every_command_is_in_the_readme(parser):
    missing = sorted(flag for flag in flags_of(parser()) if not re.search(rf"{flag}\b", README))
    assert not missing


def test_the_flag_table_has_each_default_as_the_code_has_it():
    for item in fields(Config):
        flag = f"--{item.name.replace('_', '-')}"
        if item.name == "data" or flag in HIDDEN:
            continue
        default = {True: "on", False: "off"}[item.default] if isinstance(item.default, bool) else str(item.default)
        row = next(line for line in README.split("\n## All flags")[1].splitlines() if line.startswith(f"| `{flag}`"))
        assert row.split("|")[2].strip() == default, row


def test_every_phase_key_preset_and_recipe_is_in_the_readme():
    words = [*KEYS, *PRESETS, *RECIPES]
    assert not [word for word in words if f"`{word}`" not in README]


def test_every_exit_code_is_in_the_readme_beside_its_outcome():
    for outcome, code in EXIT_CODES.items():
        assert any(line.startswith(f"| {code} ") and f"`{outcome.value}`" in line for line in README.splitlines()), (
            outcome
        )


def test_every_file_and_module_that_the_readme_names_is_there():
    files = r"(?:benchmarks|tests|launch|training|dawn)/\w+\.(?:py|sh|yaml)"
    for path in re.findall(r"\]\((docs/[^)]+)\)", README) + re.findall(files, README):
        assert (ROOT / path).exists(), path


def test_no_placeholder_is_left_in_the_readme():
    assert "@@" not in README
