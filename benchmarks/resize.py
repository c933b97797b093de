"""Smaller copies of a tree of JPEG files: this project against others, side by side in one run.

    python benchmarks/resize.py ROOT --sizes 160 320 --images 1000 --rounds 5

Everybody reads the files of ROOT and writes JPEG files of quality 90 (4:2:0) whose short side is each of --sizes, in
two processes, in turn, one round after the other; the first round warms up and is not counted. "images/s" counts
source images of which all sizes are there. The first row makes one size after the other, each from its own decoding.
PSNR is against Pillow's LANCZOS before coding (images that are small enough already are left out). The last row is the
whole command, with starting its processes, journal, verification, index and manifest. Competitors that are not
installed are passed over with a note.
"""

import argparse
import importlib.util
import io
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from one_line import one_line_errors
from PIL import Image

from data_prep import DataError
from data_prep.engines.local import Local
from data_prep.trees.adopt import adopt
from data_prep.trees.resize import resize_tree
from data_prep.trees.shrink import Rule, shrink, target
from data_prep.workers import keep_freed_memory

QUALITY, PROCESSES = 90, 2


def pillow(path: Path, places: list[Path], sizes: list[int]) -> None:
    for place, size in zip(places, sizes, strict=True):
        with Image.open(path) as image:
            rgb = image.convert("RGB")
            small = rgb.resize(target(*rgb.size, size), Image.Resampling.LANCZOS)
        small.save(place / path.name, "JPEG", quality=QUALITY)


