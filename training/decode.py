"""A stored picture, or a window of it, as an array.

Almost all files are JPEG. simplejpeg decodes them whole; where much of a picture is not wanted, nvImageCodec (it comes
with DALI) decodes the window alone, on the CPU. Both are libjpeg-turbo: the same pixels. What they refuse goes through
data_prep.pictures, which knows the odd modes and says what is wrong with a damaged file.
"""

import os
import threading

import numpy as np
import simplejpeg

from data_prep.pictures import read_rgb

try:
    from nvidia import nvimgcodec
except ImportError:
    nvimgcodec = None

JPEG = b"\xff\xd8"
PIECE = 1 << 17  # bytes read at a time
SPARED = 50_000  # pixels beside the window: from here on it is faster to leave them out
PILLOW = threading.Lock()  # data_prep.pictures changes the process's filter of warnings
OWN = threading.local()  # a decoder for every thread


def decoded(path: bytes) -> np.ndarray:
    """(H, W, 3) uint8, RGB, as stored: EXIF orientation is ignored. Raises: DataError naming the file."""
    return whole(contents(path), path)


def decoded_window(path: bytes, size: tuple[int, int], window: list[int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Of a picture of `size` (height, width): `window` (top, left, height, width) as (h, w, 3) uint8, and the size that
    the file really has. Raises: DataError naming the file."""
    data = contents(path)
    top, left, height, width = window
    if nvimgcodec and data.startswith(JPEG) and size[0] * size[1] - height * width > SPARED:
        stream = nvimgcodec.CodeStream(data)
        if (stream.height, stream.width) == size:
            region = nvimgcodec.Region(top, left, top + height, left + width)
            image = decoder().decode(stream.get_sub_code_stream(region=region), params=OWN.rules)
            if image is not None:
                return np.asarray(image), size
    pixels = whole(data, path)
    return pixels[top : top + height, left : left + width], pixels.shape[:2]


def contents(path: bytes) -> bytes:
    """b"" for a file that is not there or cannot be read: data_prep.pictures says why. As few calls of the system as
    can be: Path.read_bytes costs a picture of 160 px a fifth of its time."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        parts = [os.read(file, PIECE)]
        while len(parts[-1]) == PIECE:  # a shorter one is the last of a regular file
            parts.append(os.read(file, PIECE))
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(file)


def whole(data: bytes, path: bytes) -> np.ndarray:
    """(H, W, 3) uint8."""
    if data.startswith(JPEG):
        try:
            return simplejpeg.decode_jpeg(data)
        except ValueError:
            pass  # CMYK, or damaged
    with PILLOW:
        return np.array(read_rgb(os.fsdecode(path)))  # a writable copy, as torch wants


def decoder():
    """nvImageCodec's, of this thread."""
    if not hasattr(OWN, "decoder"):
        backends = [nvimgcodec.Backend(nvimgcodec.CPU_ONLY)]
        device = nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY
        OWN.decoder = nvimgcodec.Decoder(max_num_cpu_threads=1, backends=backends, device_id=device)
        OWN.rules = nvimgcodec.DecodeParams(color_spec=nvimgcodec.ColorSpec.SRGB, apply_exif_orientation=False)
    return OWN.decoder
