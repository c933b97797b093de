"""A small image tree with every odd kind of file, indexed and packed, for the tests of the tree loaders."""

import functools
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data_prep import load_manifest
from data_prep.sources.toy_images import draw_jpeg
from data_prep.trees.adopt import adopt
from data_prep.trees.pack import pack_tree
from phases import DataPhase, Schedule
from training.config.config import Config
from training.data.loader import open_loader
from training.distributed.env import Env

CLASSES = ("disc", "ring", "stripes")
PHASE = DataPhase(epoch=0, sz=32, bs=24, min_scale=0.25, val_sz=40, val_bs=16)
PHASES = "[{'ep': 0, 'sz': 32, 'bs': 24}, {'ep': (0, 2), 'lr': (0.1, 0.0)}]"


def make_tree(root: Path, train: int = 302, validation: int = 60) -> Path:
    """`train` and `validation` drawn JPEG files and 10 odd ones in each split."""
    for number, (split, count) in enumerate((("train", train), ("validation", validation))):
        for position in range(count):
            folder = root / split / CLASSES[position % 3]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{position:04}.JPEG").write_bytes(draw_jpeg(position % 3, number, position))
        write_odd(root / split / "ring")
    adopt(root, name="pictures")
    pack_tree(root)
    return root


def write_odd(folder: Path) -> None:
    """One picture in many forms, all called .JPEG: grey, CMYK, 4:4:4, 4:2:2, progressive, turned, PNG of three modes,
    tiny."""
    image = Image.open(io.BytesIO(draw_jpeg(1, 0, 99))).convert("RGB").resize((77, 53))
    turned = Image.Exif()
    turned[0x112] = 6
    image.convert("L").save(folder / "grey.JPEG", "JPEG")
    image.convert("CMYK").save(folder / "cmyk.JPEG", "JPEG", quality=95)
    image.save(folder / "444.JPEG", "JPEG", subsampling=0)
    image.save(folder / "422.JPEG", "JPEG", subsampling=1)
    image.save(folder / "progressive.JPEG", "JPEG", progressive=True)
    image.save(folder / "turned.JPEG", "JPEG", exif=turned)
    for mode in ("RGB", "RGBA", "P"):
        image.convert(mode).save(folder / f"png-{mode}.JPEG", "PNG")
    image.resize((9, 5)).save(folder / "tiny.JPEG", "JPEG", subsampling=0)


def tree_loader(root: Path, name: str, phase: DataPhase = PHASE, world_size: int = 1, rank: int = 0, **settings):
    """An open loader in `phase`, with the batch per rank; fp32, normalised."""
    config = Config(data=str(root), phases=PHASES, loader=name, **{"seed": 5, "workers": 2, **settings})
    env = Env(torch.device("cpu"), rank, world_size)
    loader = open_loader(config, Schedule.parse(PHASES), load_manifest(root), env, torch.float32)
    loader.set_phase(replace(phase, bs=phase.bs // world_size))
    return loader


def epoch_of(root: Path, name: str, epoch: int = 0, start: int = 0, **more) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loader = tree_loader(root, name, **more)
    try:
        return list(loader.train(epoch, start))
    finally:
        loader.close()


once = functools.cache(epoch_of)  # made once for all tests that only look at it


def same(one, two) -> bool:
    """Whether two lists of batches have the same pixels and labels."""
    pairs = zip(one, two, strict=False)
    return len(one) == len(two) and all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs)


def levels(loader, images: torch.Tensor) -> np.ndarray:
    """Normalised (B, 3, H, W) back to 0..255."""
    return (images * loader.std[:, None, None] + loader.mean[:, None, None]).numpy()


def psnr(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(B,) dB, of pictures in 0..255"""
    error = np.square(one.astype(np.float64) - other).reshape(len(one), -1).mean(1)
    return 10 * np.log10(255**2 / np.maximum(error, 1e-6))