def torchvision_io(path: Path, places: list[Path], sizes: list[int]) -> None:
    """Antialiased bilinear: the only antialiased filter beside bicubic."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg, read_file
    from torchvision.transforms.v2.functional import resize

    torch.set_num_threads(1)
    image = decode_jpeg(read_file(str(path)), ImageReadMode.RGB)
    for place, size in zip(places, sizes, strict=True):
        width, height = target(image.shape[2], image.shape[1], size)
        small = resize(image, [height, width], antialias=True)
        (place / path.name).write_bytes(encode_jpeg(small, QUALITY).numpy().tobytes())


def vips(path: Path, places: list[Path], sizes: list[int]) -> None:
    """Its fastest way, a thumbnail from the file: each size decodes for itself, scaled where it can be."""
    os.environ.setdefault("VIPS_CONCURRENCY", "1")  # there are as many processes as cores
    import pyvips

    for place, size in zip(places, sizes, strict=True):
        head = pyvips.Image.new_from_file(str(path))
        width, height = target(head.width, head.height, size)
        small = pyvips.Image.thumbnail(str(path), width, height=height, size="force", no_rotate=True)
        small.jpegsave(str(place / path.name), Q=QUALITY, subsample_mode="on")


def ours(path: Path, places: list[Path], sizes: list[int]) -> None:
    """The work on one file alone, in the processes that the others use too."""
    for place, copy in zip(places, shrink(path.read_bytes(), path.name, tuple(sizes), Rule()), strict=True):
        (place / path.name).write_bytes(copy.data)


EACH = {
    "Pillow LANCZOS, one size after the other": (pillow, "PIL"),
    "torchvision.io, bilinear antialiased": (torchvision_io, "torchvision"),
    "vips thumbnail": (vips, "pyvips"),
    "data_prep.trees.shrink, both sizes from one decoding": (ours, "data_prep"),
}


def run_each(function: Callable, files: list[Path], folder: Path, sizes: list[int], pool) -> None:
    places = [folder / str(size) for size in sizes]
    for place in places:
        place.mkdir()
    pool.map(partial(function, places=places, sizes=sizes), files, chunksize=16)


def run_ours(root: Path, folder: Path, sizes: list[int]) -> None:
    """The whole command."""
    os.rename(root, folder / "photos")
    try:
        resize_tree(folder / "photos", sizes, Local(PROCESSES))
    finally:
        os.rename(folder / "photos", root)
    for size in sizes:
        os.rename(folder / "photos-sz" / str(size), folder / str(size))


def run_dali(files: list[Path], folder: Path, sizes: list[int]) -> None:
    """Decoded once, antialiased LANCZOS, as documented; DALI has no JPEG encoder, so Pillow codes, in this process."""
    import nvidia.dali.fn as fn
    from nvidia.dali import pipeline_def, types

    @pipeline_def(batch_size=32, num_threads=PROCESSES, device_id=None)
    def pipeline():
        data, label = fn.readers.file(files=[str(path) for path in files])
        image = fn.decoders.image(data, adjust_orientation=False)
        return label, *(
            fn.resize(image, resize_shorter=size, interp_type=types.INTERP_LANCZOS3, antialias=True) for size in sizes
        )

    for size in sizes:
        (folder / str(size)).mkdir()
    pipe, left = pipeline(), len(files)
    pipe.build()
    while left > 0:
        labels, *batches = pipe.run()
        for size, batch in zip(sizes, batches, strict=True):
            for position in range(min(32, left)):
                file = folder / str(size) / files[int(labels.at(position)[0])].name
                Image.fromarray(batch.at(position)).save(file, "JPEG", quality=QUALITY)
        left -= 32


def competitors(files: list[Path], root: Path, sizes: list[int], pool) -> dict[str, Callable[[Path], None]]:
    """Name -> what makes the copies below a folder; the first is the measure."""
    found = {}
    for name, (function, module) in EACH.items():
        if importlib.util.find_spec(module):
            found[name] = partial(_each, function, files, sizes, pool)
        else:
            print(f"note: {name} is passed over, {module} is not installed", file=sys.stderr)
    if importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.dali"):
        found["DALI, LANCZOS, coded by Pillow"] = lambda folder: run_dali(files, folder, sizes)
    else:
        print("note: DALI is passed over, it is not installed", file=sys.stderr)
    found["python -m data_prep resize"] = lambda folder: run_ours(root, folder, sizes)
    return found


def _each(function: Callable, files: list[Path], sizes: list[int], pool, folder: Path) -> None:
    run_each(function, files, folder, sizes, pool)


def decibels(made: Path, source: Path, size: int) -> float | None:
    """PSNR of a copy against LANCZOS before coding; None for a picture that is small enough already."""
    with Image.open(source) as image:
        rgb = image.convert("RGB")
    if min(rgb.size) <= size:
        return None
    exact = rgb.resize(target(*rgb.size, size), Image.Resampling.LANCZOS)
    with Image.open(io.BytesIO(made.read_bytes())) as image:
        copy = image.convert("RGB")
    if copy.size != exact.size:  # one rounds the long side otherwise
        exact = rgb.resize(copy.size, Image.Resampling.LANCZOS)
    error = (np.asarray(copy).astype(float) - np.asarray(exact)) ** 2
    return 10 * np.log10(255**2 / error.mean())


def quality(folder: Path, files: list[Path], size: int) -> float:
    """Mean PSNR over the images, dB."""
    places = {path.name: path for path in (folder / str(size)).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")}
    values = [decibels(places[path.name], path, size) for path in files]
    return statistics.mean(value for value in values if value is not None)


def chosen(root: Path, images: int, work: Path) -> tuple[Path, list[Path]]:
    """A tree of one class with `images` JPEG files of ROOT, repeated when it has fewer, under names of their own."""
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg") and path.is_file())
    if not found:
        raise DataError(f"{root}: no JPEG files below it. Give a folder with some")
    random.Random(0).shuffle(found)
    tree = work / "tree"
    for split in ("train", "validation"):
        (tree / split / "all").mkdir(parents=True)
    for number in range(images):
        place = tree / ("validation" if number == 0 else "train") / "all" / f"{number:06d}.jpg"
        shutil.copyfile(found[number % len(found)], place)
    adopt(tree, "benchmark")
    return tree, sorted(tree.glob("*/all/*.jpg"))


def main() -> None:
    options = parsed()
    processes = get_context("spawn").Pool(PROCESSES, keep_freed_memory)
    with tempfile.TemporaryDirectory(dir=options.work) as temporary, processes as pool:
        tree, files = chosen(Path(options.root), options.images, Path(temporary))
        rows = competitors(files, tree, options.sizes, pool)
        seconds, values = {name: [] for name in rows}, {}
        for number in range(options.rounds + 1):
            for name in rows if number % 2 else reversed(rows):
                # Kept to the end: ext4 looks at every file deleted in the last minutes before it makes a new one.
                folder = Path(tempfile.mkdtemp(dir=temporary))
                began = time.perf_counter()
                rows[name](folder)
                if number:
                    seconds[name].append(time.perf_counter() - began)
                else:
                    values[name] = [quality(folder, files, size) for size in options.sizes]
        report(seconds, values, options)


def report(seconds: dict[str, list[float]], values: dict[str, list[float]], options: argparse.Namespace) -> None:
    first = statistics.median(next(iter(seconds.values())))
    sizes = " / ".join(map(str, options.sizes))
    print(f"| {options.images} images to {sizes} px, {PROCESSES} processes | images/s | ratio | PSNR at {sizes} px |")
    print("|---|---|---|---|")
    for name, found in seconds.items():
        middle = statistics.median(found)
        print(
            f"| {name} | {options.images / middle:.0f} ({options.images / max(found):.0f} to "
            f"{options.images / min(found):.0f}) | {first / middle:.2f} | "
            f"{' / '.join(f'{value:.2f}' for value in values[name])} dB |"
        )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="any folder with JPEG files below it; nothing is written there")
    parser.add_argument("--sizes", type=int, nargs="+", default=[160, 320])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", help="folder for the copies; default: the system's temporary folder")
    return parser.parse_args()


if __name__ == "__main__":
    with one_line_errors():
        main()
