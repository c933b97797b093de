"""The lines of a foreign text log and the objects in them. Such a file is untrusted: all sizes are bounded."""

import json
import re
import stat
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from dawn.filekind import is_utf16, wrong_kind_of
from dawn.runlog.fields import Fields
from dawn.runlog.writer import RunError

MAX_TEXT_BYTES = 50_000_000
MAX_LINE_BYTES = 1_000_000


DAY = r"\d{4}[-/]\d\d[-/]\d\d[T ]|(?:[A-Z][a-z]{2} )?[A-Z][a-z]{2} {1,2}\d{1,2} (?:\d{4} )?"
TIME = rf"\[?(?:{DAY})?\d{{1,2}}:\d\d:\d\d(?:[.,]\d{{1,9}})?(?:Z|[+-]\d\d:?\d\d)?\]?:?"
SINCE_1970 = r"\[?\d{10}(?:\.\d{1,9})?\]?(?= )"
RANK = r"\[?(?:rank ?)?\d{1,6}\]?:|\[\d{1,6},\d{1,6}\](?:<std(?:out|err)>)?:|[\w.-]{1,60} {1,9}\|(?= )"
NUMBER = r"[+-]?(?:\d{1,30}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3})?"
LEVEL = r"\[?(?:DEBUG|INFO|WARNING)\]?(?::[\w.]{1,60}:)?"
PREFIX = re.compile(rf"^(?:(?:{TIME}|{SINCE_1970}|{RANK}|{LEVEL})[ \t]{{0,9}}(?:[-:] )?){{1,5}}")


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

    @property
    def bare(self) -> "Line":
        """Without the time stamps, ranks and levels that `ts`, `srun -l`, `mpirun --tag-output`, `docker compose` and
        logging put before a line."""
        return self._replace(text=PREFIX.sub("", self.text))

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


class Text:
    """A text file as lines. RunError where it is no file, empty, something else than text, or too large.

    Characters that are no UTF-8 become U+FFFD. UTF-16 and a tail of zero bytes are read, with a note in `notes`.
    """

    def __init__(self, path: Path):
        self.path, self.notes = path, []
        data = _bytes(path)
        if is_utf16(data):
            data = from_utf16(data)
            self.notes.append("the log is in UTF-16, as `>` of PowerShell writes it; it was read so")
        kept = data.rstrip(b"\0")
        if kept and len(kept) < len(data):
            self.notes.append(
                f"its last {len(data) - len(kept)} bytes are zeros, as after a power cut, and were left out"
            )
            data = kept
        self.data = data.removeprefix(b"\xef\xbb\xbf")
        if kind := wrong_kind_of(data, path):
            raise RunError(f"{path}: {kind}. {KNOWN}")
        if b"\0" in data[:4096]:
            raise RunError(f"{path}: neither text nor a TensorBoard event file. {KNOWN}")

    def __iter__(self) -> Iterator[Line]:
        data, number, begin = self.data, 0, 0
        while begin < len(data):
            end = data.find(b"\n", begin)
            whole, end = end >= 0, end if end >= 0 else len(data)
            if end - begin > MAX_LINE_BYTES:
                raise RunError(f"{self.path}: line {number + 1} has {end - begin} bytes, too many for a log. {KNOWN}")
            number += 1
            yield Line(self.path, number, data[begin:end].decode(errors="replace").rstrip("\r"), whole)
            begin = end + 1


def from_utf16(data: bytes) -> bytes:
    """As UTF-8. Without a byte order mark the place of the zeros tells the order."""
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-16-be" if not data[0] else "utf-16-le"
    return data.decode(encoding, errors="replace").encode(errors="replace")


def _bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RunError(f"{path}: not a file. {KNOWN}")
        if status.st_size > MAX_TEXT_BYTES:
            raise RunError(f"{path}: {status.st_size} bytes, more than {MAX_TEXT_BYTES}. {KNOWN}")
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}. {KNOWN}") from None


def number_in(line: Line, cell: str, remedy: str = "Restore this line") -> float:
    """RunError for a cell that is no decimal number; `nan` and `inf` are none."""
    if not re.fullmatch(NUMBER, cell.strip()):
        raise RunError(f"{line.where}: {cell!r:.60} is not a number. {remedy}.")
    return float(cell)


def inside(fields: Fields, name: str) -> dict[str, Any]:
    """A field that should be an object; empty where it is not."""
    values = fields.values.get(name)
    return values if isinstance(values, dict) else {}


def percent_of(fraction: float) -> float:
    """Without the error of a multiplication: 0.939 is 93.9 %, so that it reaches a target of 93.9."""
    return float(Decimal(repr(fraction)) * 100)


KNOWN = (
    "Give a run folder, TensorBoard event files, an event.log of 2018, a DAWNBench TSV, a log of ffcv-imagenet, "
    "MLPerf, airbench, torchvision or DeiT, summary.csv of timm, a CSV of W&B, or any CSV with --columns."
)
TORN = "its last line is cut off and was left out"
