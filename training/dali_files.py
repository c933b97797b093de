"""Which file DALI reads for a picture, and which one was bad when it could not: DALI itself does not say."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from data_prep import DataError
from data_prep.image_index import ImageIndex
from data_prep.pictures import picture_facts, read_rgb
from training.requests import Request

JPEG = ("JPEG", "MPO")


class DaliFiles:
    """Files that Pillow reads and DALI does not (GIF) have a stand-in: a PNG file in a temporary folder. DALI reads
    all other forms like Pillow, CMYK within 1 level."""

    def __init__(self, folders: dict[str, dict[str, ImageIndex]], rank: int) -> None:
        self.folders, self.rank = folders, rank
        self.stand_ins: dict[bytes, bytes] = {}
        self.temporary: TemporaryDirectory | None = None

    def names(self, request: Request) -> list[np.ndarray]:
        """As DALI wants them: one array of bytes per picture."""
        paths = (self.path(request, row) for row in request.rows)
        return [np.frombuffer(self.stand_ins.get(path, path), np.uint8) for path in paths]

    def path(self, request: Request, row: int) -> bytes:
        return os.fsencode(request.folder) + b"/" + self.folders[request.folder][request.split].paths[row]

    def examine(self, request: Request) -> bool:
        """Read the pictures of a batch that failed one by one. True: some have stand-ins now, try again. Raises:
        DataError naming the first bad file."""
        before = len(self.stand_ins)
        for row in request.rows:
            self.examine_one(self.path(request, row), request, row)
        return len(self.stand_ins) > before

    def examine_one(self, path: bytes, request: Request, row: int) -> None:
        index = self.folders[request.folder][request.split]
        where, size = f"(rank {self.rank}, image {row} of {request.split})", (index.widths[row], index.heights[row])
        try:
            image = read_rgb(os.fsdecode(path))
        except DataError as error:
            raise DataError(f"{error} {where}") from None
        if image.size != size:
            raise DataError(
                f"{os.fsdecode(path)}: {image.width}x{image.height} pixels, the index says {size[0]}x{size[1]} "
                f"{where}. Index the folder again"
            )
        if path not in self.stand_ins and picture_facts(os.fsdecode(path)).format not in JPEG:
            self.temporary = self.temporary or TemporaryDirectory(prefix="dali-")
            name = Path(self.temporary.name) / f"{len(self.stand_ins)}.png"
            image.save(name, compress_level=1)
            self.stand_ins[path] = os.fsencode(name)

    def close(self) -> None:
        self.stand_ins.clear()
        if self.temporary:
            self.temporary.cleanup()
            self.temporary = None
