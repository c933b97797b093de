"""How many wrong labels `suspects` finds: plants some in the validation images of a copy, trains, and counts.

    python benchmarks/planted_labels.py DATA --count 50 --out FOLDER -- FLAGS OF THE RUN

DATA is an image tree (train/CLASS/FILE, validation/CLASS/FILE). The copy FOLDER/data has hard links to its files, and
`--count` validation images, drawn by `--seed`, in the folder of another class. Prints how many of them are among the
first 1, 2, 5 and 10 % of the images that `suspects` lists, and draws FOLDER/found.png.
"""

import argparse
import csv
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from one_line import one_line_errors

from data_prep.trees.adopt import adopt
from training.__main__ import main as training

MARK = "planted-"
SHARES = (0.01, 0.02, 0.05, 0.1)  # of the validation images


def main() -> int:
    options, flags = parsed()
    data, run = options.out / "data", options.out / "run"
    if not data.exists():
        plant(options.data, data, options.count, options.seed)
    code = training([str(data), *flags, "--inspect", "light", "--logdir", str(run)])
    if code not in (0, 3):
        return code
    training(["suspects", str(run), "--top", "1"])
    images = sum(1 for _ in (data / "validation").rglob("*.*"))
    found = found_after(run / "inspect" / "suspects.csv")
    for share in SHARES:
        print(f"first {share:.0%} ({round(share * images)} images): {found(share * images)} of {options.count} planted")
    draw(options.out / "found.png", found, images, options.count)
    return 0


def plant(source: Path, data: Path, count: int, seed: int) -> None:
    for split in ("train", "validation"):
        shutil.copytree(source / split, data / split, copy_function=os.link)
    pictures = sorted(path for path in (data / "validation").rglob("*.*") if path.is_file())
    classes = sorted(path.name for path in (data / "validation").iterdir())
    generator = np.random.default_rng(seed)
    for i in generator.choice(len(pictures), count, replace=False):
        path = pictures[i]
        others = [name for name in classes if name != path.parent.name]
        path.rename(data / "validation" / others[generator.integers(len(others))] / f"{MARK}{path.name}")
    adopt(data)


def found_after(path: Path):
    """How many planted images are among the first n suspects, as a function of n."""
    with path.open() as file:
        planted = np.cumsum([MARK in row["file"] for row in csv.DictReader(file)])
    return lambda images: int(planted[min(round(images), len(planted)) - 1]) if len(planted) and images >= 1 else 0


def draw(path: Path, found, images: int, count: int) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    looked = np.linspace(0, 0.1, 101)
    axes.plot(100 * looked, [100 * found(share * images) / count for share in looked], label="suspects")
    axes.plot(100 * looked, [min(100, 100 * share * images / count) for share in looked], ":", label="best possible")
    axes.set(xlabel="images looked at, % of the validation images", ylabel="planted labels found, %", ylim=(0, 102))
    axes.legend()
    figure.savefig(path, dpi=120)


def parsed() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    own = sys.argv[1:]
    cut = own.index("--") if "--" in own else len(own)
    return parser.parse_args(own[:cut]), own[cut + 1 :]


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
