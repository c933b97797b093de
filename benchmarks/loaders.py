"""How fast the loaders of image trees are, ours and others, side by side on this machine.

All loaders of a row make the same: batches of 64 random resized crops, mirrored half of the time, uint8 NHWC,
antialiased, from files in the page cache, with two processes or threads. They work in turn (each in a process of its
own, the others wait), `--rounds` times after a warm-up; a cell is the median over the rounds of images/s relative to
the 2018 way in the same round, with the lowest and the highest. TREE needs copies for all rows:

    python -m data_prep adopt TREE
    python -m data_prep resize TREE --sizes 160 320
    python -m data_prep pack TREE                   # 5.7 times the disk
    python -m data_prep pack TREE-sz/160
    python -m data_prep index-crops TREE            # for the loaders called "cut"
    python -m data_prep index-crops TREE-sz/320
    python benchmarks/loaders.py TREE [--images 1000] [--rounds 5] [--rows originals-128 packed-128]

With --sheets FOLDER the pictures of the loaders can be looked at. Where other programs share the processor, its time an
image is steadier than images/s; both are printed.

FFCV may be in another Python environment (--ffcv-python). Memory is the peak of all processes of a loader together;
pages that they share count once, and pages of files, which the system may drop, are told apart.
"""

import argparse
import os
import statistics
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from loader_contest import Contest, Figures, say
from loader_work import Work
from one_line import one_line_errors
from process_memory import MIB

from data_prep.formats.image_index import open_index
from data_prep.formats.packed_tree import open_packed_tree

BASE = "2018 way"
LOADERS = {  # heading: module, function
    BASE: ("competitors", "imagefolder_2018"),
    "torchvision v2": ("competitors", "torchvision_v2"),
    "DALI as documented": ("competitors", "dali_documented"),
    "FFCV jpg": ("ffcv_loader", "jpg"),
    "FFCV jpg 500 px": ("ffcv_loader", "jpg_500"),
    "FFCV half raw": ("ffcv_loader", "half_raw"),
    "FFCV all raw": ("ffcv_loader", "raw"),
    "ours: torchvision": ("our_loaders", "by_torchvision"),
    "ours: threads": ("our_loaders", "by_threads"),
    "ours: processes": ("our_loaders", "by_processes"),
    "ours: dali": ("our_loaders", "by_dali"),
    "ours: torchvision, cut": ("our_loaders", "cut_by_torchvision"),
    "ours: threads, cut": ("our_loaders", "cut_by_threads"),
    "ours: processes, cut": ("our_loaders", "cut_by_processes"),
    "ours: dali, cut": ("our_loaders", "cut_by_dali"),
    "ours: packed": ("our_loaders", "packed"),
}
OURS = ("ours: torchvision", "ours: threads", "ours: processes", "ours: dali")
OURS_CUT = tuple(f"{loader}, cut" for loader in OURS)
FROM_JPEG = (BASE, "torchvision v2", "DALI as documented", "FFCV jpg", *OURS)
FROM_CUTS = (*FROM_JPEG, *OURS_CUT)
FROM_ORIGINALS = (*FROM_CUTS, "FFCV jpg 500 px", "FFCV half raw", "ours: packed")
PACKAGES = ("torch", "torchvision", "pillow", "nvidia-dali-cuda130", "simplejpeg")


class Row(NamedTuple):
    title: str
    suffix: str  # of the tree
    size: int  # pixels
    loaders: tuple[str, ...]


ROWS = {
    "originals-128": Row("original JPEGs -> 128 px", "", 128, FROM_ORIGINALS),
    "originals-224": Row("original JPEGs -> 224 px", "", 224, FROM_ORIGINALS),
    "short320-224": Row("short side 320 JPEGs -> 224 px", "-sz/320", 224, FROM_CUTS),
    "short160-128": Row("short side 160 JPEGs -> 128 px", "-sz/160", 128, FROM_JPEG),
    "packed-128": Row("short side 160 packed -> 128 px", "-sz/160", 128, (BASE, "FFCV all raw", "ours: packed")),
}


