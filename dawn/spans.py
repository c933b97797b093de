"""The phases of a run as they were executed: neighbouring epochs that have something in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from dawn.records import Row


@dataclass(frozen=True)
class Span:
    """Epochs in a row that share `value`."""

    value: Any
    rows: tuple[Row, ...]

    @property
    def epochs(self) -> str:
        """Counted from 1, as in the TSV: `3` or `3-7`."""
        first, last = self.rows[0].epoch + 1, self.rows[-1].epoch + 1
        return f"{first}" if first == last else f"{first}-{last}"

    def seconds(self, *labels: str) -> float:
        return sum(row.seconds[label] for row in self.rows for label in labels)

    @property
    def images_per_second(self) -> float:
        """Training images over the time of training steps and data wait; 0.0 if the log holds no such time."""
        seconds = self.seconds("data", "train")
        return sum(row.images for row in self.rows) / seconds if seconds else 0.0


def spans(rows: Sequence[Row], value: Callable[[Row], Any]) -> list[Span]:
    return [Span(key, tuple(group)) for key, group in groupby(rows, value)]


def executed_phases(rows: Sequence[Row]) -> list[Span]:
    """Spans of equal (image size, batch size per device, global batch size)."""
    return spans(rows, lambda row: (row.size, row.batch_size, row.global_batch_size))
