"""Folders that refuse a write, also root's: read-only ones, and a disk without a free byte."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from small_disk import small_disk


@contextlib.contextmanager
def read_only(place: Path) -> Iterator[Path]:
    """An empty folder that nobody may write to; the test is skipped where mounting is not allowed."""
    with small_disk(place, "64k"):
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        yield place


@contextlib.contextmanager
def full_disk(place: Path) -> Iterator[Path]:
    """An empty folder on a disk with 0 bytes free; the test is skipped where mounting is not allowed."""
    with small_disk(place, "64k"):
        with contextlib.suppress(OSError), open(place / "filler", "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        yield place
