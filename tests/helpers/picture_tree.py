"""A tiny tree of image files for tests: drawn in memory, sizes of every file different."""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image


def jpeg(width: int = 24, height: int = 16, seed: int = 0, kind: str = "JPEG") -> bytes:
    """A picture of smooth noise: never twice the same bytes."""
    small = np.random.default_rng((seed, width, height)).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((width, height)).save(buffer, kind)
    return buffer.getvalue()


def make_tree(
    root: Path, classes=("ant", "bee", "cow"), train: int = 3, validation: int = 2, folders=("train", "validation")
) -> Path:
    """ROOT/train/CLASS/0.JPEG ... and the same for validation; returns `root`."""
    for folder, count in zip(folders, (train, validation), strict=True):
        for label, name in enumerate(classes):
            (root / folder / name).mkdir(parents=True)
            for number in range(count):
                data = jpeg(20 + 2 * number, 16 + label, seed=100 * label + number + len(folder))
                (root / folder / name / f"{number}.JPEG").write_bytes(data)
    return root


def tree_hash(root):
    """SHA-256 over names and contents of every file but the lock."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.name != ".lock":
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(root)} {content}\n".encode())
    return digest.hexdigest()
