"""Winner and start on the whole training set, judged once on the test images, with seeds that no trial had."""

import hashlib
import json
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.files import one_writer
from dawn.__main__ import main as dawn
from dawn.runlog.run import Run, read_run
from training.errors import Ended, Outcome
from training.search.settings import FIRST_SEED, Settings
from training.search.space import Choices, flags_of, start_of
from training.search.trials import Child


class Side(NamedTuple):
    """`flags`: of its runs, besides those of the search."""

    folder: Path
    flags: list[str]


def sides_of(settings: Settings, phases: list[dict[str, Any]], choices: Choices) -> dict[str, Side]:
    """Winner and start. Each winner has a folder of its own: a search that goes on may find another one."""
    flags = ["--phases", json.dumps(phases), *flags_of(start_of(settings.config), choices)]
    name = f"winner-{hashlib.sha256(json.dumps(flags).encode()).hexdigest()[:12]}"
    place = settings.folder / "confirm"
    return {"winner": Side(place / name, flags), "start": Side(place / "start", [])}


def confirm(settings: Settings, sides: dict[str, Side]) -> list[str]:
    """Lines of `dawn compare` of both. The same seeds for both; runs that are there already are not repeated.

    Of several processes that come to the end of their trials together, one trains and the others wait for its runs.
    """
    with one_writer(settings.folder / "confirm", wait=True):
        for name, (folder, flags) in sides.items():
            print(f"confirmation of the {name}: {settings.confirm} runs on the test images in {folder}", flush=True)
            train(settings, folder, flags)
        return compared(sides, settings.folder / "confirm" / "compare.json")


def train(settings: Settings, folder: Path, flags: list[str]) -> None:
    """Raises: Ended where a run does not come to its own end."""
    command = [sys.executable, "-m", "training", *settings.flags, *flags, "--target", settings.config.target]
    seeds = f"{FIRST_SEED}-{FIRST_SEED + settings.confirm - 1}"
    with Child([*command, "--seeds", seeds, "--logdir", str(folder)]) as child:
        code = child.wait()
    if code:
        raise Ended(f"{folder}: the confirmation stopped. The same command goes on from there", code)


def compared(sides: dict[str, Side], to: Path) -> list[str]:
    with redirect_stdout(output := StringIO()):
        dawn(["compare", *(str(side.folder) for side in sides.values()), "--json", str(to)])
    return output.getvalue().splitlines()


def confirmed(sides: dict[str, Side]) -> dict[str, list[dict[str, Any]]]:
    """What each run of the confirmation came to, by side."""
    return {
        name: [end_of(read_run(path)) for path in sorted(side.folder.glob("seed-*"))] for name, side in sides.items()
    }


def end_of(run: Run) -> dict[str, Any]:
    """Accuracy (percent) and T_total of its last validation; None for a run that diverged, which is a miss."""
    rows = [row for row in run.rows if row.validation]
    if not rows or (run.stop and run.stop.outcome == Outcome.DIVERGED.value):
        return {"seed": run.start.seed, "percent": None, "seconds": None}
    percent = rows[-1].validation.percent(run.start.metric)
    return {"seed": run.start.seed, "percent": percent, "seconds": rows[-1].clock["total"]}


def reaches(runs: list[dict[str, Any]], target: float) -> bool:
    """Whether the mean of all does, and none diverged."""
    found = [run["percent"] for run in runs]
    return bool(found) and None not in found and sum(found) / len(found) >= target
