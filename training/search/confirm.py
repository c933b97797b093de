"""Winner and start on the whole training set, judged once on the test images, with seeds that no trial had."""

import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from data_prep.files import one_writer
from dawn.__main__ import main as dawn
from dawn.runlog.run import read_run
from training.errors import Ended
from training.search.settings import Settings
from training.search.space import Choices, flags_of

FIRST_SEED = 1_000_000_000  # trials count from --seed


def confirm(settings: Settings, choices: Choices, best: Path) -> list[str]:
    """Lines of `dawn compare` of both. The same seeds for both; runs that are there already are not repeated.

    Of several processes that come to the end of their trials together, one trains and the others wait for its runs.
    """
    with one_writer(settings.folder / "confirm", wait=True):
        train_both(settings, choices, best)
        return compared(settings.folder / "confirm")


def train_both(settings: Settings, choices: Choices, best: Path) -> None:
    last = FIRST_SEED + settings.confirm - 1
    sides = {"winner": ["--phases", str(best), *flags_of(choices)], "start": []}
    for name, flags in sides.items():
        folder = settings.folder / "confirm" / name
        print(f"confirmation of the {name}: {settings.confirm} runs on the test images in {folder}", flush=True)
        command = [sys.executable, "-m", "training", *settings.flags, *flags, "--target", settings.config.target]
        code = subprocess.run([*command, "--seeds", f"{FIRST_SEED}-{last}", "--logdir", str(folder)]).returncode
        if code:
            raise Ended(f"{folder}: the confirmation stopped. The same command goes on from there", code)


def compared(folder: Path) -> list[str]:
    with redirect_stdout(output := StringIO()):
        dawn(["compare", str(folder / "winner"), str(folder / "start"), "--json", str(folder / "compare.json")])
    return output.getvalue().splitlines()


def confirmed(settings: Settings) -> dict[str, list[dict]]:
    """Accuracy (percent) and T_total of every run of the confirmation, by side."""
    found: dict[str, list[dict]] = {}
    for side in ("winner", "start"):
        runs = [read_run(path) for path in sorted((settings.folder / "confirm" / side).glob("seed-*"))]
        found[side] = [
            {
                "seed": run.start.seed,
                "percent": run.evaluations[-1].validation.percent(run.start.metric),
                "seconds": run.evaluations[-1].clock["total"],
            }
            for run in runs
        ]
    return found


def reaches(runs: list[dict], target: float) -> bool:
    return bool(runs) and sum(run["percent"] for run in runs) / len(runs) >= target
