"""The engines of `python -m data_prep resize` on one machine: processes of its own against a Ray cluster, side by side.

    python benchmarks/engines.py ROOT --sizes 160 320 --images 5000 --rounds 3

Both make the copies of JPEG files of ROOT in --workers processes, in turn, one round after the other; the first round
warms up and is not counted. "start" is what comes before the first image is asked for: for Ray, a new cluster and the
question to its machines, but for the local engine nothing, because its processes start with the work. So the ratios are
those of start and work together. The hashes of the copies must agree. RAY_ADDRESS=local keeps off other clusters.
"""

import argparse
import hashlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from one_line import one_line_errors
from resize import chosen

from data_prep import DataError
from data_prep.engines.base import Engine
from data_prep.engines.local import Local
from data_prep.engines.on_ray import ray_engine
from data_prep.trees.resize import resize_tree


@contextmanager
def local(workers: int, root: Path) -> Iterator[Engine]:
    yield Local(workers)


@contextmanager
def ray(workers: int, root: Path) -> Iterator[Engine]:
    with ray_engine(workers, [str(root)]) as engine:
        yield engine


ENGINES = {"local": local, "ray": ray}


def timed(name: str, tree: Path, options: argparse.Namespace) -> tuple[float, float, str]:
    """Seconds of start and of work, and the hash of the copies."""
    began = time.perf_counter()
    with ENGINES[name](options.workers, tree) as engine:
        started = time.perf_counter()
        resize_tree(tree, options.sizes, engine)
        ended = time.perf_counter()
    copies = Path(f"{tree}-sz")
    digest = hashlib.sha256()
    for path in sorted(path for path in copies.rglob("*") if path.is_file() and path.name != ".lock"):
        digest.update(f"{path.relative_to(copies)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    shutil.rmtree(copies)
    return started - began, ended - started, digest.hexdigest()


def main() -> None:
    options = parsed()
    with tempfile.TemporaryDirectory(dir=options.scratch) as temporary:
        tree, _ = chosen(Path(options.root), options.images, Path(temporary))
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ENGINES}
        hashes = set()
        for number in range(options.rounds + 1):
            for name in ENGINES if number % 2 else reversed(ENGINES):
                *seconds, digest = timed(name, tree, options)
                hashes.add(digest)
                if number:
                    found[name].append(tuple(seconds))
    if len(hashes) > 1:
        raise DataError("the engines made different copies")
    report(found, options)


def report(found: dict[str, list[tuple[float, float]]], options: argparse.Namespace) -> None:
    base = [sum(seconds) for seconds in found["local"]]
    print(f"| {options.images} images, {options.workers} workers | s | of that start | images/s | time / local |")
    print("|---|---|---|---|---|")
    for name, seconds in found.items():
        start, work = (statistics.median(column) for column in zip(*seconds, strict=True))
        ratios = [sum(mine) / other for mine, other in zip(seconds, base, strict=True)]
        print(
            f"| {name} | {start + work:.1f} | {start:.1f} | {options.images / (start + work):.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="any folder with JPEG files below it; nothing is written there")
    parser.add_argument("--sizes", type=int, nargs="+", default=[160, 320])
    for name, default in (("images", 5000), ("rounds", 3), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--scratch", help="folder for the copies; default: the system's temporary folder")
    return parser.parse_args()


if __name__ == "__main__":
    with one_line_errors():
        main()
