"""Files that cannot be used, by name and reason: ROOT/bad_files.tsv, and the error that speaks of them."""

from pathlib import Path
from typing import NamedTuple

from data_prep.errors import DataError
from data_prep.files import write_atomically
from data_prep.formats.file_names import printable

BAD_FILES = "bad_files.tsv"


class Problem(NamedTuple):
    path: bytes  # relative to ROOT
    reason: str

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.reason}"


def write_problems(root: Path, problems: list[Problem]) -> None:
    """Write ROOT/bad_files.tsv (path, tab, reason); none is left when there is nothing to tell."""
    if not problems:
        (root / BAD_FILES).unlink(missing_ok=True)
        return
    lines = [f"{printable(path)}\t{printable(reason)}\n" for path, reason in problems]
    write_atomically(root / BAD_FILES, "".join(["path\treason\n", *lines]).encode())


def refuse(root: Path, problems: list[Problem]) -> DataError:
    return DataError(
        f"{root}: {len(problems):,} bad files, all listed in {root / BAD_FILES}; the first is "
        f"{problems[0]}. Replace them, or leave them out with --skip-bad."
    )
