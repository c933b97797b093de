"""Two things measured in turn, and their ratio with an interval: what every benchmark here prints."""

import random
import statistics
from collections.abc import Callable

DRAWS = 10_000
LEAST_PAIRS = 6  # from lowest to highest they hold the median with 97 %, five with 94 %


def interleaved(first: Callable[[], float], second: Callable[[], float], pairs: int) -> list[tuple[float, float]]:
    """Values of `first` and `second`, one pair after the other; every second pair runs in the other order, so that a
    drift of the machine hits both alike."""
    values = []
    for number in range(pairs):
        if number % 2:
            later = second()
            values.append((first(), later))
        else:
            values.append((first(), second()))
    return values


def ratio_interval(values: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Median of first/second over the pairs and its 95 % bootstrap interval (fixed seed)."""
    ratios = [a / b for a, b in values]
    generator = random.Random(0)
    medians = sorted(statistics.median(generator.choices(ratios, k=len(ratios))) for _ in range(DRAWS))
    return statistics.median(ratios), medians[int(0.025 * DRAWS)], medians[int(0.975 * DRAWS)]


def ratio_line(name: str, values: list[tuple[float, float]]) -> str:
    middle, low, high = ratio_interval(values)
    interval = f"95 % interval {low:.3f} to {high:.3f}, " if len(values) >= LEAST_PAIRS else ""
    return f"{name}: ratio {middle:.3f}, {interval}{len(values)} pair{'s' * (len(values) != 1)}"
