"""What an hour of hardware costs: a price of the user's own, or one of a table of dated prices with their sources."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from dawn.fields import Fields
from dawn.runlog import RunError

TABLE = Path(__file__).with_name("prices.json")  # on-demand prices that entries of DAWNBench state
MAX_BYTES = 1_000_000
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Price:
    """dollars: US dollars per hour of everything that ran; source: who says so, and of which day."""

    dollars: float
    source: str


def own_price(dollars: float, source: str | None) -> Price:
    """RunError for a price that is none."""
    if not (math.isfinite(dollars) and dollars >= 0):
        raise RunError(f"cost per hour is {dollars}. Give US dollars per hour, 0 or more.")
    return Price(dollars, source or "given on the command line, without a source")


def listed_price(instance: str, machines: int = 1, table: Path = TABLE) -> Price:
    """Of so many instances of this name. RunError for an unknown name and for a table that cannot be used."""
    if machines < 1:
        raise RunError(f"--machines is {machines}. Give 1 or more.")
    rows = {row["instance"]: row for row in load_table(table)}
    if instance not in rows:
        raise RunError(f"unknown instance {instance!r:.60}. Known: {', '.join(rows)}; or give --cost-per-hour.")
    row = rows[instance]
    many = f"{machines} x " if machines > 1 else ""
    said = f"{many}{row['instance']} ({row['provider']}, {row['hardware']}), {row['date']}: {row['source']}"
    return Price(machines * row["dollars_per_hour"], said)


def load_table(path: Path) -> list[dict]:
    """A list of objects with instance, provider, hardware, dollars_per_hour, date, source; each one checked."""
    try:
        with open(path, "rb") as file:
            rows = json.loads(file.read(MAX_BYTES).decode())
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}. Give a JSON file of prices.") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: not JSON ({str(error).splitlines()[0]}). Give a JSON file of prices.") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RunError(f"{path}: no list of objects. See dawn/prices.json for the fields.")
    for number, row in enumerate(rows, 1):
        fields = Fields(f"{path}, price {number}", row)
        for name in ("instance", "provider", "hardware", "source"):
            fields.text(name)
        fields.number("dollars_per_hour", 0)
        if not DAY.fullmatch(fields.text("date")):
            raise RunError(f"{fields.where}: 'date' is {row['date']!r:.60}. It must look like 2026-11-22.")
    return rows
