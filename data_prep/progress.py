"""How far a long step is: a bar on a terminal, a few plain lines anywhere else. All of it on stderr."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
SILENCE = 60  # seconds without a line


def tracked(
    items: Iterable[Item], title: str, total: int, start: int = 0, in_bytes: bool = False, rate: str = ""
) -> Iterator[Item]:
    """Pass `items` on and show how many of `total` (or how many bytes, with `in_bytes`) have gone by.

    `rate` names the items ("images") to show how many of them a second, too.
    """
    shown = _bar if sys.stderr.isatty() else _lines
    yield from shown(items, title, total, start, in_bytes, rate)


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """Show that a step of unknown length is under way."""
    if not sys.stderr.isatty():
        print(f"{title} ...", file=sys.stderr, flush=True)
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(title):
        yield


def _bar(items, title, total, start, in_bytes, rate):
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        count,
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total or None, completed=start, rate="")
        for item in items:
            yield item
            progress.advance(task, len(item) if in_bytes else 1)
            if rate and (speed := progress.tasks[task].speed):
                progress.update(task, rate=f"{speed:,.0f} {rate}/s")


def _lines(items, title, total, start, in_bytes, rate):
    size = f" ({total / 1e6:.1f} MB)" if in_bytes and total else ""
    print(f"{title}{size}", file=sys.stderr, flush=True)
    done, shown, began, told = start, 4 * start // total if total else 0, time.monotonic(), time.monotonic()
    for item in items:
        yield item
        done += len(item) if in_bytes else 1
        quarter, now = 4 * done // total if total else 0, time.monotonic()
        if quarter > shown or now - told > SILENCE:
            shown, told = quarter, now
            part = f"{100 * done // total} %" if total else f"{done:,}"
            print(
                f"{title}: {part}{_speed(done - start, total - done, now - began, rate)}", file=sys.stderr, flush=True
            )


def _speed(done: int, left: int, seconds: float, rate: str) -> str:
    speed = done / max(seconds, 1e-9)
    return f", {speed:,.0f} {rate}/s, {left / speed:,.0f} s to go" if rate else ""
