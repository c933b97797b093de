"""Where the restart segments of a JPEG file lie (ITU-T T.81, sections B.1 and E.1.4).

Between two restart markers the entropy-coded data stand alone: predictions begin anew and bits are filled up to a byte.
Where the restart interval divides the row of MCUs, or is whole rows, the segments are rectangles of the picture.
"""

from typing import NamedTuple

import numpy as np

SOI, EOI, SOS, DNL, DRI, RST0, TEM, FILL = 0xD8, 0xD9, 0xDA, 0xDC, 0xDD, 0xD0, 0x01, 0xFF
BASELINE = (0xC0, 0xC1)  # SOF0 and SOF1: sequential, Huffman
PROGRESSIVE = (0xC2, 0xC6)
ARITHMETIC = (0xC9, 0xCA, 0xCB, 0xCC, 0xCD, 0xCE, 0xCF)  # CC: its tables
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
LARGEST_HEAD = 0xFFFF  # bytes


class NoCut(ValueError):
    """Why a file cannot be cut. The text is a few words, the same for all files of that kind."""


class Layout(NamedTuple):
    """A file that can be cut: a grid of segments, row after row."""

    height: int  # pixels of the picture
    width: int
    segment_height: int  # pixels; those of the last row and column may reach past the picture
    segment_width: int
    head: int  # bytes before the first segment: all markers up to SOS
    size_at: int  # offset of the picture's height and width, two bytes each, in the head
    offsets: np.ndarray  # (rows * columns + 1,) int64: first byte of each segment; each ends with the marker behind it

    @property
    def columns(self) -> int:
        return -(-self.width // self.segment_width)


class Frame(NamedTuple):
    """What the head says."""

    height: int
    width: int
    mcu_height: int  # pixels
    mcu_width: int
    interval: int  # MCUs between restart markers, 0: none
    head: int
    size_at: int


def layout_of(data: bytes) -> Layout:
    """Where the segments of a JPEG file lie. Raises: NoCut."""
    frame = frame_of(data)
    if frame.head > LARGEST_HEAD:
        raise NoCut("a header of more than 64 KB")
    segment_height, segment_width = segment_size(frame)
    offsets = segment_offsets(data, frame.head)
    if len(offsets) - 1 != -(-frame.height // segment_height) * -(-frame.width // segment_width):
        raise NoCut("restart markers missing or out of order")
    return Layout(frame.height, frame.width, segment_height, segment_width, frame.head, frame.size_at, offsets)


def segment_size(frame: Frame) -> tuple[int, int]:
    """Height and width of a segment in pixels. Raises: NoCut."""
    across = -(-frame.width // frame.mcu_width)
    if not frame.interval:
        raise NoCut("no restart markers")
    if across % frame.interval == 0:
        return frame.mcu_height, frame.interval * frame.mcu_width
    if frame.interval % across == 0:
        return frame.interval // across * frame.mcu_height, across * frame.mcu_width
    raise NoCut("a restart interval that does not divide the row of MCUs")


def segment_offsets(data: bytes, start: int) -> np.ndarray:
    """(K + 1,) int64: where each segment of the scan from `start` on begins, and the end of the last, which must end
    the file. Raises: NoCut."""
    codes = np.frombuffer(data, np.uint8, offset=start)
    # FF 00 is a byte FF of the data, FF FF a filling; as uint8, 0 - 1 is 255
    places = np.flatnonzero((codes[:-1] == FILL) & (codes[1:] - 1 < FILL - 1))
    found = codes[places + 1]
    others = np.flatnonzero(found - RST0 > 7)
    if not len(others):
        raise NoCut("truncated")
    last = int(others[0])
    if found[last] != EOI:
        raise NoCut("height told behind the scan" if found[last] == DNL else "several scans")
    if start + places[last] + 2 != len(data):
        raise NoCut("bytes behind the end")
    if (found[:last] != RST0 + np.arange(last) % 8).any():
        raise NoCut("restart markers missing or out of order")
    return np.concatenate([[start], start + places[: last + 1] + 2])


def frame_of(data: bytes) -> Frame:
    """Read the markers up to the start of the scan. Raises: NoCut."""
    if data[:2] != bytes((FILL, SOI)):
        raise NoCut("not a JPEG file")
    try:
        return _frame(data)
    except (IndexError, ZeroDivisionError):  # a header shorter than it says, or sizes of 0
        raise NoCut("a damaged header") from None


def _frame(data: bytes) -> Frame:
    place, interval, sizes, components = 2, 0, None, 0
    while True:
        marker, start, end = _marker(data, place)
        if marker in FRAMES or marker in ARITHMETIC:
            _need_baseline(marker)
            if sizes:
                raise NoCut("several frames")
            sizes, components = _sizes(data, start, end)
        elif marker == DRI:
            interval = _number(data, start)
        elif marker == SOS:
            break
        place = end
    if not sizes:
        raise NoCut("a damaged header")
    if data[start] != components:
        raise NoCut("several scans")
    return Frame(*sizes[:4], interval, end, sizes[4])


def _marker(data: bytes, place: int) -> tuple[int, int, int]:
    """The marker at `place`, and where its content begins and ends."""
    if data[place] != FILL:
        raise NoCut("a damaged header")
    while data[place] == FILL:
        place += 1
    marker, length = data[place], _number(data, place + 1)
    end = place + 1 + length
    if length < 2 or end > len(data) or marker in (0, TEM) or RST0 <= marker <= EOI:
        raise NoCut("a damaged header")
    return marker, place + 3, end


def _need_baseline(marker: int) -> None:
    if marker in PROGRESSIVE:
        raise NoCut("progressive")
    if marker in ARITHMETIC:
        raise NoCut("arithmetic coding")
    if marker not in BASELINE:
        raise NoCut("lossless or hierarchical")


def _sizes(data: bytes, start: int, end: int) -> tuple[tuple[int, int, int, int, int], int]:
    """Height, width, height and width of an MCU in pixels, offset of the sizes; and the number of components."""
    precision, height, width, components = (
        data[start],
        _number(data, start + 1),
        _number(data, start + 3),
        data[start + 5],
    )
    if precision != 8:
        raise NoCut(f"{precision}-bit")
    if components not in (1, 3):
        raise NoCut("CMYK" if components == 4 else f"{components} components")
    if not height:
        raise NoCut("height told behind the scan")
    if end != start + 6 + 3 * components or not width:
        raise NoCut("a damaged header")
    factors = [divmod(data[start + 7 + 3 * number], 16) for number in range(components)]
    if not all(1 <= factor <= 4 for pair in factors for factor in pair):
        raise NoCut("a damaged header")
    across, down = (1, 1) if components == 1 else (max(side) for side in zip(*factors, strict=True))
    # One component alone is not interleaved: its MCU is one block, whatever its sampling factors (A.2.2).
    return (height, width, 8 * down, 8 * across, start + 1), components


def _number(data: bytes, place: int) -> int:
    return data[place] << 8 | data[place + 1]
