"""JPEG files with restart markers, of random sizes and kinds, and trees of them, for tests of the cut."""

import io
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_prep import load_manifest
from data_prep.crops.layout import NoCut
from data_prep.crops.segments import Entry, entry_of, segment_names, write_segments
from data_prep.formats.image_index import open_index
from data_prep.formats.manifest import describe_files, save_manifest

SAMPLINGS = {"4:4:4": (8, 8), "4:2:2": (8, 16), "4:2:0": (16, 16), "grey": (8, 8)}  # height, width of an MCU


class Segmented(NamedTuple):
    data: bytes
    sampling: str
    height: int
    width: int
    interval: int  # MCUs
    window: tuple[int, int, int, int]  # a random one: top, left, height, width


def segmented(height: int, width: int, sampling: str, interval: int, seed: int = 0, quality: int = 80) -> bytes:
    small = np.random.default_rng(seed).integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((width, height))
    buffer = io.BytesIO()
    if sampling == "grey":
        image.convert("L").save(buffer, "JPEG", quality=quality, restart_marker_blocks=interval)
    else:
        image.save(buffer, "JPEG", quality=quality, subsampling=sampling, restart_marker_blocks=interval)
    return buffer.getvalue()


def random_one(generator: random.Random, sampling: str, largest: int = 160) -> Segmented:
    """An interval that divides the row of MCUs, or is one to three rows."""
    height, width = generator.randint(1, largest), generator.randint(1, largest)
    across = -(-width // SAMPLINGS[sampling][1])
    intervals = [part for part in range(1, across + 1) if across % part == 0] + [2 * across, 3 * across]
    interval, quality = generator.choice(intervals), generator.choice((40, 80, 96))
    data = segmented(height, width, sampling, interval, generator.randrange(2**32), quality)
    top, left = generator.randrange(height), generator.randrange(width)
    window = top, left, generator.randint(1, height - top), generator.randint(1, width - left)
    return Segmented(data, sampling, height, width, interval, window)


def known_segments(data: bytes) -> tuple[Entry, bytes]:
    """What the index of segments knows of a file."""
    try:
        return entry_of(data)
    except NoCut:
        return Entry(len(data)), b""


def index_segments(root: Path) -> None:
    """Index the segments of an adopted tree where it lies, as `index-crops` does it for its copy."""
    manifest, splits = load_manifest(root), {}
    for split, index in open_index(root).items():
        contents = ((root / os.fsdecode(path)).read_bytes() for path in index.paths.tolist())
        write_segments(root, split, len(index.paths), map(known_segments, contents))
        facts = manifest.splits[split]
        splits[split] = replace(facts, files=facts.files | describe_files(root, segment_names(split)))
    save_manifest(root, replace(manifest, splits=splits))
