"""What DAWNBench asks for each of its training tasks (stanford-futuredata/dawn-bench-entries, README and tests)."""

from collections.abc import Iterator
from dataclasses import dataclass

METRIC_NAMES = {"top1": "top-1", "top5": "top-5"}


@dataclass(frozen=True)
class Task:
    """columns: of the TSV, after epoch and hours. metric, target (percent), images (validated): None = not a task."""

    columns: tuple[tuple[str, str], ...]  # (name in the TSV, metric)
    metric: str | None
    target: float | None
    images: int | None


TASKS = {
    "ImageNet": Task((("top1Accuracy", "top1"), ("top5Accuracy", "top5")), "top5", 93.0, 50_000),
    "CIFAR10": Task((("top1Accuracy", "top1"),), "top1", 94.0, 10_000),
}
OTHER = Task(TASKS["ImageNet"].columns, None, None, None)


def task_of(name: str) -> Task:
    """A DAWNBench task by name; any other name gets the ImageNet columns and no target."""
    return TASKS.get(name, OTHER)


def target_text(metric: str, target: float) -> str:
    """As in `94 % top-1`."""
    return f"{target:.10g} % {METRIC_NAMES[metric]}"


def percent_text(percent: float, target: float | None = None, decimals: int = 0) -> str:
    """An accuracy with at most three decimals and at least `decimals`; with as many more as it takes to stand on the
    same side of the target (percent) as the accuracy does: 92.99996 % is not 93 %."""
    fixed = f"{percent:.3f}"
    text = next((text for text in _ever_longer(percent) if _same_side(float(text), percent, target)), repr(percent))
    if text != fixed:
        return text
    whole, _, digits = fixed.partition(".")
    kept = digits[:decimals] + digits[decimals:].rstrip("0")
    return f"{whole}.{kept}" if kept else whole


def _ever_longer(percent: float) -> Iterator[str]:
    return (f"{percent:.{decimals}f}" for decimals in range(3, 15))


def _same_side(shown: float, percent: float, target: float | None) -> bool:
    return target is None or (shown >= target) == (percent >= target)
