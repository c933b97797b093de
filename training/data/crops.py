"""Where pictures are cut: random windows for training, centred ones and rectangles for validation. Numbers only, for N
pictures at once.

Rectangular validation: pictures of like aspect ratio share a batch, and little of them is cut off. `bucketed`: the
shape of a picture depends on the picture alone, so counts do not depend on the batch size, the order or the number of
processes. `2018`: the rule of the imagenet18 code, where the batch decides (its defect, kept for comparison).
"""

import math
from collections.abc import Iterable

import numpy as np

RATIO = (3 / 4, 4 / 3)  # width / height of a random window
TRIES = 10
BUCKET = 32  # pixels between two long sides: few shapes, so few kernels to tune
MAX_RATIO = 2.0  # longer pictures lose their ends
MULTIPLE = 8


def random_windows(
    heights: np.ndarray, widths: np.ndarray, min_scale: float, draws: Iterable[np.ndarray]
) -> np.ndarray:
    """torchvision's RandomResizedCrop (arXiv:1409.4842) for every picture: (N, 4) int32 top, left, height, width.

    An area from `min_scale` to 1 of the picture, uniformly; a ratio of 3/4 to 4/3, log-uniformly. `draws` gives up to
    ten arrays (N, 4) in [0, 1): picture n takes the first of its draws that fits, else the largest centred window.
    """
    windows = largest_windows(heights, widths)
    open_rows = np.arange(len(heights))
    for draw in draws:
        tried, fits = tried_windows(heights[open_rows], widths[open_rows], min_scale, draw[open_rows])
        windows[open_rows[fits]] = tried[fits]
        open_rows = open_rows[~fits]
        if not len(open_rows):
            break
    return windows


def tried_windows(
    heights: np.ndarray, widths: np.ndarray, min_scale: float, draw: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One try: windows (n, 4) int32, and which of them lie inside their picture (n,) bool."""
    area = heights.astype(np.float64) * widths * (min_scale + (1 - min_scale) * draw[:, 0])
    low, high = (math.log(r) for r in RATIO)
    ratio = np.exp(low + (high - low) * draw[:, 1])
    height, width = np.rint(np.sqrt(area / ratio)), np.rint(np.sqrt(area * ratio))
    top, left = np.floor(draw[:, 2] * (heights - height + 1)), np.floor(draw[:, 3] * (widths - width + 1))
    fits = (height > 0) & (width > 0) & (height <= heights) & (width <= widths)
    return np.stack([top, left, height, width], axis=1).astype(np.int32), fits


def largest_windows(heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The largest centred window whose ratio lies in RATIO, (N, 4) int32."""
    height = np.minimum(heights, np.rint(widths / RATIO[0])).astype(np.int32)
    width = np.minimum(widths, np.rint(heights * RATIO[1])).astype(np.int32)
    return np.stack([(heights - height) // 2, (widths - width) // 2, height, width], axis=1).astype(np.int32)


def whole_windows(heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """(N, 4) int32."""
    zero = np.zeros_like(heights)
    return np.stack([zero, zero, heights, widths], axis=1).astype(np.int32)


def short_side(resize: float, size: int) -> int:
    """Pixels of the short side before the centre crop of `size`: `resize` sizes, rounded down, as in 2018 (1.14 of 224:
    255) and in timm (crop ratio 0.95 of 224: 235). A thousandth of a pixel is forgiven, so that 232/224 gives 232
    however it was rounded."""
    return int(resize * size + 1e-3)


def resized_sizes(heights: np.ndarray, widths: np.ndarray, short: int) -> np.ndarray:
    """(N, 2) int32 height, width with the short side `short`; the long one rounds down, as torchvision's Resize."""
    smaller = np.minimum(heights, widths).astype(np.int64)
    both = np.stack([heights, widths], axis=1).astype(np.int64) * short // smaller[:, None]
    return both.astype(np.int32)


def centred_corners(resized: np.ndarray, size: tuple[int, int] | np.ndarray) -> np.ndarray:
    """(N, 2) int32 top, left of a centred output, half to even as torchvision's CenterCrop; negative where the output
    is larger."""
    return np.rint((resized - np.asarray(size)) / 2).astype(np.int32)


def bucketed_shapes(heights: np.ndarray, widths: np.ndarray, size: int) -> np.ndarray:
    """(N, 2) int64 height, width: the short side `size`, the long one the largest of size, size + 32, ... that the
    picture fills, at most twice the short side; rounded down to a multiple of 8 where it is longer."""
    ratio = np.minimum(np.maximum(heights, widths) / np.minimum(heights, widths), MAX_RATIO)
    beyond = (size * ratio).astype(np.int64) - size
    long = np.where(beyond >= BUCKET, floor8(size + beyond // BUCKET * BUCKET), size)
    return oriented(heights, widths, size, long)


def shapes_2018(heights: np.ndarray, widths: np.ndarray, size: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of the imagenet18 code (N,) and each picture's shape (N, 2) int64, height and width, by picture
    number. Sorted by ratio, cut into batches; a batch's mean ratio decides."""
    ratios = np.round(widths / heights, 5)
    order = np.argsort(ratios, kind="stable")
    shapes = np.empty((len(order), 2), np.int64)
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        shapes[rows] = shape_2018(round(float(ratios[rows].mean()), 5), size)
    return order, shapes


def shape_2018(ratio: float, size: int) -> tuple[int, int]:
    """Height and width for a ratio (width / height)."""
    # At both ends of the sorted list this can be more than the resized picture has: black there, as in 2018.
    return (int(size / ratio) // 8 * 8, size) if ratio < 1 else (size, int(size * ratio) // 8 * 8)


def floor8(pixels: np.ndarray) -> np.ndarray:
    return pixels // MULTIPLE * MULTIPLE


def oriented(heights: np.ndarray, widths: np.ndarray, short: int, long: np.ndarray) -> np.ndarray:
    upright = heights > widths
    return np.stack([np.where(upright, long, short), np.where(upright, short, long)], axis=1)


def batches_by_shape(shapes: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Picture numbers of every batch, one shape each, in the order of the shapes' aspect ratios."""
    ratios = shapes[:, 1] / shapes[:, 0]
    order = np.lexsort((np.arange(len(shapes)), shapes[:, 0], ratios))
    borders = np.flatnonzero(np.any(np.diff(shapes[order], axis=0), axis=1)) + 1
    groups = np.split(order, borders)
    return [group[first : first + batch_size] for group in groups for first in range(0, len(group), batch_size)]
