"""An image tree with one image of a single value, which nothing can standardise."""

import shutil
from pathlib import Path

from PIL import Image

from data_prep.trees.adopt import adopt


def tree_with_a_grey_image(toy: Path, root: Path) -> tuple[Path, Path]:
    """A copy of the toy tree at `root`, and the training image in it that is grey all over."""
    for split in ("train", "validation"):
        shutil.copytree(toy / split, root / split)
    grey = next((root / "train" / "ring").iterdir())
    Image.new("RGB", (32, 32), (128, 128, 128)).save(grey, quality=100)
    adopt(root)
    return root, grey
