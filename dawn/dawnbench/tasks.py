"""What DAWNBench asks for each of its training tasks (stanford-futuredata/dawn-bench-entries, README and tests)."""

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
