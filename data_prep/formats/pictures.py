"""One picture file to RGB pixels: the only place that knows about odd formats and modes.

What a file is, its content says, not its name. Pixels are as stored: EXIF orientation is ignored, alpha is dropped, of
an animation the first frame is taken. What cannot be decoded completely is an error, never a grey rectangle. (Damage
that leaves a decodable stream, such as zeros in the middle of a JPEG, no decoder notices.)
"""

import io
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile

from data_prep.errors import DataError
from data_prep.formats.file_names import printable
from dawn.filekind import wrong_kind, wrong_kind_of

# Those whose content tells them apart and whose decoder is in Pillow itself: EPS would start another program.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
ORIENTATION = 0x0112  # EXIF tag


class PictureFacts(NamedTuple):
    format: str  # "JPEG", "PNG", ...; "MPO" is a JPEG with further pictures behind it
    mode: str  # Pillow's: "RGB", "L", "CMYK", "P", ...
    width: int  # pixels as stored
    height: int
    metadata: bool = False  # EXIF or XMP, which may tell how the picture is turned


def picture_facts(source: str | os.PathLike | bytes, name: str = "") -> PictureFacts:
    """What the header of a file (a path, or the file's content as bytes) says. DataError as in read_rgb."""
    with warnings.catch_warnings():
        try:
            with _open(source) as image:
                metadata = not image.info.keys().isdisjoint(("exif", "xmp"))
                return PictureFacts(image.format, image.mode, image.width, image.height, metadata)
        except Exception as error:
            raise _explained(error, source, name) from error


def read_rgb(source: str | os.PathLike | bytes, name: str = "", at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode a file (a path, or the file's content as bytes, then called `name` in errors) to an image of mode RGB.

    With `at_least` (width, height) a JPEG may come at 1/2, 1/4 or 1/8 of its size, but not below that.
    DataError "PATH: reason" when it is missing, truncated, corrupt, too large or no picture. Not for threads (the
    filter of warnings is one for the process).
    """
    assert not ImageFile.LOAD_TRUNCATED_IMAGES, "something has told Pillow to pass truncated files as grey pictures"
    with warnings.catch_warnings():
        try:
            with _open(source) as image:
                if at_least:
                    image.draft(None, at_least)
                image.load()
                return _to_rgb(image)
        except Exception as error:
            raise _explained(error, source, name) from error


def _open(source) -> Image.Image:
    """Header only. A picture of more than Image.MAX_IMAGE_PIXELS is refused before any of it is decoded."""
    warnings.simplefilter("ignore")  # corrupt EXIF blocks and their like say nothing about the pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    if image.format == "TIFF" and image.tag_v2.get(ORIENTATION, 1) != 1:
        raise ValueError("a TIFF with an orientation, which its decoder would turn")
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N"):  # 16-bit grey: Pillow would clip, not scale
        levels = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range")
    return image if image.mode == "RGB" else image.convert("RGB")


def _explained(error: Exception, source, name: str) -> Exception:
    """The DataError for whatever a decoder raised: on a broken file Pillow's raise nearly anything."""
    if isinstance(error, MemoryError):
        return error
    name = name or ("picture" if isinstance(source, bytes) else printable(os.fsencode(source)))
    return DataError(f"{name}: {_reason(error, source, name)}")


def _reason(error: Exception, source, name: str) -> str:
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    if isinstance(error, Image.UnidentifiedImageError):
        length = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
        if not length:
            return "empty file"
        kind = wrong_kind_of(source, name, "picture") if isinstance(source, bytes) else wrong_kind(source, "picture")
        return kind or "not a picture of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return f"cannot be decoded ({text})"
