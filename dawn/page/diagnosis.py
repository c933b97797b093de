"""The panel of why a run diverged, as `python -m training diagnose` left it in the run folder."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dawn.page.beside import Broken, picture_tag, read_png
from dawn.page.data import Shown
from dawn.page.html import Cell, details, facts, note, section, table, text

FILE = "diagnosis.json"
FORMAT = 1
MOST_BYTES, PICTURE_BYTES = 16 * 2**20, 4 * 2**20
MOST_FILES = 100
VALUES = ("min", "mean", "max")
STEPS = ("loss", "largest logit", "largest weight", "largest gradient")
REMEDY = "Restore the file, or diagnose the run again."


def is_diagnosed(folder: Path) -> bool:
    return (folder / FILE).exists()


def diagnosis_section(shown: Sequence[Shown]) -> str:
    """Empty where no run was diagnosed."""
    found = [(item.name, item.run.path.parent) for item in shown if is_diagnosed(item.run.path.parent)]
    if not found:
        return ""
    parts = [(name, told(folder, PICTURE_BYTES // len(found))) for name, folder in found]
    many = "".join(details(name, part, i == 0) for i, (name, part) in enumerate(parts))
    return section("diagnosis", "Why it diverged", parts[0][1] if len(shown) == 1 else many)


def told(folder: Path, most_bytes: int) -> str:
    """What was found, or the line of what is wrong with the file."""
    try:
        return panel(read_record(folder / FILE)) + picture(folder, most_bytes)
    except Broken as error:
        return note(str(error))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):  # a part is missing, or of another kind
        return note(f"{FILE} is damaged: a part of it is missing or of another kind. {REMEDY}")


def read_record(path: Path) -> dict[str, Any]:
    """Raises: Broken."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise Broken(f"{FILE} is too large to be shown here.")
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Broken(f"{FILE} cannot be read: {error.strerror}. {REMEDY}") from None
    except (ValueError, RecursionError) as error:
        raise Broken(f"{FILE} is damaged: {str(error)[:80]}. {REMEDY}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise Broken(f"{FILE} is damaged or of another version. {REMEDY}")
    return record


def panel(record: dict[str, Any]) -> str:
    place = f"Epoch {int(record['epoch'])}, step {int(record['step'])}: {unmarked(record['found'])}."
    body = f"<p class=verdict>{text(place)}</p>\n<h3>Causes that fit</h3>\n{causes(record['causes'])}"
    body += f"<h3>The step</h3>\n{facts([(str(name), unmarked(value)) for name, value in record['facts']])}"
    if operation := record["operation"]:
        body += statistics(f"The operation torch.{operation['name']}", operation["values"])
    if module := record["module"]:
        body += statistics(f"The module {module['name']} ({module['kind']})", module["values"])
    return body + history(record["steps_before"]) + files(record)


def unmarked(words: str) -> str:
    """Without the marks of code in Markdown."""
    return words.replace("`", "")


def causes(found: list[dict[str, str]]) -> str:
    if not found:
        return note("None of the usual causes fits.")
    lines = "".join(
        f"<li><strong>{text(cause['name'])}</strong>: {text(unmarked(cause['evidence']), 1000)}. "
        f"{text(unmarked(cause['remedy']), 1000)}"
        for cause in found
    )
    return f"<ol>{lines}</ol>\n"


def statistics(title: str, rows: list[dict[str, Any]]) -> str:
    cells: list[list[Cell]] = [
        [unmarked(row["of"]), *(number(row[name]) for name in VALUES), share(row["not_finite"]), str(row["type"])]
        for row in rows
    ]
    header = ("", *VALUES, "not finite", "type")
    hint = note("Lowest, mean and highest of the finite values, and the share of the others.")
    return f"<h3>{text(title)}</h3>\n{hint}{table(header, [('', cells)], title)}" if cells else ""


def number(value: float | None) -> str | None:
    """None: no value is finite."""
    return None if value is None else f"{float(value):.4g}"


def share(value: float) -> str:
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise ValueError(value)
    return f"{100 * value:.3g} %"


def history(steps: list[dict[str, Any]]) -> str:
    if not steps:
        return ""
    rows: list[list[Cell]] = [[str(int(step["step"])), *(number(step[name]) for name in STEPS)] for step in steps]
    return "<h3>The steps before</h3>\n" + table(("step", *STEPS), [("", rows)], "The steps before the bad one")


def files(record: dict[str, Any]) -> str:
    """Those with a note first."""
    rows = sorted(record["batch"], key=lambda row: not row["note"])
    cells: list[list[Cell]] = [[str(int(row["place"])), str(row["file"]), str(row["note"])] for row in rows]
    words = "" if record["files_known"] else note("The loader does not tell its files.")
    if len(rows) > MOST_FILES:
        words += note(f"{MOST_FILES} of {len(rows)} images are shown, {FILE} has all.")
    shown = table(("place", "file", ""), [("", cells[:MOST_FILES])], "Images of the batch", short=True) if rows else ""
    return f"<h3>The batch</h3>\n{words}{shown}"


def picture(folder: Path, most_bytes: int) -> str:
    """The batch as the network saw it, if there is a picture of it."""
    path = folder / "diagnosis.png"
    if not path.exists():
        return ""
    try:
        content = read_png(path)
    except Broken as error:
        return note(str(error))
    if len(content) > most_bytes:
        return note(f"{path.name} is left out, so that the page stays small. It lies in the run folder.")
    return picture_tag(content, "The images of the batch as the network saw them") + "\n"
