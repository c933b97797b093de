"""Names of the files of ImageNet (ILSVRC2012 CLS) that are known to be odd, so that meeting them alarms nobody.

Collected from several independent converters. All of them decode; copies made by `resize` have none of it left.
"""

from pathlib import PurePosixPath

CMYK = """n01739381_1309 n02077923_14822 n02447366_23489 n02492035_15739 n02747177_10752 n03018349_4028
n03062245_4620 n03347037_9675 n03467068_12171 n03529860_11437 n03544143_17228 n03633091_5218
n03710637_5125 n03961711_5286 n04033995_2932 n04258138_17003 n04264628_27969 n04336792_7448
n04371774_5854 n04596742_4225 n07583066_647 n13037406_4650 ILSVRC2012_val_00019877"""
KNOWN = {name: "CMYK" for name in CMYK.split()} | {"n02105855_2933": "PNG"}


def known_oddity(path: bytes) -> str:
    """What the file is known to be, by its name alone: "CMYK", "PNG", or "" for an ordinary one."""
    path = PurePosixPath(path.decode(errors="replace"))
    return KNOWN.get(path.stem, "") if path.suffix == ".JPEG" else ""