def main() -> None:
    options = parsed()
    for row in (ROWS[name] for name in options.rows):
        for folder in folders_of(options, row):
            open_index(folder)  # an error here, not in a loader's process
        if "ours: packed" in loaders_of(options, row):
            open_packed_tree(folder_of(options, row))
    if options.sheets:
        options.sheets.mkdir(parents=True, exist_ok=True)
    print(machine(options), flush=True)
    rows, notes = {}, {}
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        for name in options.rows:
            say(ROWS[name].title)
            work = work_of(options, ROWS[name], scratch)
            with Contest(work, options.seconds, loaders_of(options, ROWS[name]), BASE) as contest:
                contest.run(options.rounds)
                if options.sheets:
                    contest.write_sheet(options.sheets / f"{name}.png")
            rows[name] = contest.figures
            notes |= contest.notes
    print_table("images/s relative to the 2018 way: median (lowest to highest)", rows, ratio_cell)
    print_table("processor time of all processes, ms an image: median (lowest to highest)", rows, processor_cell)
    print_table("peak memory of all processes, MiB (of it pages of files)", rows, memory_cell)
    print_switches(rows)
    for loader, note in notes.items():
        print(f"note: {loader}: {note}")


def folders_of(options: argparse.Namespace, row: Row) -> list[str]:
    """The trees that the row's loaders read."""
    folder, cut = folder_of(options, row), set(OURS_CUT) & set(loaders_of(options, row))
    return [folder, f"{folder}-crops"] if cut else [folder]


def folder_of(options: argparse.Namespace, row: Row) -> str:
    return options.tree.rstrip("/") + row.suffix


def work_of(options: argparse.Namespace, row: Row, scratch: str) -> Work:
    return Work(
        folder_of(options, row), row.size, options.images, options.batch, options.workers, options.min_scale, scratch
    )


def loaders_of(options: argparse.Namespace, row: Row) -> dict[str, tuple[str, str, str]]:
    """Module, function and Python of every loader of the row that was asked for."""
    chosen = [loader for loader in row.loaders if loader in (BASE, *options.loaders)]
    pythons = {"ffcv_loader": options.ffcv_python}
    return {loader: (*LOADERS[loader], pythons.get(LOADERS[loader][0], sys.executable)) for loader in chosen}


# ---- what is printed


def machine(options: argparse.Namespace) -> str:
    packages = ", ".join(f"{name} {found(name)}" for name in PACKAGES)
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return (
        f"{len(os.sched_getaffinity(0))} cores, load before the start {load}; Python {sys.version.split()[0]}, "
        f"{packages}\n"
        f"batches of {options.batch}, {options.workers} workers or threads, windows from {options.min_scale:g} of the "
        f"picture, {options.images} images, {options.rounds} rounds of {options.seconds:g} s"
    )


def found(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


def ratio_cell(figures: dict[str, Figures], loader: str) -> str:
    base = figures[BASE].rates
    if loader == BASE:
        return f"1 = {statistics.median(base):,.0f}/s"
    ratios = sorted(mine / other for mine, other in zip(figures[loader].rates, base, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def processor_cell(figures: dict[str, Figures], loader: str) -> str:
    times = sorted(figures[loader].processor)
    return f"{statistics.median(times):.2f} ({times[0]:.2f} to {times[-1]:.2f})"


def memory_cell(figures: dict[str, Figures], loader: str) -> str:
    memory = figures[loader].memory
    return f"{memory.total // MIB:,} ({memory.files // MIB:,})"


def print_table(title: str, rows: dict[str, dict[str, Figures]], cell) -> None:
    """Markdown; a dash where a loader was not measured."""
    headings = [loader for loader in LOADERS if any(loader in figures for figures in rows.values())]
    print(f"\n| {title} | {' | '.join(headings)} |\n|{'---|' * (len(headings) + 1)}")
    for name, figures in rows.items():
        cells = (cell(figures, loader) if loader in figures else "-" for loader in headings)
        print(f"| {ROWS[name].title} | {' | '.join(cells)} |")


def print_switches(rows: dict[str, dict[str, Figures]]) -> None:
    print("\nmemory of all processes after each change of size, MiB:")
    for name, figures in rows.items():
        for loader in (loader for loader in figures if figures[loader].switches):
            sizes = ", ".join(f"{size} px {used // MIB}" for size, used in figures[loader].switches)
            print(f"{ROWS[name].title}, {loader}: {sizes}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", help="an indexed tree of image files")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--loaders", nargs="+", choices=LOADERS, default=list(LOADERS), help="beside the 2018 way")
    for name, default in (("images", 1000), ("rounds", 5), ("batch", 64), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--min-scale", type=float, default=0.08)
    parser.add_argument("--scratch", help="folder for FFCV's files (default: the system's temporary folder)")
    parser.add_argument("--sheets", type=Path, help="folder for ROW.png: the first pictures of each loader, a row each")
    parser.add_argument("--ffcv-python", default=sys.executable, help="Python that has ffcv, torch and Pillow")
    return parser.parse_args()


if __name__ == "__main__":
    with one_line_errors():
        main()
