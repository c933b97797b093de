"""What a person watches: a table with one line per epoch and, on a terminal, a progress bar with the time to the end
and to the target under it."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from dawn.tables import percent_text
from phases import Schedule

HEADER = " epoch  size  batch        lr    loss   top-1   top-5   images/s  data wait   T_total    T_dawn"


class EpochTable:
    """Prints the table; `forecast` texts come from training.logs.console."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%  {task.fields[status]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.shown_at = 0.0
        self.header_shown = False
        self.metric, self.target = "top1", None  # percent; of the run

    def __enter__(self) -> "EpochTable":
        self.bar.start()
        self.task = self.bar.add_task("start", total=1.0, status="")
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def step(
        self, epoch: int, epochs: int, done: float, images_per_second: float, data_share: float, forecast: str
    ) -> None:
        """`done`: share of the epoch; at most four times a second."""
        if time.monotonic() - self.shown_at > 0.25:
            self.shown_at = time.monotonic()
            status = f"{images_per_second:,.0f} images/s  data wait {data_share:.0%}  {forecast}"
            self.bar.update(self.task, description=f"epoch {epoch + 1}/{epochs}", completed=done, status=status)

    def epoch(self, row: dict) -> None:
        """`row`: the fields of an epoch line of run.jsonl."""
        if not self.header_shown:
            self.header_shown = True
            self.say(HEADER)
        self.say(epoch_line(row, self.metric, self.target))


def epoch_line(row: dict, metric: str, target: float | None) -> str:
    """metric, target (percent): of the run; its accuracy has the digits that tell it from the target."""
    counts, clock = row["validation"], row["clock"]
    goals = {name: target if name == metric else None for name in ("top1", "top5")}
    top1, top5 = (
        f"{percent_text(100 * counts[f'correct{name[3:]}'] / counts['images'], goal, 3):>7}" if counts else "      -"
        for name, goal in goals.items()
    )
    share = row["seconds"]["data"] / max(row["seconds"]["data"] + row["seconds"]["train"], 1e-9)
    return (
        f"{row.get('end', row['epoch'] + 1):6g} {row['size']:5d} {row['global_batch_size']:6d} {row['lr'][1]:9.4g} "
        f"{row['train_loss']:7.3f} {top1} {top5} "
        f"{images_per_second(row):10,.0f} {share:10.1%} {duration(clock['total']):>9} {duration(clock['dawn']):>9}"
    )


def images_per_second(row: dict) -> float:
    """Training throughput of an epoch line: images over data wait and steps."""
    return row["images"] / max(row["seconds"]["data"] + row["seconds"]["train"], 1e-9)


def duration(seconds: float) -> str:
    """95.2 -> '1:35.2'."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    hours, minutes = divmod(minutes, 60)
    left = f"{tenths / 10:04.1f}"
    return f"{hours}:{minutes:02}:{left}" if hours else f"{minutes}:{left}"


def seconds_to_end(schedule: Schedule, position: float, seconds_per_pixel: float) -> float:
    """Rest of the schedule after `position` (epochs) when an epoch costs its pixels: `seconds_per_pixel` is measured
    over epochs of size**2 each."""
    ends = [*(phase.epoch for phase in schedule.data[1:]), schedule.total_epochs]
    left = [max(0.0, end - max(phase.epoch, position)) for phase, end in zip(schedule.data, ends, strict=True)]
    return sum(epochs * phase.sz**2 for epochs, phase in zip(left, schedule.data, strict=True)) * seconds_per_pixel


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
    position: float,
    seconds_per_pixel: float,
    history: list[tuple[int, float]],
    target: float | None,
) -> str:
    """'ETA 1:20.0, target 0:55.1'."""
    text = f"ETA {duration(seconds_to_end(schedule, position, seconds_per_pixel))}"
    ahead = epochs_to_target(history, target) if target else None
    if ahead is None:
        return text
    missing = history[-1][0] + 1 + ahead - position  # epochs from here
    if missing > schedule.total_epochs - position:
        return text + ", target not before the end at this rate"
    return text + f", target {duration(max(0.0, missing) * schedule.data_at(position).sz ** 2 * seconds_per_pixel)}"
