"""Time against accuracy of the trials of several searches in one picture, with the Pareto front of each.

    python benchmarks/frontier.py "growing images=runs/search" "one size=runs/search-fixed" --out frontier.png

Each argument is NAME=FOLDER, where FOLDER is the folder of a search (`python -m training search`). Time is planned
`T_total`, accuracy is that of the held-out training images. Prints the points of each front.
"""

import argparse
import csv
import sys
from pathlib import Path

from one_line import one_line_errors

from training.errors import ConfigError
from training.search.results import front

SHOWN_BELOW = 6.0  # points below the target, where the accuracy axis begins
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito


def main() -> int:
    options = parsed()
    searches = searches_of(options.searches)
    for name, trials in searches.items():
        points = (f"{t['percent']:.2f} % in {t['seconds']:.1f} s (trial {t['trial']})" for t in front(trials))
        print(f"{name}, {len(trials)} trials run to the end: " + ", ".join(points))
    draw(options.out, searches, options.target)
    return 0


def searches_of(arguments: list[str]) -> dict[str, list[dict]]:
    """Raises: ConfigError."""
    if len(arguments) > len(COLOURS):
        raise ConfigError(f"{len(arguments)} searches: the picture has colours for {len(COLOURS)}. Name fewer")
    searches: dict[str, list[dict]] = {}
    for argument in arguments:
        name, _, folder = argument.rpartition("=")
        if (name := name or folder) in searches:
            raise ConfigError(f"{argument}: another search has this name. Write another one before the =")
        searches[name] = trials_of(Path(folder))
    return searches


def trials_of(folder: Path) -> list[dict]:
    """Those that ran to the end. Raises: ConfigError."""
    path = folder / "trials.csv"
    try:
        found = [
            {"trial": row["trial"], "seconds": float(row["planned_seconds"]), "percent": float(row["accuracy"])}
            for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())
            if row["state"] == "complete"
        ]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{path}: cannot be read as the trials of a search ({error!r:.80})") from None
    if not found:
        raise ConfigError(f"{path}: no trial ran to its end")
    return found


def draw(path: Path, searches: dict[str, list[dict]], target: float) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for (name, trials), colour in zip(searches.items(), COLOURS, strict=False):
        axes.scatter(*columns(trials), s=14, color=colour, alpha=0.4)
        axes.step(*columns(front(trials)), where="post", color=colour, label=name)
    axes.axhline(target, color="black", linestyle=":", linewidth=1, label=f"target, {target:g} %")
    highest = max(target, *(trial["percent"] for trials in searches.values() for trial in trials))
    axes.set(xlabel="planned T_total, seconds", ylabel="held-out top-1, %", ylim=(target - SHOWN_BELOW, highest + 0.5))
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def columns(trials: list[dict]) -> tuple[list[float], list[float]]:
    return [trial["seconds"] for trial in trials], [trial["percent"] for trial in trials]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("searches", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--target", type=float, default=85.0, help="percent")
    parser.add_argument("--out", type=Path, default=Path("frontier.png"))
    return parser.parse_args()


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
