"""Bad input of a benchmark ends in one line and exit code 2, as in the commands."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from data_prep import DataError
from dawn import RunError
from phases import PhaseError
from training.errors import INPUT_ERROR, ConfigError


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Around a benchmark's work."""
    try:
        yield
    except (ConfigError, DataError, PhaseError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(INPUT_ERROR)
