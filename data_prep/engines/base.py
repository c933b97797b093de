"""What an engine is: a map over items, with the results in order."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    def map(self, function: Callable[[Item], Result], items: Sequence[Item], chunk: int) -> Iterator[Result]:
        """`function` of every item, in order. It may run twice for an item when a worker is lost, so what it writes
        must not depend on how often.

        `function` must be importable by name. `chunk`: items that a worker takes at a time, at least. An exception of
        the function is raised here. Raises: DataError when workers are lost and no other can do their work.
        """


class Rows(Sequence):
    """Rows of arrays of one length, as tuples of plain values, made when they are taken: a list would be large."""

    def __init__(self, *columns: np.ndarray):
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, place: int | slice) -> tuple | list[tuple]:
        if isinstance(place, slice):
            return list(zip(*(column[place].tolist() for column in self.columns), strict=True))
        return tuple(column[place].item() for column in self.columns)
