"""A window cut out of a JPEG file by its restart segments: a small JPEG that any decoder takes, with the very pixels
that the whole picture has there. Nothing outside of it is read or decoded."""

from typing import NamedTuple

import numpy as np

from data_prep.crops.layout import EOI, FILL, RST0, Layout
from data_prep.errors import DataError

MARGIN = 4  # pixels decoded around a window: chroma at half the size is interpolated over its neighbours


class Piece(NamedTuple):
    data: bytes  # a JPEG file
    size: tuple[int, int]  # its height and width
    window: tuple[int, int, int, int]  # top, left, height, width in it of what was wanted


class Grid(NamedTuple):
    """The segments that a window needs, and where their rows lie in the file."""

    rows: range
    columns: range
    start: int
    end: int


def cut(data: bytes, layout: Layout, window: tuple[int, int, int, int]) -> Piece:
    """`window` (top, left, height, width in pixels) of a file in memory.

    Raises: DataError when `data` is not the file of `layout`; ValueError for a window outside of the picture.
    """
    grid = grid_of(layout, window)
    return assembled(layout, grid, data[: layout.head], data[grid.start : grid.end], window)


def grid_of(layout: Layout, window: tuple[int, int, int, int]) -> Grid:
    """Raises: ValueError for a window outside of the picture."""
    top, left, height, width = window
    if min(top, left, height - 1, width - 1) < 0 or top + height > layout.height or left + width > layout.width:
        raise ValueError(f"window {window} in a picture of {layout.height} x {layout.width}")
    rows = _covering(top, height, layout.segment_height, layout.height)
    columns = _covering(left, width, layout.segment_width, layout.width)
    start, end = layout.offsets[[rows.start * layout.columns, rows.stop * layout.columns]].tolist()
    return Grid(rows, columns, start, end)


def _covering(start: int, length: int, segment: int, picture: int) -> range:
    first, end = max(start - MARGIN, 0), min(start + length + MARGIN, picture)
    return range(first // segment, -(-end // segment))


def assembled(layout: Layout, grid: Grid, head: bytes, rows: bytes, window: tuple[int, int, int, int]) -> Piece:
    """`head` and `rows` (the bytes of the grid's rows of segments) as a file of their own, with what `grid` wants of
    the rows. Raises: DataError when they are too short, or a segment does not end where `layout` says."""
    if (len(head), len(rows)) != (layout.head, grid.end - grid.start):
        raise DataError("shorter than it was")
    firsts = np.arange(grid.rows.start, grid.rows.stop) * layout.columns
    places = layout.offsets - grid.start
    begins, ends = places[firsts + grid.columns.start].tolist(), places[firsts + grid.columns.stop].tolist()
    parts = [rows[begin:end] for begin, end in zip(begins, ends, strict=True)]
    out = bytearray(b"".join([head, *parts]))
    numbers = (firsts[:, None] + np.arange(grid.columns.start, grid.columns.stop)).ravel()
    _renumber(np.frombuffer(out, np.uint8), layout, numbers)
    top, left = grid.rows.start * layout.segment_height, grid.columns.start * layout.segment_width
    height = min(grid.rows.stop * layout.segment_height, layout.height) - top
    width = min(grid.columns.stop * layout.segment_width, layout.width) - left
    out[layout.size_at : layout.size_at + 4] = height.to_bytes(2) + width.to_bytes(2)
    return Piece(bytes(out), (height, width), (window[0] - top, window[1] - left, window[2], window[3]))


def _renumber(codes: np.ndarray, layout: Layout, numbers: np.ndarray) -> None:
    """Markers behind the segments `numbers`, which lie one after another behind the head: RST0, RST1 ... and EOI."""
    lengths = layout.offsets[numbers + 1] - layout.offsets[numbers]
    marks = layout.head + np.cumsum(lengths) - 1
    expected = RST0 + numbers % 8
    if numbers[-1] == len(layout.offsets) - 2:
        expected[-1] = EOI
    if (codes[marks - 1] != FILL).any() or (codes[marks] != expected).any():
        raise DataError("its restart markers are not where they were")
    codes[marks] = RST0 + np.arange(len(marks)) % 8
    codes[marks[-1]] = EOI
