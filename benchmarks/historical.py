"""The results of dawn/leaderboard/historical.json derived again from a clone of stanford-futuredata/dawn-bench-entries.

    git clone https://github.com/stanford-futuredata/dawn-bench-entries
    python benchmarks/historical.py dawn-bench-entries            # exit code 1 where a row says something else
    python benchmarks/historical.py dawn-bench-entries --write    # write the derived values into historical.json

Which entries are listed, and under which short names of team and hardware, is chosen by hand. All other values are
those of the entry: its day, its price, and the first row of its TSV at the target.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dawn import RunError
from dawn.files import write_atomic
from dawn.leaderboard.entry import EntryError, read_entry, task_named
from dawn.leaderboard.read import HISTORICAL

IN_REPOSITORY = "/blob/master/"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path, metavar="CLONE", help="a clone of dawn-bench-entries")
    parser.add_argument("--write", action="store_true", help="write the derived values into historical.json")
    args = parser.parse_args()
    content = json.loads(Path(str(HISTORICAL)).read_text("utf-8"))
    try:
        derived = [row | values_of(args.clone, row) for row in content["results"]]
        if args.write:
            write_atomic(Path(str(HISTORICAL)), text_of(content | {"results": derived}).encode())
    except (EntryError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    differences = [text for pair in zip(content["results"], derived, strict=True) for text in differences_of(*pair)]
    print("\n".join([*differences, f"{len(derived)} results, {len(differences)} values differ"]))
    return int(bool(differences) and not args.write)


def values_of(clone: Path, row: dict[str, Any]) -> dict[str, Any]:
    """What the entry of this row says. EntryError or RunError, one line, where it says nothing."""
    path = clone / row["source"].partition(IN_REPOSITORY)[2]
    if not path.is_file():
        raise EntryError(f"{path}: there is no such entry. Give a clone of dawn-bench-entries.")
    try:
        entry = read_entry(path, task_named(row["task"]), row["target"])
    except EntryError as error:
        raise EntryError(f"{path}: {error}") from None
    price = entry.dollars and entry.dollars / entry.seconds * 3600
    return {
        "date": entry.day,
        "seconds": round(entry.seconds, 2),
        "percent": round(entry.percent, 3),
        "epoch": entry.epoch,
        "cost_per_hour": price and round(price, 6),
    }


def differences_of(row: dict[str, Any], derived: dict[str, Any]) -> list[str]:
    changed = [name for name in row if row[name] != derived[name]]
    return [f"{row['source'].rpartition('/')[2]}: {name} {row[name]!r} is {derived[name]!r}" for name in changed]


def text_of(content: dict[str, Any]) -> str:
    """As JSON with one line a result."""
    rows = ",\n".join(f"  {json.dumps(row)}" for row in content["results"])
    head = json.dumps(content | {"results": []}, indent=1)
    return head.replace('"results": []', f'"results": [\n{rows}\n ]') + "\n"


if __name__ == "__main__":
    sys.exit(main())
