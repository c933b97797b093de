"""How long the reports of many runs take, how large the page is, and when a browser shows it.

    python benchmarks/reports.py [--runs 20] [--epochs 100] [--entries 100]

The runs are made by tests/helpers/long_run.py; the browser is chromium where it is installed. Prints a Markdown table.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from chromium import browser, chromium_path  # noqa: E402
from long_run import long_run  # noqa: E402

PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
DRAWN = "performance.now()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--entries", type=int, default=100)
    args = parser.parse_args()
    print("| what | result | goal |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for line in rows(Path(name), args):
            print("| " + " | ".join(line) + " |", flush=True)


def rows(root: Path, args: argparse.Namespace):
    folders = [long_run(root / "runs" / f"seed-{seed}", args.epochs, seed) for seed in range(args.runs)]
    page = root / "report.html"
    yield f"`report` of one run of {args.epochs} epochs", seconds("report", folders[0], "--out", page), ""
    what = f"`report` of {args.runs} runs of {args.epochs} epochs"
    yield what, seconds("report", *folders, "--out", page), "< 5 s"
    yield "size of that page", f"{page.stat().st_size / 1e6:.2f} MB", "< 6 MB"
    yield from in_browser(page, root / "profile")
    yield f"`board` of {args.entries} entries", board(root / "entries", args.entries), ""


def seconds(*arguments: object) -> str:
    """Of a whole command, started three times; the median."""
    times = []
    for _ in range(3):
        before = time.monotonic()
        subprocess.run([sys.executable, "-m", "dawn", *map(str, arguments)], cwd=ROOT, check=True, capture_output=True)
        times.append(time.monotonic() - before)
    return f"{sorted(times)[1]:.2f} s"


def in_browser(page: Path, profile: Path):
    if chromium_path() is None:
        yield "the page in chromium", "not measured, no chromium here", "< 2 s"
        return
    painted, drawn = [], []
    with browser(profile) as tab:
        for _ in range(3):
            tab.look(1280)
            tab.open(page)
            drawn.append(tab.value(DRAWN) / 1000)
            painted.append(tab.value(PAINTED) / 1000)
    yield "first paint of that page in chromium", f"{sorted(painted)[1]:.2f} s", "< 2 s"
    yield "all its charts drawn", f"{sorted(drawn)[1]:.2f} s", ""


def board(folder: Path, count: int) -> str:
    """Entries in the layout of DAWNBench's repository."""
    place = folder / "CIFAR10" / "train"
    place.mkdir(parents=True)
    for number in range(count):
        fields = {
            "version": "v1.0",
            "author": f"author {number}",
            "authorEmail": "a@example.org",
            "framework": "PyTorch",
        }
        fields |= {"model": "resnet", "hardware": "1 GPU", "timestamp": "2026-11-22", "costPerHour": 1.5}
        name = f"a{number}_resnet_gpu_pytorch"
        (place / f"{name}.json").write_text(json.dumps(fields))
        lines = [f"{epoch}\t{epoch * (0.01 + number / 1e5):.8f}\t{90 + epoch / 10:.2f}" for epoch in range(1, 51)]
        (place / f"{name}.tsv").write_text("\n".join(["epoch\thours\ttop1Accuracy", *lines]) + "\n")
    return seconds("board", folder)


if __name__ == "__main__":
    main()
