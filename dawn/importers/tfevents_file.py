"""Reading one TensorBoard event file to its end: every record, or a verdict on the byte where it stops being whole.

TensorBoard's own readers stop without a word at the first bad record and draw a random sample of long series; here
its record reader and messages are used, without TensorFlow, and nothing is dropped.
"""

import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dawn.filekind import wrong_kind
from dawn.runlog.writer import MAX_FILE_BYTES, RunError

MAX_RECORD_BYTES = 64 * 2**20  # checked before memory is taken; a record of scalars has about 50 bytes
HEAD_BYTES = 64  # a length has zeros among its first eight bytes
FRAME_BYTES = 16  # around the data of a record: length (8), checksum of it (4), checksum of the data (4)
RESTORE = "Restore the file from a copy, or make the reports from run.jsonl."


class Truncated(RunError):
    """The file ends in the middle of a record, as after a crash; the records before it are whole."""


class Scalar(NamedTuple):
    """step: training images seen, in our files and those of 2018. wall_time: seconds since 1970."""

    tag: str
    step: int
    wall_time: float
    value: float


def read_file(path: Path) -> Iterator[Any]:
    """The events of a file in order (tensorboard's event_pb2.Event).

    RunError that names byte and record: Truncated where the file ends in a record (or is empty), else for a wrong
    checksum, a length above MAX_RECORD_BYTES or a record that is no event.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    for number, (offset, data) in enumerate(read_records(path), start=1):
        try:
            yield Event.FromString(data)
        except DecodeError:
            raise RunError(f"{path}: record {number}, at byte {offset}, is no event. {RESTORE}") from None


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """(offset in bytes, data) of each record. Raises as read_file."""
    from tensorboard.compat.tensorflow_stub import errors
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

    size = checked_size(path)
    if kind := no_event_file(path):
        raise RunError(f"{path}: {kind}.")
    reader = PyRecordReader_New(str(path.resolve()))  # absolute, so that no name looks like an address
    offset, number = 0, 1
    with open(path, "rb") as file:
        while offset < size:
            where = f"{path}: record {number}, at byte {offset},"
            check_length(file, offset, where)
            try:
                reader.GetNext()
            except errors.DataLossError as error:
                raise verdict(where, number, size, error.message) from None
            data = reader.record()
            yield offset, data
            offset, number = offset + FRAME_BYTES + len(data), number + 1


def checked_size(path: Path) -> int:
    """Bytes of the file. RunError unless it is a file that may be read and is neither empty nor endless."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # before it is opened: a pipe would wait for ever
            raise RunError(f"{path}: not a file. Give an event file or the folder it lies in.")
        open(path, "rb").close()
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}. Give an event file or the folder it lies in.") from None
    size = status.st_size
    if size > MAX_FILE_BYTES:
        raise RunError(f"{path}: {size} bytes, more than {MAX_FILE_BYTES}. This is not the event file of a run.")
    if size == 0:
        raise Truncated(f"{path}: the file is empty (0 bytes). Its writer was stopped before the first record.")
    return size


def check_length(file: Any, offset: int, where: str) -> None:
    """RunError if the length field at `offset` asks for more than MAX_RECORD_BYTES."""
    file.seek(offset)
    header = file.read(8)
    length = struct.unpack("<Q", header)[0] if len(header) == 8 else 0
    if length > MAX_RECORD_BYTES:
        raise RunError(f"{where} is corrupt: its length is given as {length} bytes. {RESTORE}")


def verdict(where: str, number: int, size: int, reason: str) -> RunError:
    """`reason`: the message of TensorBoard's reader."""
    if "truncated" in reason:
        part = reason.rsplit(" in ", 1)[-1]
        whole = f"the {number - 1} before it are whole"
        return Truncated(f"{where} is cut off: the file ends at byte {size} in its {part}; {whole}. {RESTORE}")
    part = "length" if "header" in reason else "data"
    return RunError(f"{where} is corrupt: the checksum of its {part} is wrong. {RESTORE}")


def no_event_file(path: Path) -> str:
    """What the file is where it is known not to be an event file, with what to do; "" for one, and for one whose first
    bytes are damaged."""
    if is_event_file(path):
        return ""
    if kind := wrong_kind(path):
        return kind
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return ""
    return "" if b"\0" in head or len(head) < 12 else "this is text, not a TensorBoard event file. Give an event file"


def is_event_file(path: Path) -> bool:
    """Do the first 12 bytes frame a record? False also where there is no such file."""
    if not path.is_file():
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError:
        return False
    if len(head) < 12 or b"\0" not in head:  # a length has zeros; a text, which this spares the import, has none
        return False
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    return struct.unpack("<I", head[8:])[0] == masked_crc32c(head[:8])
