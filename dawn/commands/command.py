"""What a command of `dawn-report` is made of. Each module command_*.py defines some; __main__ lists them."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """run returns the exit code; None is 0. It raises RunError for bad input."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
