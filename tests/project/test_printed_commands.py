"""The command lines that messages propose can be copied into a shell: their paths are quoted."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from data_prep.formats.manifest import how_to_make
from dawn.filekind import wrong_kind
from training.errors import ConfigError
from training.runs.folder import check_contents

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for name in ("training", "phases", "dawn", "data_prep") for path in (ROOT / name).rglob("*.py"))
PROGRAM = r"python -m \w+ |dawn-(?:train|data|report|phases) |torchrun |git -C|gunzip |tar -|iconv |pip install "
PROPOSED = re.compile(rf"(?:{PROGRAM}|(?i:go on with):?[^.:;()]*--resume )[^.:;()]*$")  # and is not over yet
NUMBERS = ("--sizes ",)  # flags whose value is no text of a user
QUOTES = {"quoted", "shlex.quote", "shlex.join"}


def unquoted(text: ast.JoinedStr) -> list[str]:
    """The f-string, where a value stands in a command without being quoted."""
    before, found = "", []
    for part in text.values:
        if isinstance(part, ast.FormattedValue):
            subcommand = re.search(r"(python -m |dawn-)\w* $", before)
            if PROPOSED.search(before) and not (is_quoted(part.value) or subcommand or before.endswith(NUMBERS)):
                found.append(ast.unparse(text))
            before += "{}"
        else:
            before += part.value
    return found


def is_quoted(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func) in QUOTES


def test_every_value_in_a_proposed_command_is_quoted():
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {text}"
        for path in FILES
        if re.search(f"{PROGRAM}|--resume", source := path.read_text())
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.JoinedStr)
        for text in unquoted(node)
    ]
    assert not wrong


PLACE = "a b/it's $HOME"


def words_after(text: str, start: str) -> list[str]:
    """What a shell makes of the command line that begins with `start` in a message."""
    return shlex.split(text[text.index(start) :])


def test_a_resume_hint_is_read_back_to_the_same_path(tmp_path):
    run = tmp_path / PLACE
    run.mkdir(parents=True)
    (run / "run.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="holds another run") as refused:
        check_contents(run, "")
    assert words_after(str(refused.value).replace("; or", " or"), "--resume")[1] == str(run)


@pytest.mark.parametrize("name", ["", "toy", "imagenette"])
def test_a_data_prep_hint_is_read_back_to_the_same_path(tmp_path, name):
    root = tmp_path / PLACE
    for text in (how_to_make(root, name), how_to_make(root, name, packed=True)):
        assert words_after(text, "python -m data_prep")[-1] == str(root)
    (root / "train").mkdir(parents=True)
    assert str(root) in words_after(how_to_make(root, name), "python -m data_prep")
    copy = root.with_name(f"{root.name}-sz") / "160"
    assert words_after(how_to_make(copy, "x"), "python -m data_prep resize")[4:] == [str(root), "--sizes", "160"]


def test_what_to_do_about_a_file_of_another_kind_is_read_back_to_the_same_path(tmp_path):
    path = tmp_path / "a b.log"
    path.write_bytes(b"\x1f\x8b")
    assert words_after(wrong_kind(path), "gunzip") == ["gunzip", str(path)]
