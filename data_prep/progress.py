"""How far a long step is: a bar on a terminal, a few plain lines anywhere else. All of it on stderr."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


def tracked(items: Iterable[Item], title: str, total: int, start: int = 0, in_bytes: bool = False) -> Iterator[Item]:
    """Pass `items` on and show how many of `total` (or how many bytes, with `in_bytes`) have gone by."""
    shown = _bar if sys.stderr.isatty() else _lines
    yield from shown(items, title, total, start, in_bytes)


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


def _bar(items, title, total, start, in_bytes):
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total or None, completed=start)
        for item in items:
            yield item
            progress.advance(task, len(item) if in_bytes else 1)


def _lines(items, title, total, start, in_bytes):
    size = f" ({total / 1e6:.1f} MB)" if in_bytes and total else ""
    print(f"{title}{size}", file=sys.stderr, flush=True)
    done, shown = start, 0
    for item in items:
        yield item
        done += len(item) if in_bytes else 1
        quarter = 4 * done // total if total else 0
        if quarter > shown:
            shown = quarter
            print(f"{title}: {100 * done // total} %", file=sys.stderr, flush=True)
