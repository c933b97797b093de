"""Loaders that do the same work in turn, and what was measured of each."""

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from loader_process import LoaderProcess, Unavailable
from loader_work import Work
from PIL import Image
from process_memory import MIB, Memory


@dataclass
class Figures:
    """What was measured of a loader in a row."""

    memory: Memory
    rates: list[float] = field(default_factory=list)  # images/s, by round
    processor: list[float] = field(default_factory=list)  # ms an image, by round
    switches: list[tuple[int, int]] = field(default_factory=list)  # pixels, bytes


class Contest:
    """The processes of one row: all alive, one at work. A loader that cannot work leaves with a note; without the one
    that the others are compared with there is no contest, and the program ends."""

    def __init__(self, work: Work, seconds: float, loaders: dict[str, tuple[str, str, str]], base: str) -> None:
        """`loaders`: module, function and Python by name; `seconds` of a measurement."""
        self.work, self.seconds, self.loaders, self.base = work, seconds, loaders, base
        self.processes: dict[str, LoaderProcess] = {}
        self.figures: dict[str, Figures] = {}
        self.notes: dict[str, str] = {}

    def run(self, rounds: int) -> None:
        """A warm-up of each, then the rounds, every second one in the other order, then changes of size."""
        for loader in self.loaders:
            self.attempt(self.begin, loader)
        for number in range(rounds):
            for loader in list(self.processes)[:: -1 if number % 2 else 1]:
                self.attempt(self.measure, loader)
            rates = (f"{loader} {figures.rates[-1]:,.0f}/s" for loader, figures in self.figures.items())
            say(f"  round {number + 1}: {', '.join(rates)}")
        for loader in [loader for loader in self.processes if self.loaders[loader][0] == "our_loaders"]:
            self.attempt(self.switch, loader)

    def attempt(self, action, loader: str) -> None:
        try:
            action(loader)
        except Unavailable as reason:
            if loader == self.base:
                sys.exit(f"{loader}: {reason}")
            say(f"  {loader}: {reason}")
            self.notes[loader] = str(reason)
            self.processes.pop(loader, None)
            self.figures.pop(loader, None)

    def begin(self, loader: str) -> None:
        module, function, python = self.loaders[loader]
        process = self.processes[loader] = LoaderProcess(module, function, python)
        process.begin(self.work)
        self.figures[loader] = Figures(process.warmed_up(self.seconds))
        say(f"  {loader}: {self.figures[loader].memory.total // MIB} MiB")

    def measure(self, loader: str) -> None:
        rate, processor = self.processes[loader].measured(self.seconds)
        self.figures[loader].rates.append(rate)
        self.figures[loader].processor.append(processor)

    def switch(self, loader: str) -> None:
        self.figures[loader].switches = self.processes[loader].switched()

    def write_sheet(self, file: Path) -> None:
        """A PNG of the first pictures of every loader, a row each, in the order that this says."""
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            for number, process in enumerate(self.processes.values()):
                rows.append(np.concatenate(process.first_pictures(Path(folder) / f"{number}.npy"), axis=1))
        Image.fromarray(np.concatenate(rows)).save(file)
        say(f"  {file}, from the top: {', '.join(self.processes)}")

    def __enter__(self) -> "Contest":
        return self

    def __exit__(self, *error) -> None:
        for process in self.processes.values():
            process.close()


def say(words: str) -> None:
    """Progress, not a result."""
    print(words, file=sys.stderr, flush=True)
