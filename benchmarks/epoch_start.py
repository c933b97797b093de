"""The wait for an epoch's draws at ImageNet's size, when they are made ahead and when they are made when asked for; and
for how long the thread that trains is kept from running while they are made beside it. No image is read.

python benchmarks/epoch_start.py [--images 1281167] [--rounds 5] [--training 3]
"""

import argparse
import statistics
import time

import numpy as np

from phases import DataPhase
from training.data.ahead import Ahead
from training.data.image_plan import ImageEpoch, ImagePlan
from training.data.sample_plan import SamplePlan

WAKE_SECONDS = 0.001


class Sizes:
    """What the plan reads of an index: as many pictures of 300 to 600 pixels a side."""

    def __init__(self, images: int) -> None:
        generator = np.random.default_rng(0)
        self.heights, self.widths = generator.integers(300, 601, (2, images), dtype=np.int32)
        self.labels = np.zeros(images, np.int64)


def size_of(drawn: ImageEpoch) -> int:
    return sum(part.nbytes for part in drawn if part is not None)


def longest_stall(seconds: float) -> float:
    """Seconds, at most, by which this thread woke up later than it asked to, again and again for `seconds`."""
    end, longest = time.perf_counter() + seconds, 0.0
    while (asked := time.perf_counter()) < end:
        time.sleep(WAKE_SECONDS)
        longest = max(longest, time.perf_counter() - asked - WAKE_SECONDS)
    return longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(";")[0])
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--training", type=float, default=3.0, help="seconds that an epoch trains")
    options = parser.parse_args()
    index, phase = Sizes(options.images), DataPhase(0, 128, 256)
    plan = ImagePlan(SamplePlan(options.images, 0, flip="random"))
    ahead, at_once, after = Ahead(lambda epoch: plan.epoch(index, phase, epoch)), [], []
    alone, beside = [], []
    for epoch in range(options.rounds):
        start = time.perf_counter()
        drawn = ahead.take(epoch)
        at_once.append(time.perf_counter() - start)
        alone.append(longest_stall(options.training))
        ahead.begin(epoch)
        beside.append(longest_stall(options.training))
        start = time.perf_counter()
        ahead.take(epoch)
        after.append(time.perf_counter() - start)
    ahead.close()
    once, then, least, most = (1000 * statistics.median(times) for times in (at_once, after, alone, beside))
    print(f"{options.images} images, median of {options.rounds}: {once:.0f} ms at once, {then:.2f} ms made ahead")
    print(f"longest stall of the other thread: {most:.1f} ms while they are made, {least:.1f} ms otherwise")
    print(f"held ahead: {size_of(drawn) / options.images:.0f} bytes an image, {size_of(drawn) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
