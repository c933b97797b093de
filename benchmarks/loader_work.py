"""What a loader of benchmarks/loaders.py has to do. Needs numpy alone: FFCV may live in an environment of its own."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

RATIO = (3 / 4, 4 / 3)  # width / height of a random window


@dataclass(frozen=True)
class Work:
    """Batches of random resized crops, mirrored half of the time: uint8 (batch, size, size, 3), antialiased."""

    folder: str  # an indexed tree; packed too where the loader asks for it
    size: int  # pixels
    images: int  # of the train split, evenly spread over it
    batch: int
    workers: int  # processes or threads
    min_scale: float  # smallest area of a window, as a share of the picture
    scratch: str  # where a loader may write a copy in a format of its own

    @classmethod
    def from_json(cls, text: str) -> "Work":
        return cls(**json.loads(text))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def rows(self) -> np.ndarray:
        """(images,) int64, rows of the train index; fewer when the split is smaller."""
        total = len(self.index()["labels"])
        return np.linspace(0, total - 1, min(self.images, total)).astype(np.int64)

    def files(self) -> tuple[list[str], list[int]]:
        """Absolute path and label of every image."""
        index, rows = self.index(), self.rows()
        paths = [str(Path(self.folder) / path.decode()) for path in index["paths"][rows]]
        return paths, index["labels"][rows].tolist()

    def index(self) -> dict[str, np.ndarray]:
        with np.load(Path(self.folder) / "train.index.npz", allow_pickle=False) as arrays:
            return {name: arrays[name] for name in ("paths", "labels")}
