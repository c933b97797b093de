"""The start of a run on a dataset of ImageNet's size: its checks, the opening of its loader, and the first batch.

python -m data_prep index-crops PHOTOS
python benchmarks/start_up.py PHOTOS-crops FOLDER [--images 1281167] [--rounds 3] [--loader processes]

FOLDER gets links to the pictures of PHOTOS-crops, again and again, with an index and a manifest as `index-crops` would
write them. It stays, and is taken as it is the next time. The page cache is warm: the files were just linked.
"""

import argparse
import os
import statistics
import time
from contextlib import closing
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from one_line import one_line_errors

from data_prep import load_manifest
from data_prep.crops.segments import entry_of, segment_names, write_segments
from data_prep.formats.image_index import ImageIndex, describe_index, open_index, save_index
from data_prep.formats.manifest import MANIFEST, describe_files, save_manifest
from training.config.parser import config_from
from training.config.schedule import resolved_schedule
from training.data.loader import open_loader
from training.distributed.env import open_env
from training.runs.session import checked_input

PHASES = "[{'ep': 0, 'sz': 128, 'bs': 256}, {'ep': (0, 1), 'lr': 0.1}]"
MOST_LINKS = 60_000  # ext4 has at most 65,000 to a file
CLASSES = ("one", "two")  # of no picture's own: nothing is learned here
PARTS = ("checks", "loader", "first batch")


def main() -> None:
    options = parsed()
    if not (options.folder / MANIFEST).exists():
        build(options.photos, options.folder, options.images)
    rounds = [started(options) for _ in range(options.rounds)]
    for name, seconds in zip(PARTS, zip(*rounds, strict=True), strict=True):
        print(f"{name}: {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, metavar="PHOTOS-crops")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--images", type=int, default=1_281_167, help="for training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loader", default="processes", choices=("processes", "threads", "torchvision", "dali"))
    return parser.parse_args()


def build(photos: Path, folder: Path, images: int) -> None:
    """Raises: DataError for photos without an index."""
    small, manifest = open_index(photos), load_manifest(photos)
    splits = {}
    for split, count in (("train", images), ("validation", len(small["validation"].labels))):
        index = repeated(small[split], count)
        link(photos, small[split], folder, index)
        save_index(folder, split, index)
        entries = [entry_of((photos / os.fsdecode(path)).read_bytes()) for path in small[split].paths]
        write_segments(folder, split, count, (entries[row] for row in order(small[split], count)))
        facts = describe_index(folder, split, index, len(CLASSES))
        splits[split] = replace(facts, files=facts.files | describe_files(folder, segment_names(split)))
    save_manifest(folder, replace(manifest, name="start-up", classes=CLASSES, splits=splits))


def order(small: ImageIndex, count: int) -> np.ndarray:
    """Rows of the small index, class by class, as many as asked for."""
    rows = np.arange(count) % len(small.labels)
    return rows[np.argsort(small.labels[rows], kind="stable")]


def repeated(small: ImageIndex, count: int) -> ImageIndex:
    rows = order(small, count)
    folders = np.array([os.path.dirname(path) for path in small.paths.tolist()])
    names = np.char.zfill(np.arange(count).astype("S"), 7)
    paths = np.char.add(np.char.add(np.char.add(folders[rows], b"/"), names), b".jpg")
    arrays = {name: array[rows] for name, array in asdict(small).items()}
    return ImageIndex(**arrays | {"paths": paths, "labels": np.arange(count) * len(CLASSES) // count})


def link(photos: Path, small: ImageIndex, folder: Path, index: ImageIndex) -> None:
    """Hard links: a file takes MOST_LINKS at most, and the disk holds each picture once."""
    used = dict.fromkeys(range(len(small.labels)), 0)
    for row, path in zip(order(small, len(index.labels)).tolist(), index.paths.tolist(), strict=True):
        target = folder / os.fsdecode(path)
        if not used[row]:
            target.parent.mkdir(parents=True, exist_ok=True)
        if used[row] >= MOST_LINKS:
            raise SystemExit("too few photographs: a file has at most 65,000 links")
        os.link(photos / os.fsdecode(small.paths[row]), target)
        used[row] += 1


def started(options: argparse.Namespace) -> tuple[float, ...]:
    """Seconds of each of PARTS."""
    config = config_from([str(options.folder), "--loader", options.loader, "--phases", PHASES])
    schedule = resolved_schedule(config, 1, lambda warning: None)
    times = [time.perf_counter()]
    with open_env(config) as env:
        dataset = checked_input(config, schedule, env)
        times.append(time.perf_counter())
        with closing(open_loader(config, schedule, dataset, env, torch.float32)) as loader:
            loader.set_phase(schedule.data[0])
            times.append(time.perf_counter())
            with closing(loader.train(0)) as batches:
                next(batches)
            times.append(time.perf_counter())
    return tuple(after - before for before, after in pairwise(times))


if __name__ == "__main__":
    with one_line_errors():
        main()
