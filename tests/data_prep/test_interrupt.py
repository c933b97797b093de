"""Ctrl-C ends a command with its own exit code, wherever it arrives."""

import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from data_prep.interrupt import Interrupted, own_interrupts

REPOSITORY = Path(__file__).resolve().parents[2]
KILLS = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.parametrize(
    ("library", "command", "words"),
    [
        ("PIL", ["data_prep", "toy", "{folder}/toy"], "interrupted; the same command goes on from here"),
        ("torch", ["training", "{folder}/toy", "--recipe", "toy"], "interrupted before the first step"),
    ],
)
def test_ctrl_c_while_a_library_executes_text_is_130_not_a_signal(tmp_path, library, command, words):
    """The library that a command imports late makes its classes from text, and is interrupted in it."""
    (tmp_path / f"{library}.py").write_text(f"exec({KILLS!r})\n")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    done = subprocess.run(
        [sys.executable, "-m", *(text.format(folder=tmp_path) for text in command)],
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a job in the background inherits "ignore"
    )
    assert (done.returncode, done.stderr.strip()) == (130, words)


def test_the_handler_of_python_is_put_back(handler):
    with pytest.raises(Interrupted), own_interrupts():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_handlers_stay(handler):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with own_interrupts():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_are_left_alone(handler):
    inside = []

    def work():
        with own_interrupts():
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [signal.default_int_handler]
