"""How long a run will still take: to the end of its schedule and, after two validations, to its target."""

from phases import Schedule
from training.console import duration


def seconds_to_end(schedule: Schedule, epoch: int, done: float, seconds_per_pixel: float) -> float:
    """Rest of the schedule when an epoch costs its pixels: `seconds_per_pixel` is measured over epochs of size**2 each;
    `done` is the share of `epoch` that is behind."""
    pixels = [schedule.data_at(e).sz ** 2 for e in range(epoch, schedule.total_epochs)]
    return (sum(pixels) - done * pixels[0]) * seconds_per_pixel


def epochs_to_target(history: list[tuple[int, float]], target: float) -> float | None:
    """Epochs from the last validation to `target` on the line through the last two (epoch, percent); None while it
    cannot be estimated."""
    if len(history) < 2:
        return None
    (before, low), (last, high) = history[-2:]
    slope = (high - low) / (last - before)
    return (target - high) / slope if slope > 0 and high < target else None


def forecast(
    schedule: Schedule,
    epoch: int,
    done: float,
    seconds_per_pixel: float,
    history: list[tuple[int, float]],
    target: float | None,
) -> str:
    """'ETA 1:20.0, target 0:55.1'."""
    text = f"ETA {duration(seconds_to_end(schedule, epoch, done, seconds_per_pixel))}"
    ahead = epochs_to_target(history, target) if target else None
    if ahead is None:
        return text
    missing = history[-1][0] + 1 + ahead - (epoch + done)  # epochs from here
    if missing > schedule.total_epochs - epoch - done:
        return text + ", target not before the end at this rate"
    return text + f", target {duration(max(0.0, missing) * schedule.data_at(epoch).sz ** 2 * seconds_per_pixel)}"
