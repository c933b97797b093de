"""From what the user gave (file, text, preset name, list) to a plain list of dicts. Nothing is ever executed."""

import ast
import json
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from dawn.filekind import wrong_kind_of
from phases.arithmetic import plain_value, unique_keys
from phases.catalog import PRESETS, load_preset
from phases.phase import PhaseError, shown, shown_path
from phases.quotes import STRINGS, quoting_fault

MAX_BYTES = 64 * 1024  # the longest published schedule has 1 kB
MAX_DEPTH = 8  # a schedule needs 3: list, dict, pair
GIVE = "Give a preset name, a JSON file, or a list of dicts such as [{'ep': 0, 'sz': 128, 'bs': 512}, ...]."


@dataclass(frozen=True)
class Source:
    phases: list
    preset: str | None = None
    world_size: int | None = None  # devices the schedule was made for


def read_source(source: str | Path | list) -> Source:
    """Finds out what `source` is and reads it. Raises PhaseError.

    A text that begins with a bracket is a phase list; then a preset name is tried, then a file (write `./name`
    for a file called like a preset).
    """
    if isinstance(source, (list, tuple)):
        return Source(list(source))
    if isinstance(source, Path):
        return read_file(source)
    if not isinstance(source, str):
        raise PhaseError(f"phases: {shown(source)} is not a schedule. {GIVE}")
    return read_string(source.strip())


def read_string(text: str) -> Source:
    check_size(len(text), "phases")
    if text.startswith(("[", "(", "{")):
        return unwrap(parse_text(text, "phases"), "phases")
    if text in PRESETS:
        preset = load_preset(text)
        return Source(preset["phases"], preset=text, world_size=preset["world_size"])
    if os.path.isfile(text) or re.fullmatch(r"[^()\[\]{}'\"\n]*(/|\.json)[^()\[\]{}'\"\n]*", text):
        return read_file(Path(text))
    if re.fullmatch(r"[\w.-]+", text):
        load_preset(text)  # raises: unknown name, with the near match
    if fault := quoting_fault(text):
        raise PhaseError(f"phases: {fault}")
    raise PhaseError(f"phases: {shown(text, 60)} is neither a phase list, a preset nor a file. {GIVE}")


def read_file(path: Path) -> Source:
    place = shown_path(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        check_size(len(content), place)
        if kind := wrong_kind_of(content, path):
            raise PhaseError(f"{place}: {kind}.")
        return unwrap(parse_text(content.decode("utf-8-sig").strip(), place), place)
    except OSError as error:
        raise PhaseError(f"{place}: cannot read the phases ({error.strerror}). {GIVE}") from None
    except UnicodeDecodeError:
        raise PhaseError(f"{place}: not a text file (UTF-8). {GIVE}") from None


def check_size(size: int, place: str) -> None:
    if size > MAX_BYTES:
        raise PhaseError(f"{place}: more than {MAX_BYTES // 1024} kB of text. A phase list has a few hundred bytes.")


def unwrap(value: object, place: str) -> Source:
    """A list is the schedule; a dict with 'phases' has the layout of the files in `presets/`."""
    if isinstance(value, dict) and "phases" in value:
        world_size = value.get("world_size")
        if world_size is not None and (type(world_size) is not int or world_size < 1):
            raise PhaseError(f"{place}: 'world_size' must be a whole number of devices, not {shown(world_size)}.")
        return Source(unwrap(value["phases"], place).phases, world_size=world_size)
    if isinstance(value, dict):
        raise PhaseError(f"{place}: one dict alone is not a schedule. Put the phases in a list: [{{...}}, {{...}}].")
    if not isinstance(value, (list, tuple)):
        raise PhaseError(f"{place}: {shown(value)} is not a schedule. {GIVE}")
    return Source(list(value))


def parse_text(text: str, place: str) -> object:
    """JSON, else a Python literal and arithmetic. Size and depth are bounded first: deep nesting can crash a parser."""
    if nesting(text) > MAX_DEPTH:
        raise PhaseError(f"{place}: brackets are nested deeper than {MAX_DEPTH}. {GIVE}")
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except PhaseError as error:
        raise PhaseError(f"{place}: {error}") from None
    except (ValueError, RecursionError):  # not JSON, or a number of more than 4300 digits
        pass
    try:
        return parse_literal(text, place)
    except PhaseError:
        if fault := quoting_fault(text):
            raise PhaseError(f"{place}: {fault}") from None
        raise


def nesting(text: str) -> int:
    """Deepest bracket level outside quoted strings."""
    depth = deepest = 0
    for character in STRINGS.sub("", text):
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    return deepest


def parse_literal(text: str, place: str) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a wrong escape in a string is a mistake, not a second line on the screen
            tree = ast.parse(text, mode="eval")
        # 2018 evaluated the text as Python: a schedule could run any code.
        return plain_value(tree.body, text)
    except PhaseError as error:
        raise PhaseError(f"{place}: {error}") from None
    except SyntaxError as error:
        where = f"line {error.lineno}, column {error.offset}: " if error.lineno else ""
        raise PhaseError(f"{place}: neither JSON nor a Python list ({where}{error.msg}). {GIVE}") from None
    except (ValueError, TypeError, MemoryError, RecursionError, Warning):
        raise PhaseError(f"{place}: neither JSON nor a Python list of plain values. {GIVE}") from None
