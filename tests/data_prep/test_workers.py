"""Work shared among processes (the rest of it: the commands that do)."""

import os

from data_prep.workers import default_workers


def test_a_system_without_affinity_of_processes_has_workers(monkeypatch):
    """macOS: every command with --workers 0 ended in an AttributeError."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert default_workers() == (os.cpu_count() or 1)
