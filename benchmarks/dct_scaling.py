"""Does decoding at half the size pay, where a window is at least twice the output? libjpeg-turbo can scale in the DCT.

python benchmarks/dct_scaling.py TREE [--images 100] [--size 128] [--rounds 5]

Random windows as in training, from even places on, so that the half picture has them too. Each is decoded whole and at
half its size, and resized (antialiased) to the output. Printed are PSNR between both, and milliseconds of each.
"""

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg
import torch
from one_line import one_line_errors
from torch.nn.functional import interpolate

from data_prep.formats.image_index import open_index
from training.data.image_plan import ImagePlan
from training.data.sample_plan import SamplePlan


class Pair(NamedTuple):
    whole: np.ndarray  # (3, size, size) float32, 0 to 255
    half: np.ndarray
    whole_seconds: float
    half_seconds: float

    @property
    def psnr(self) -> float:
        return 10 * math.log10(255**2 / max(1e-6, float(np.mean((self.whole - self.half) ** 2))))


def main() -> None:
    options = parsed()
    torch.set_num_threads(1)
    found = list(pairs(options))
    psnr = [pair.psnr for pair in found]
    whole, half = (1000 * statistics.mean(times) for times in zip(*(pair[2:] for pair in found), strict=True))
    print(f"{len(found)} windows at least twice the output, of {options.images} pictures")
    print(f"PSNR of half against whole: {min(psnr):.1f} dB at least, {statistics.median(psnr):.1f} dB median")
    print(f"decoded and resized: {whole:.2f} ms whole, {half:.2f} ms half: {whole / half:.2f} times as fast")


def pairs(options: argparse.Namespace) -> Iterator[Pair]:
    index = open_index(options.tree)["train"]
    windows = ImagePlan(SamplePlan(len(index.labels), 0)).windows(index, 0.08, 0)
    for row in range(min(options.images, len(index.labels))):
        top, left, height, width = (2 * (number // 2) for number in windows[row].tolist())
        if min(height, width) < 2 * options.size:
            continue
        data = (options.tree / os.fsdecode(index.paths[row])).read_bytes()
        sides = int(index.heights[row]), int(index.widths[row])
        half = {"min_height": -(-sides[0] // 2), "min_width": -(-sides[1] // 2)}
        results = []
        for asked, factor in (({}, 1), (half, 2)):
            window = tuple(slice(at // factor, (at + long) // factor) for at, long in ((top, height), (left, width)))
            results.append(timed(options.rounds, partial(shown, data, asked, window, options.size)))
        (whole, whole_seconds), (small, half_seconds) = results
        yield Pair(whole, small, whole_seconds, half_seconds)


def shown(data: bytes, asked: dict[str, int], window: tuple[slice, slice], size: int) -> np.ndarray:
    planes = torch.from_numpy(simplejpeg.decode_jpeg(data, **asked)[window])[None].permute(0, 3, 1, 2)
    return interpolate(planes, (size, size), mode="bilinear", antialias=True)[0].float().numpy()


def timed(rounds: int, action: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """The result, and the seconds of the fastest round."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        result = action()
        times.append(time.perf_counter() - begin)
    return result, min(times)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    with one_line_errors():
        main()
