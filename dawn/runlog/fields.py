"""Reading logged objects field by field, each one checked; a wrong one is a RunError that names its place."""

import math
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any

from dawn.runlog.writer import RunError

UTC = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z")
MOST = 2**53  # no count and no time of a real run is larger


def is_number(value: Any) -> bool:
    """A finite number to compute with; an integer of 400 digits, which JSON may hold, is none."""
    return math.isfinite(value) if type(value) is float else type(value) is int and abs(value) <= MOST


@dataclass(frozen=True)
class Fields:
    """A logged object with the place it stands at, for messages. Each method returns one field, checked."""

    where: str
    values: dict[str, Any]

    def _get(self, name: str, types: tuple[type, ...], wanted: str) -> Any:
        if name not in self.values:
            raise RunError(f"{self.where}: {name!r} is missing. Restore this line of the log.")
        value = self.values[name]
        if type(value) not in types:
            raise RunError(f"{self.where}: {name!r} is {value!r:.60}. It must be {wanted}.")
        return value

    def text(self, name: str) -> str:
        return self._get(name, (str,), "text")

    def text_or_none(self, name: str) -> str | None:
        return self._get(name, (str, type(None)), "text or null")

    def flag_or_none(self, name: str) -> bool | None:
        return self._get(name, (bool, type(None)), "true, false or null")

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        value = self.text(name)
        if value not in known:
            raise RunError(f"{self.where}: {name!r} is {value!r:.60}. It must be one of {', '.join(known)}.")
        return value

    def utc(self) -> str:
        if not UTC.fullmatch(value := self.text("utc")):
            raise RunError(f"{self.where}: 'utc' is {value!r:.60}. It must look like 2026-11-22T15:30:00Z.")
        return value

    def count(self, name: str, least: int = 0, most: int = MOST) -> int:
        value = self._get(name, (int,), "a whole number")
        if not least <= value <= most:
            raise RunError(f"{self.where}: {name!r} is {value!r:.60}. It must be {least} to {most}.")
        return value

    def count_or_none(self, name: str) -> int | None:
        return None if name in self.values and self.values[name] is None else self.count(name)

    def number(self, name: str, least: float = -MOST, most: float = MOST) -> float:
        value = self._get(name, (int, float), "a number")
        if not (is_number(value) and least <= value <= most):
            raise RunError(f"{self.where}: {name!r} is {value!r:.60}. It must be a number from {least} to {most}.")
        return value

    def number_or_none(self, name: str, least: float = -MOST, most: float = MOST) -> float | None:
        return None if name in self.values and self.values[name] is None else self.number(name, least, most)

    def optional_number(self, name: str, least: float = -MOST, most: float = MOST) -> float | None:
        """None also where the field is missing: for fields that older logs do not have."""
        return self.number_or_none(name, least, most) if name in self.values else None

    def pair(self, name: str) -> tuple[float, float]:
        value = self._get(name, (list,), "a list of two numbers")
        if len(value) != 2:
            raise RunError(f"{self.where}: {name!r} is {value!r:.60}. It must be [first, last].")
        ends = Fields(f"{self.where}: {name}", {"first": value[0], "last": value[1]})
        return ends.number("first"), ends.number("last")

    def items(self, name: str) -> list[Any]:
        return self._get(name, (list,), "a list")

    def mapping(self, name: str) -> dict[str, Any]:
        return self._get(name, (dict,), "an object")

    def inside(self, name: str) -> "Fields":
        return Fields(f"{self.where}: {name}", self.mapping(name))

    def inside_or_none(self, name: str) -> "Fields | None":
        return None if name in self.values and self.values[name] is None else self.inside(name)

    def seconds(self, name: str, labels: Iterable[str], newer: Container[str] = ()) -> dict[str, float]:
        """`newer`: labels that older logs do not have, which is 0."""
        inside = self.inside(name)
        there = (label for label in labels if label not in newer or label in inside.values)
        return dict.fromkeys(labels, 0.0) | {label: inside.number(label, 0) for label in there}
