"""Names of files as bytes (they need not be text), and as text that fits on one line."""

import os

MAX_NAME = 200  # bytes of one name; file systems take 255, and names of temporary files are a little longer


def printable(name: str | bytes | os.PathLike) -> str:
    """The name on one line: what is not printable text becomes an escape (\\n, \\xff)."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def name_fault(name: bytes) -> str:
    """Why a file or class cannot have this name, "" when it can.

    Bytes that are no text are fine in a file's name. A line break is not: lists of files have one name on a line.
    """
    if len(name) > MAX_NAME:
        return f"a name of {len(name)} bytes. Use {MAX_NAME} at most"
    if any(byte < 32 or byte == 127 for byte in name):
        return "a control character in the name. Rename it"
    return ""
