"""Scripts of benchmarks/ in the process of the tests, which has imported torch."""

import runpy
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run_script(monkeypatch, capfd, name: str, *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of `python benchmarks/NAME ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    monkeypatch.syspath_prepend(BENCHMARKS)
    capfd.readouterr()
    try:
        runpy.run_path(str(BENCHMARKS / name), run_name="__main__")
    except SystemExit as end:
        return end.code or 0, *capfd.readouterr()
    return 0, *capfd.readouterr()
