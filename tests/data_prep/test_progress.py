"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import os
import pty
import sys

from data_prep.progress import tracked, waiting


def shown_on_a_terminal(monkeypatch, work) -> str:
    """What `work` writes where standard error is a terminal."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        work()
        print("the end", file=terminal, flush=True)
        text = ""
        while "the end" not in text:  # one read has only what the kernel has passed on by then
            text += os.read(ours, 65536).decode(errors="replace")
    os.close(ours)
    return text


def test_a_bar_counts_to_its_end_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    passed: list[int] = []

    def work() -> None:
        passed.extend(tracked(range(3), "resizing", 3, rate="images"))
        with waiting("hashing"):
            passed.append(3)

    text = shown_on_a_terminal(monkeypatch, work)
    assert passed == [0, 1, 2, 3] and "resizing" in text and "3/3" in text and "hashing" in text


def test_elsewhere_a_line_for_each_quarter(capsys):
    assert list(tracked(range(8), "resizing", 8)) == list(range(8))
    assert capsys.readouterr().err.splitlines() == ["resizing", *(f"resizing: {part} %" for part in (25, 50, 75, 100))]
