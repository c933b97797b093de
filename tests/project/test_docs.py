"""README.md and docs/ name everything a user can type, and nothing that is not there."""

import argparse
import re
from pathlib import Path

import pytest

from data_prep.__main__ import _parser as data_prep_parser
from dawn.__main__ import parser as dawn_parser
from dawn.importers import prepare_dawn as prepare
from phases import PRESETS
from phases.__main__ import parser as phases_parser
from phases.language import KEYS
from training.__main__ import SUBCOMMANDS
from training.config.flag_table import flags_markdown
from training.config.parser import DESCRIPTION, build_parser
from training.config.recipes.registry import RECIPES
from training.detection.settings import detect_parser
from training.diagnosis.command import diagnose_parser
from training.errors import EXIT_CODES
from training.evaluation.settings import evaluate_parser
from training.export.command import export_parser
from training.inspect.suspects import suspects_parser
from training.train_imagenet_nv import legacy_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.name: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
DOCS = "\n".join(PAGES.values())
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
PARSERS += [export_parser, detect_parser, evaluate_parser, suspects_parser, diagnose_parser]


@pytest.mark.parametrize("parser", PARSERS)
def test_every_flag_of_every_command_is_in_the_docs(parser):
    missing = sorted(flag for flag in flags_of(parser()) if not re.search(rf"{flag}\b", DOCS))
    assert not missing


def test_every_subcommand_of_training_is_in_the_docs_and_in_the_help():
    for text in (DOCS, DESCRIPTION):
        assert not [name for name in SUBCOMMANDS if f"python -m training {name}" not in text]


def test_the_page_of_flags_is_what_the_code_says():
    assert PAGES["flags.md"] == flags_markdown() + "\n"


def test_every_phase_key_preset_and_recipe_is_in_the_docs():
    words = [*KEYS, *PRESETS, *RECIPES]
    assert not [word for word in words if f"`{word}`" not in DOCS]


def test_every_exit_code_is_in_the_docs_beside_its_outcome():
    for outcome, code in EXIT_CODES.items():
        assert any(line.startswith(f"| {code} ") and f"`{outcome.value}`" in line for line in DOCS.splitlines()), (
            outcome
        )


def test_every_file_that_the_docs_name_is_there():
    files = r"\b(?:benchmarks|tests|launch|training|dawn|data_prep|phases)/[\w/]+\.(?:py|sh|yaml|json)\b"
    assert not [name for name in sorted(set(re.findall(files, DOCS))) if not (ROOT / name).exists()]


def test_the_readme_is_one_screen_and_a_half():
    assert len(PAGES["README.md"].splitlines()) <= 150 and len(PAGES["README.md"].encode()) <= 9000


def test_every_page_begins_with_a_command():
    pages = [name for name in PAGES if name not in ("README.md", "index.md")]
    late = [name for name in pages if "\n```" not in "\n".join(PAGES[name].splitlines()[:12])]
    assert not late


def test_no_placeholder_is_left_in_the_docs():
    assert "@@" not in DOCS
