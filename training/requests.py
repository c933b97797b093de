"""What a batch of pictures from an image tree shall be: decided by the sample plan before anything is read."""

from typing import NamedTuple

import numpy as np


class Request(NamedTuple):
    """One batch of B pictures. A picture's way: cut the window out of the stored picture, resize it (antialiased,
    half-pixel centres), cut the output, mirror it, apply the policy; on the device, after normalisation, erase the box.
    An output that reaches past the resized window is black there."""

    folder: str  # DATA + suffix
    split: str  # "train" | "validation"
    rows: np.ndarray  # (B,) int64, rows of that split's index
    labels: np.ndarray  # (B,) int64
    windows: np.ndarray  # (B, 4) int32: top, left, height, width in the stored picture
    resized: np.ndarray  # (B, 2) int32: height, width that the window is resized to
    corners: np.ndarray  # (B, 2) int32: top, left of the output inside the resized window
    size: tuple[int, int]  # height, width of every output
    flips: np.ndarray  # (B,) bool
    policy: np.ndarray | None = None  # (B, K, 2) float32: operation, strength; see training/policy_draw.py
    boxes: np.ndarray | None = None  # (B, 4) int32: top, left, height, width in the output; see training/erasing.py
    cubic: bool = False  # Keys' filter with a = -0.5, else the triangle (bilinear)
