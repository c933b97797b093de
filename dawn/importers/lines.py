"""The lines of a foreign text log and the objects in them. Such a file is untrusted: all sizes are bounded."""

import json
import stat
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from dawn.runlog.fields import Fields
from dawn.runlog.writer import RunError

MAX_TEXT_BYTES = 50_000_000
MAX_LINE_BYTES = 1_000_000


class Line(NamedTuple):
    """A line without its end. whole: it had an end; only the last line of a file may lack it."""

    path: Path
    number: int  # from 1
    text: str
    whole: bool

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.path}, line {self.number}"

    def fields(self, text: str) -> Fields | None:
        """The JSON object that `text`, a part of this line, begins with; None for a last line that is cut off."""
        try:
            values, _ = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            return self.bad("not JSON")
        return Fields(self.where, values) if isinstance(values, dict) else self.bad("not a JSON object")

    def bad(self, reason: str) -> None:
        """RunError, but None for a last line without its end: its writer was stopped in it."""
        if self.whole:
            raise RunError(f"{self.where}: {reason}: {self.text!r:.60}. Restore this line of the log.")


def text_lines(path: Path) -> Iterator[Line]:
    """RunError where it is no file, empty, binary, or too large. Characters that are no UTF-8 become U+FFFD."""
    data = _bytes(path)
    number = begin = 0
    while begin < len(data):
        end = data.find(b"\n", begin)
        whole, end = end >= 0, end if end >= 0 else len(data)
        if end - begin > MAX_LINE_BYTES:
            raise RunError(f"{path}: line {number + 1} has {end - begin} bytes, too many for a log. {KNOWN}")
        number += 1
        yield Line(path, number, data[begin:end].decode(errors="replace").rstrip("\r"), whole)
        begin = end + 1


def _bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RunError(f"{path}: not a file. {KNOWN}")
        if status.st_size > MAX_TEXT_BYTES:
            raise RunError(f"{path}: {status.st_size} bytes, more than {MAX_TEXT_BYTES}. {KNOWN}")
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}. {KNOWN}") from None
    if not data:
        raise RunError(f"{path}: the file is empty. {KNOWN}")
    if b"\0" in data[:4096]:
        raise RunError(f"{path}: neither text nor a TensorBoard event file. {KNOWN}")
    return data


def inside(fields: Fields, name: str) -> dict[str, Any]:
    """A field that should be an object; empty where it is not."""
    values = fields.values.get(name)
    return values if isinstance(values, dict) else {}


def percent_of(fraction: float) -> float:
    """Without the error of a multiplication: 0.939 is 93.9 %, so that it reaches a target of 93.9."""
    return float(Decimal(repr(fraction)) * 100)


KNOWN = (
    "Give a run folder, TensorBoard event files, an event.log of 2018, a DAWNBench TSV, or a log of ffcv-imagenet, "
    "MLPerf or airbench."
)
TORN = "its last line is cut off and was left out"
