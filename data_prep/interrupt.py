"""Ctrl-C for the commands, as an exception of our own: of a KeyboardInterrupt Python may say that nobody caught it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """Ctrl-C was pressed.

    When a KeyboardInterrupt itself leaves a text that is being executed (dataclasses and named tuples are made so, in
    many a library's import), CPython notes that nobody caught it, and `python -m` ends by signal 2 although we did
    (Python/pythonrun.c: run_eval_code_obj, Modules/main.c: exit_sigint). It does not look at subclasses.
    """


@contextmanager
def own_interrupts() -> Iterator[None]:
    """Inside, Ctrl-C raises Interrupted. Only in the main thread, and where nothing but Python's own handler is."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted
