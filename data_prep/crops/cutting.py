"""A window cut out of a JPEG file by its restart segments: a small JPEG that any decoder takes, with the very pixels
that the whole picture has there. Nothing outside of it is read or decoded."""

from typing import NamedTuple

import numpy as np

from data_prep.crops.layout import EOI, FILL, RST0, Layout
from data_prep.errors import DataError

MARGIN = 2  # pixels decoded around a window: chroma at half the size is interpolated over its neighbours
LEFT = 4  # and on this side: a piece of up to 4 pixels, as the last column may be, is not interpolated at all
BLOCK = 8  # pixels: in a direction in which a segment is one block, chroma has the full size
# the second bytes of markers that follow each other
RESTARTS = np.tile(np.arange(RST0, RST0 + 8, dtype=np.uint8), 1024)

Window = tuple[int, int, int, int]  # top, left, height, width in pixels


class Piece(NamedTuple):
    data: bytearray  # a JPEG file
    size: tuple[int, int]  # its height and width
    window: Window  # in it, what was wanted


class Grid(NamedTuple):
    """The segments that a window needs."""

    top: int  # row
    bottom: int  # the row below the last
    left: int  # column
    right: int


def cut(data: bytes, layout: Layout, window: Window) -> Piece:
    """`window` of a file in memory.

    Raises: DataError when `data` is not the file of `layout`; ValueError for a window outside of the picture.
    """
    grid = grid_of(layout, window)
    start, end = rows_of(layout, grid)
    rows = data[start:end]
    if len(rows) != end - start or not _ends_in_markers(np.frombuffer(rows, np.uint8), layout, grid):
        raise DataError("its restart markers are not where they were")
    return assembled(layout, grid, data[: layout.head], rows, window)


def grid_of(layout: Layout, window: Window) -> Grid:
    """Raises: ValueError for a window outside of the picture."""
    top, left, height, width = window
    if min(top, left, height - 1, width - 1) < 0 or top + height > layout.height or left + width > layout.width:
        raise ValueError(f"window {window} in a picture of {layout.height} x {layout.width}")
    down = MARGIN if layout.segment_height > BLOCK else 0
    before, behind = (LEFT, MARGIN) if layout.segment_width > BLOCK else (0, 0)
    return Grid(
        max(top - down, 0) // layout.segment_height,
        -(-min(top + height + down, layout.height) // layout.segment_height),
        max(left - before, 0) // layout.segment_width,
        -(-min(left + width + behind, layout.width) // layout.segment_width),
    )


def rows_of(layout: Layout, grid: Grid) -> tuple[int, int]:
    """Where the rows of segments of a grid begin and end in the file."""
    columns = layout.columns
    return layout.offsets[grid.top * columns].item(), layout.offsets[grid.bottom * columns].item()


def assembled(layout: Layout, grid: Grid, head: bytes | memoryview, rows: bytes | memoryview, window: Window) -> Piece:
    """What the grid wants of its `rows` (their bytes in the file), behind the `head`, as a file of its own."""
    columns = layout.columns
    first, last = grid.top * columns, grid.bottom * columns
    start, view = layout.offsets[first].item(), memoryview(rows)
    wanted = slice(grid.left, grid.right)
    begins = layout.offsets[first:last].reshape(-1, columns)[:, wanted]
    ends = layout.offsets[first + 1 : last + 1].reshape(-1, columns)[:, wanted]
    rows_begin, rows_end = (begins[:, 0] - start).tolist(), (ends[:, -1] - start).tolist()
    parts = [view[begin:end] for begin, end in zip(rows_begin, rows_end, strict=True)]
    out = bytearray().join([head, *parts])
    _renumber(np.frombuffer(out, np.uint8), (ends - begins).cumsum() + (layout.head - 1))
    top, left = grid.top * layout.segment_height, grid.left * layout.segment_width
    height = min(grid.bottom * layout.segment_height, layout.height) - top
    width = min(grid.right * layout.segment_width, layout.width) - left
    out[layout.size_at : layout.size_at + 4] = height.to_bytes(2) + width.to_bytes(2)
    return Piece(out, (height, width), (window[0] - top, window[1] - left, window[2], window[3]))


def _renumber(codes: np.ndarray, marks: np.ndarray) -> None:
    """RST0, RST1 ... and EOI into the places of the second bytes of all markers."""
    codes[marks] = RESTARTS[: len(marks)] if len(marks) <= len(RESTARTS) else np.resize(RESTARTS, len(marks))
    codes[marks[-1]] = EOI


def _ends_in_markers(rows: np.ndarray, layout: Layout, grid: Grid) -> bool:
    """Whether every segment of the grid's rows ends with the marker of its number."""
    first, last = grid.top * layout.columns, grid.bottom * layout.columns
    marks = layout.offsets[first + 1 : last + 1] - layout.offsets[first] - 1
    expected = RST0 + np.arange(first, last) % 8
    if last == len(layout.offsets) - 1:
        expected[-1] = EOI
    return bool((rows[marks - 1] == FILL).all() and (rows[marks] == expected).all())
