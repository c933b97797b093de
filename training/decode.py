"""A stored picture as an array. Almost all are JPEG files, which simplejpeg (libjpeg-turbo) reads fastest; everything
it refuses goes through data_prep.pictures, which knows the odd modes and says what is wrong with a damaged file."""

from pathlib import Path

import numpy as np
import simplejpeg

from data_prep.pictures import read_rgb

JPEG = b"\xff\xd8"


def decoded(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, RGB, as stored: EXIF orientation is ignored. Raises: DataError naming the file."""
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError:
        data = b""  # read_rgb says why
    if data.startswith(JPEG):
        try:
            return simplejpeg.decode_jpeg(data)
        except ValueError:
            pass  # CMYK, or damaged
    return np.array(read_rgb(path))  # a writable copy, as torch wants
