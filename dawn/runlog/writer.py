"""The run log on disk: one JSON object a line, only ever appended, each line sealed with a hash over the one before.
What the lines mean is read in run.py."""

import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from dawn.filekind import wrong_kind

MAX_FILE_BYTES = 1_000_000_000
MAX_LINE_BYTES = 16_000_000
SYNCED_EVENTS = ("start", "epoch", "stop")  # on the disk before the run goes on
NAME = "chain"
END = re.compile(rb', "chain": "([0-9a-f]{16})"\}\n')
END_BYTES = 31  # what END matches


class RunError(ValueError):
    """A run log that cannot be read, or a request that it cannot answer; one line: where, which value, what to do."""


def utc_now() -> str:
    """A label for people, to the second, as in 2026-11-22T15:30:00Z. Never used to measure."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class RunLog:
    """Appends events to `path`; makes the file (not its folder). A torn last line of a crash is cut off on opening.

    Raises RunError for a value JSON does not have (NaN: write null) and for a line or file that grows too large,
    OSError when the disk refuses; in both cases the file ends with the last whole line.
    """

    def __init__(self, path: str | os.PathLike[str], utc: Callable[[], str] = utc_now):
        self.path, self._utc = Path(path), utc
        self.path.touch()
        self._end, last = cut_torn_line(self.path)
        self._link = link_after(last)
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - close() closes it

    def write(self, event: str, attempt: int, **fields: Any) -> None:
        """One line, handed to the system at once; `start`, `epoch` and `stop` wait until the disk has it."""
        line, link = self._line({"event": event, "attempt": attempt, "utc": self._utc(), **fields})
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except OSError:
            self._file.truncate(self._end)  # half a line must not end up in the middle of the log
            raise
        self._end, self._link = self._end + len(line), link
        if event in SYNCED_EVENTS:
            os.fsync(self._file.fileno())

    def _line(self, fields: dict[str, Any]) -> tuple[bytes, str]:
        """The line and its link in the chain (see chain.py)."""
        try:
            line, link = sealed(json.dumps(fields, allow_nan=False).encode(), self._link)
        except ValueError as error:
            raise RunError(f"{self.path}: event {fields['event']!r}: {error}. Write null instead.") from None
        if len(line) > MAX_LINE_BYTES or self._end + len(line) > MAX_FILE_BYTES:
            raise RunError(f"{self.path}: event {fields['event']!r}: {len(line)} bytes more are too many. Log less.")
        return line, link

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def cut_torn_line(path: Path) -> tuple[int, bytes]:
    """Shorten the file to its last newline; the size in bytes afterwards and the line that ends there."""
    with open(path, "r+b") as file:
        size = _size(path, file)
        start = max(0, size - MAX_LINE_BYTES)
        file.seek(start)
        tail = file.read()
        end = start + tail.rfind(b"\n") + 1
        if end == start and start > 0:
            raise RunError(f"{path}: the last {MAX_LINE_BYTES} bytes hold no line end. This is not a run log.")
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())
    whole = tail[: end - start]
    return end, whole[whole[:-1].rfind(b"\n") + 1 :]


def read_events(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Every whole line as a dict, in order. A last line without its newline (a crash) is left out, see read_lines."""
    return read_lines(path)[0]


def read_lines(path: str | os.PathLike[str]) -> tuple[list[dict[str, Any]], bool]:
    """(events, torn): events[i] is line i + 1; torn says that a last line without its newline was left out.

    Raises RunError, with the line number, for anything else that is not one JSON object with an "event", and for a
    line that breaks the chain (see chain.py; the events come without "chain").
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            _size(path, file)
            return _parse_lines(path, file)
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}. Give the folder of a run or its run.jsonl.") from None


def _parse_lines(path: Path, file: BinaryIO) -> tuple[list[dict[str, Any]], bool]:
    events, chain = [], Follower()
    for number, line in enumerate(_lines(file), start=1):
        if len(line) > MAX_LINE_BYTES:
            raise RunError(f"{path}, line {number}: longer than {MAX_LINE_BYTES} bytes. This is not a run log.")
        if not line.endswith(b"\n"):
            return events, True
        event, problem = _event(path, number, line), chain.problem(line, number)
        if event.pop(NAME, None) is not None and not is_sealed(line):
            problem = f"line {number}: its 'chain' is not as it was written: the line was changed"
        if problem:
            raise RunError(f"{path}, {problem}. Restore the log.")
        events.append(event)
    return events, False


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(MAX_LINE_BYTES + 1):
        yield line


def _event(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line.decode(), parse_float=_finite, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        if number == 1 and (kind := wrong_kind(path)):
            raise RunError(f"{path}: {kind}.") from None
        reason = str(error).splitlines()[0]
        raise RunError(f"{path}, line {number}: not JSON ({reason}). Restore this line of the log.") from None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise RunError(f"{path}, line {number}: not an object with an 'event'. Restore this line of the log.")
    return event


def _finite(text: str) -> float:
    """1e999 is JSON, but no number of a run."""
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text:.20} is not a finite number")


def _size(path: Path, file: BinaryIO) -> int:
    size = os.fstat(file.fileno()).st_size
    if size > MAX_FILE_BYTES:
        raise RunError(f"{path}: {size} bytes, more than {MAX_FILE_BYTES}. This is not a run log.")
    return size


def digest(before: str, body: bytes) -> str:
    """The link of a line: 64 bits of SHA-256 in hex. body: its JSON object without "chain" and newline."""
    return hashlib.sha256(before.encode() + body).hexdigest()[:16]


def sealed(body: bytes, before: str) -> tuple[bytes, str]:
    """(the line as it is written, its link); body is a JSON object with at least one field."""
    link = digest(before, body)
    return body[:-1] + f', "{NAME}": "{link}"}}\n'.encode(), link


def link_after(line: bytes) -> str:
    """What the next line is chained to: this line's link; "" before the first line; else a digest of the line."""
    found = END.fullmatch(line[-END_BYTES:])
    if found:
        return found[1].decode()
    return digest("", line) if line else ""


def is_sealed(line: bytes) -> bool:
    """Whether the line ends in a link, byte for byte as it is written."""
    return END.fullmatch(line[-END_BYTES:]) is not None


@dataclass
class Follower:
    """Takes the lines of a log in order and says what is wrong with the chain at each."""

    before: str = ""  # the link of the line before
    chained: int = 0  # lines with a link so far
    unchained: int = 0

    def problem(self, line: bytes, number: int) -> str | None:
        """One sentence that begins with the number of the line, None if the line follows from those before it."""
        found = END.fullmatch(line[-END_BYTES:])
        before, self.before = self.before, link_after(line)
        if found is None:
            self.unchained += 1
            return f"line {number}: has no 'chain', unlike lines before it: it was changed" if self.chained else None
        first, self.chained = not self.chained, self.chained + 1
        if digest(before, line[:-END_BYTES] + b"}") == found[1].decode():
            return None
        either = f"line {number - 1} or " if first and number > 1 else ""
        return f"{either}line {number}: was changed, or lines before it are missing, doubled or out of order"
