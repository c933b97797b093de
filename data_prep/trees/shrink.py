"""One picture made smaller: the bytes of a file in, baseline JPEG bytes of every size out, from one decoding.

Common JPEG files go through simplejpeg (libjpeg-turbo); everything else, and whatever that refuses, through
pictures.read_rgb. EXIF orientation is baked in, all metadata is dropped.
"""

import io
import json
import warnings
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg
from cykooz_resizer import FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image

from data_prep.engines.base import Engine
from data_prep.errors import DataError
from data_prep.formats.image_index import ImageIndex
from data_prep.formats.manifest import Manifest
from data_prep.formats.pictures import PictureFacts, picture_facts, read_rgb
from data_prep.stores import Remote

FILTERS = {
    "lanczos": FilterType.lanczos3,
    "bicubic": FilterType.catmull_rom,
    "bilinear": FilterType.bilinear,
    "box": FilterType.box,
}  # all antialiased: the filter grows with the scale
KINDS = ("made smaller", "copied as they are, small enough", "coded again at their own size")
ORIENTATION = 0x0112  # EXIF tag
LEAST = 1280  # px of the short side that a scaled decoding leaves, at least; also twice the size of the copy
TOOLS = ", ".join(f"{name} {metadata.version(name)}" for name in ("simplejpeg", "cykooz.resizer"))
RESIZER = Resizer()
TURNS = {  # EXIF orientation -> the picture as seen, of (H, W, 3) pixels as stored
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p[::-1].transpose(1, 0, 2),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: p[:, ::-1].transpose(1, 0, 2),
}


@dataclass(frozen=True)
class Rule:
    """How copies are made, as far as it decides their bytes. They never depend on the other sizes of the same run.
    See shards.Making."""

    filter: str = "lanczos"
    quality: int = 90
    made_with: str = TOOLS

    def __post_init__(self):
        if self.filter not in FILTERS:
            raise DataError(f"--filter {self.filter}: choose {', '.join(FILTERS)}")
        if not 1 <= self.quality <= 100:
            raise DataError(f"--quality {self.quality}: choose 1 to 100")

    @property
    def kinds(self) -> tuple[str, ...]:
        return KINDS

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    def words(self, copy: Path) -> str:
        return f"short side {copy.name} px, {self.filter}, quality {self.quality}"

    def write_beside(
        self, copy: Path, pictures: Path | Remote, indices: dict[str, ImageIndex], engine: Engine
    ) -> dict[str, list[str]]:
        return {}

    def check_beside(self, copy: Path, manifest: Manifest) -> None:
        """Nothing lies there."""


class Copy(NamedTuple):
    data: bytes  # a baseline JPEG file
    width: int
    height: int
    kind: int  # place in KINDS


def shrink(data: bytes, name: str, sizes: tuple[int, ...], rule: Rule) -> list[Copy]:
    """One copy for each of `sizes` (short side, px), never larger than the picture. DataError "name: reason"."""
    facts = picture_facts(data, name)
    turn, short = _orientation(data, facts), min(facts.width, facts.height)
    copies, decoded = {}, {}
    for size in sizes:
        if short <= size and turn == 1 and _is_clean(data, facts):
            if 0 not in decoded:  # only to know that it can be
                decoded[0] = _image(_pixels(data, name, facts, 0))
            copies[size] = Copy(data, facts.width, facts.height, 1)
            continue
        least = max(LEAST, 2 * size)
        least = least if short >= 2 * least else 0  # scaled decoding: 1/2, 1/4 or 1/8
        # Once for all sizes that it serves: two sizes so are made at 2.47 times Pillow's rate (two cores).
        if least not in decoded:
            decoded[least] = _image(TURNS[turn](_pixels(data, name, facts, least)))
        copies[size] = _smaller(decoded[least], size, rule, name)
    return [copies[size] for size in sizes]


def target(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height with the short side at `size`, or as they are when that would enlarge."""
    short = min(width, height)
    return (width, height) if short <= size else tuple(max(1, round(side * size / short)) for side in (width, height))


def decode(data: bytes, name: str) -> np.ndarray:
    """Pixels of a file as stored, (H, W, 3) uint8 RGB. DataError "name: reason"."""
    return _pixels(data, name, picture_facts(data, name), 0)


def resample(pixels: np.ndarray, size: tuple[int, int], name: str = "lanczos") -> np.ndarray:
    """(H, W, 3) uint8 to (height, width, 3) of `size` = width, height, antialiased."""
    return _array(_resampled(_image(pixels), size, name))


def _smaller(image: ImageData, size: int, rule: Rule, name: str) -> Copy:
    whole = image.width, image.height
    place = target(*whole, size)
    small = image if place == whole else _resampled(image, place, rule.filter)
    try:
        # Baseline: a GPU's JPEG engines leave progressive files to slower code.
        data = simplejpeg.encode_jpeg(_array(small), rule.quality, "RGB", "420")
    except ValueError as error:
        raise DataError(f"{name}: cannot be stored as JPEG ({error})") from error
    return Copy(data, *place, 2 if small is image else 0)


def _resampled(image: ImageData, size: tuple[int, int], name: str) -> ImageData:
    small = ImageData(*size, PixelType.U8x3)
    RESIZER.resize(image, small, ResizeOptions(ResizeAlg.convolution(FILTERS[name]), use_alpha=False))
    return small


def _image(pixels: np.ndarray) -> ImageData:
    return ImageData(pixels.shape[1], pixels.shape[0], PixelType.U8x3, pixels.tobytes())


def _array(image: ImageData) -> np.ndarray:
    return np.frombuffer(image.get_buffer(), np.uint8).reshape(image.height, image.width, 3)


def _pixels(data: bytes, name: str, facts: PictureFacts, least: int) -> np.ndarray:
    """Pixels as stored, (H, W, 3) uint8; with `least` a JPEG comes at 1/2 of its size or less, its short side at least
    that."""
    if facts.format == "JPEG" and facts.mode in ("RGB", "L"):
        try:
            return simplejpeg.decode_jpeg(data, "RGB", min_height=least, min_width=least, min_factor=2 if least else 1)
        except ValueError:  # damaged, or only strange: read_rgb says which
            pass
    return np.asarray(read_rgb(data, name, (least, least) if least else None))


def _orientation(data: bytes, facts: PictureFacts) -> int:
    """1 to 8 from the metadata; 1 (as stored) where there is none or it makes no sense."""
    if facts.format == "TIFF":  # Pillow has turned it
        return 1
    if facts.format == "JPEG" and not (facts.metadata and b"Exif" in data):  # without: 1.02 times the images/s
        return 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as image:
                turn = image.getexif().get(ORIENTATION, 1)
        except Exception:  # a broken block raises nearly anything, and says nothing about the pixels
            return 1
    return turn if turn in TURNS else 1


def _is_clean(data: bytes, facts: PictureFacts) -> bool:
    """A baseline JPEG in colour or grey: what every loader reads."""
    if facts.format != "JPEG" or facts.mode not in ("RGB", "L"):
        return False
    with Image.open(io.BytesIO(data)) as image:
        return "progressive" not in image.info
