"""What a file is that is not what its reader expects, and what to do about it. Standard library only; every package may
import it.

A reader asks after it has failed, so that "corrupt" is said only of a file that was once the right one.
"""

import os
import re
import stat
from typing import NamedTuple

from dawn.commandline import quoted

HEAD_BYTES = 4096
TAIL_BYTES = 64


class Kind(NamedTuple):
    """starts: first bytes. remedy: `{path}` stands for the file, `{folder}` for its folder, both quoted for a shell."""

    name: str  # for `expected`
    starts: tuple[bytes, ...]
    what: str
    remedy: str


KINDS = (
    Kind(
        "lfs",
        (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/"),
        "a Git LFS pointer, not the file itself",
        "Get the file: git -C {folder} lfs pull",
    ),
    Kind("annex", (b"/annex/objects/",), "a git-annex pointer, not the file itself", "Get it: git annex get {path}"),
    Kind("gzip", (b"\x1f\x8b",), "compressed with gzip", "Unpack it: gunzip {path}"),
    Kind("bzip2", (b"BZh",), "compressed with bzip2", "Unpack it: bunzip2 {path}"),
    Kind("xz", (b"\xfd7zXZ\0",), "compressed with xz", "Unpack it: unxz {path}"),
    Kind("zstd", (b"\x28\xb5\x2f\xfd",), "compressed with Zstandard", "Unpack it: unzstd {path}"),
    Kind("7z", (b"7z\xbc\xaf\x27\x1c",), "a 7-Zip archive", "Unpack it: 7z x {path}"),
    Kind("zip", (b"PK\x03\x04", b"PK\x05\x06"), "a zip archive", "Unpack it: unzip {path}"),
    Kind("pickle", (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), "a Python pickle, which is never "
         "opened: it can run code", "Save the values in another format"),
    Kind("npy", (b"\x93NUMPY",), "a NumPy array", "Name the file that is meant"),
    Kind("hdf5", (b"\x89HDF\r\n\x1a\n",), "an HDF5 file", "Name the file that is meant"),
    Kind("sqlite", (b"SQLite format 3\0",), "an SQLite database", "Name the file that is meant"),
    Kind("parquet", (b"PAR1",), "a Parquet table", "Save it as CSV"),
    Kind("pdf", (b"%PDF-",), "a PDF document", "Name the file that is meant"),
    Kind("rtf", (b"{\\rtf",), "a document of a word processor", "Save it as plain text"),
    Kind("office", (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",), "a document of an office program", "Save it as text or CSV"),
    Kind("picture", (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8"), "a picture", "Name the file that is meant"),
    Kind("program", (b"\x7fELF", b"MZ\x90\0"), "a program", "Name the file that is meant"),
    Kind("applefile", (b"\0\x05\x16\x07",), "what macOS keeps beside a file (`._` before its name)", "Name the file "
         "without `._`, or delete this one"),
)  # fmt: skip
HTML = re.compile(rb"\s*(<!doctype html|<html|<head|<\?xml)", re.IGNORECASE)
UTF16 = (b"\xff\xfe", b"\xfe\xff")
RESTORE = "Restore it from a copy"
ENDS_IN_ZEROS = {"raw", "npy", "tar"}  # also when it is whole


def wrong_kind(path: str | os.PathLike[str], expected: str = "") -> str:
    """What the file at `path` is, and what to do, as in "this is compressed with gzip. Unpack it: gunzip x.gz", without
    a last full stop. "" where nothing can be said: it looks like text or like unknown bytes, or cannot be opened.

    expected: what the file is meant to be, where that is no text: the name of a Kind, as `zip` for a checkpoint, or
    `tar`, or `raw` for bytes without a form.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait for ever
            return ""
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            tail = file.read()
    except OSError:
        return ""
    return _described(head, tail, os.fspath(path), expected)


def wrong_kind_of(data: bytes, path: str | os.PathLike[str], expected: str = "") -> str:
    """The same for the whole content of a file, which is at `path`."""
    return _described(data[:HEAD_BYTES], data[-TAIL_BYTES:], os.fspath(path), expected)


def is_utf16(data: bytes) -> bool:
    """With its byte order mark, or ASCII text in it without one: every second byte is zero, the others are not."""
    if data.startswith(UTF16):
        return True
    even, odd = data[:HEAD_BYTES:2], data[1:HEAD_BYTES:2]
    return len(data) > 7 and any(not any(zeros) and all(others) for zeros, others in ((odd, even), (even, odd)))


def _described(head: bytes, tail: bytes, path: str, expected: str) -> str:
    if not head:
        return f"the file is empty. {RESTORE}"
    if not head.strip(b"\0") and expected != "raw":
        return f"it begins with nothing but zero bytes, as after a power cut. {RESTORE}"
    if HTML.match(head.removeprefix(b"\xef\xbb\xbf")):
        return "this is an HTML or XML page, not the file itself. Download the file, on GitHub by its link Raw"
    kind = next((kind for kind in KINDS if head.startswith(kind.starts) and kind.name != expected), None)
    if kind:
        folder = os.path.dirname(path) or "."
        return f"this is {kind.what}. {kind.remedy.format(path=quoted(path), folder=quoted(folder))}"
    if head[257:262] == b"ustar" and expected != "tar":
        return f"this is a tar archive. Unpack it: tar -xf {quoted(path)}"
    if is_utf16(head):
        convert = f"iconv -f UTF-16 -t UTF-8 {quoted(path)}"
        return f"this is text in UTF-16, as `>` of PowerShell writes it. Convert it: {convert}"
    if not tail.strip(b"\0") and len(tail) == TAIL_BYTES and expected not in ENDS_IN_ZEROS:
        return f"it ends in zero bytes, as after a power cut or an unfinished copy. {RESTORE}"
    return ""
