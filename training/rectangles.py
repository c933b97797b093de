"""Rectangular validation: pictures of like aspect ratio share a batch, and little of them is cut off.

`bucketed`: the shape of a picture depends on the picture alone, so counts do not depend on the batch size, the order or
the number of processes. `2018`: the rule of the imagenet18 code, where the batch decides (its defect, kept for
comparison).
"""

import numpy as np

BUCKET = 32  # pixels between two long sides: few shapes, so few kernels to tune
MAX_RATIO = 2.0  # longer pictures lose their ends
MULTIPLE = 8


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
