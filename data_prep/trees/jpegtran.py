"""jpegtran of libjpeg-turbo: the coefficients of a JPEG file written anew, without a change, with restart markers.

No package of Python's writes restart markers losslessly, so the program of the system is called, once a file.
"""

import re
import subprocess
from functools import cache

from data_prep.errors import DataError

OLDEST = (2, 0)
INSTALL = "Install it: sudo apt install libjpeg-turbo-progs, or: conda install -c conda-forge libjpeg-turbo"
SECONDS = 120  # for one file; one of 100 megapixels takes 10
CANONICAL = ("-copy", "none", "-optimize")


class JpegtranStopped(Exception):
    """It did not come to an end, which says nothing about the file."""


@cache
def jpegtran_version() -> str:
    """ "jpegtran 2.1.5". Raises: DataError when it is missing, too old or another library's."""
    try:
        run = subprocess.run(["jpegtran", "-version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
    except OSError as error:
        raise DataError(f"jpegtran of libjpeg-turbo is needed ({error.strerror}). {INSTALL}") from None
    except subprocess.TimeoutExpired:
        raise DataError(f"jpegtran does not answer. {INSTALL}") from None
    told = (run.stderr + run.stdout).decode(errors="replace")
    found = re.search(r"^libjpeg-turbo version (\d+)\.(\d+)(\S*)", told, re.MULTILINE)
    if not found:
        raise DataError(f"jpegtran is not that of libjpeg-turbo ({told.strip()[:60]!a}). {INSTALL}")
    if (int(found[1]), int(found[2])) < OLDEST:
        raise DataError(
            f"jpegtran is of libjpeg-turbo {found[1]}.{found[2]}, {OLDEST[0]}.{OLDEST[1]} is needed. {INSTALL}"
        )
    return f"jpegtran {found[1]}.{found[2]}{found[3]}"


def with_segments(data: bytes) -> bytes | None:
    """A sequential file with a restart marker after every MCU, optimal Huffman tables and without metadata; None
    for a file that it complains of. Raises: JpegtranStopped, also below."""
    return _run(data, *CANONICAL, "-restart", "1B")


def same_coefficients(data: bytes, other: bytes) -> bool:
    """Whether two files hold the same coefficients and tables: written in one form they are the same bytes."""
    form = _run(data, *CANONICAL)
    return form is not None and form == _run(other, *CANONICAL)


def _run(data: bytes, *options: str) -> bytes | None:
    try:
        run = subprocess.run(["jpegtran", *options], input=data, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise JpegtranStopped(f"jpegtran took more than {SECONDS} s") from None
    if run.returncode < 0:
        raise JpegtranStopped(f"jpegtran was ended by signal {-run.returncode}, perhaps for memory")
    if b"Insufficient memory" in run.stderr:
        raise JpegtranStopped("jpegtran had too little memory")
    return run.stdout if run.returncode == 0 else None  # 1: an error; 2: a warning, also of mere bytes too many
