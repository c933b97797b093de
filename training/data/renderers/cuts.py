"""Windows cut out of files that `data_prep index-crops` has laid out: only what is wanted is read and decoded. The
pixels are those of the whole picture."""

from dataclasses import replace

import numpy as np
import simplejpeg

from data_prep import load_manifest
from data_prep.crops.cutting import Piece
from data_prep.crops.segments import SegmentIndex, has_segments, open_segments
from data_prep.formats.image_index import open_index
from training.config.config import Config
from training.data.holdout import sources, stored_splits
from training.data.renderers.base import Request
from training.data.renderers.picture import Decode

SPARED = 15_000  # pixels beside the window: from here on it is faster to leave them out, by cutting


class Cuts:
    """The segments of the folders that are in use, those of them that have any."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.trees: dict[str, dict[str, SegmentIndex]] = {}  # by folder and split of the run

    def enter(self, folders: set[str]) -> None:
        """Open the segments of `folders` and let go of others. Raises: DataError."""
        self.trees = {folder: self.trees.get(folder) or self.opened(folder) for folder in sorted(folders)}

    def segments(self, folder: str, split: str) -> SegmentIndex | None:
        """Those of a folder that nobody has entered are opened now."""
        if folder not in self.trees:
            self.trees[folder] = self.opened(folder)
        return self.trees[folder].get(split)

    def opened(self, folder: str) -> dict[str, SegmentIndex]:
        splits = stored_splits(self.config)
        if not has_segments(load_manifest(folder), splits):
            return {}
        stored = open_segments(folder, splits)
        labels = open_index(folder, False, ("train",))["train"].labels if self.config.holdout else np.zeros(0, np.int64)
        found = sources(self.config, labels)
        return {split: picked(stored[source.split], source.rows) for split, source in found.items()}

    def piece(self, request: Request, place: int, path: bytes, size: tuple[int, int]) -> Piece | None:
        """The window at `place` of a request as a small JPEG file, cut out of a picture of `size` (height, width) at
        `path`; None where it is better decoded whole. Raises: DataError for a file that has changed since it was
        indexed, see SegmentIndex.piece."""
        segments = self.segments(request.folder, request.split)
        if segments is None:
            return None
        wanted = tuple(request.windows[place].tolist())
        is_cut = size[0] * size[1] - wanted[2] * wanted[3] > SPARED
        return segments.piece(path, request.rows[place], wanted if is_cut else None)

    def window(
        self,
        request: Request,
        place: int,
        path: bytes,
        size: tuple[int, int],
        decode: Decode = simplejpeg.decode_jpeg,
    ) -> np.ndarray | None:
        """The pixels of `piece`, (h, w, 3) uint8. Raises: DataError."""
        piece = self.piece(request, place, path, size)
        if piece is None:
            return None
        try:
            pixels = decode(piece.data)
        except ValueError:  # damaged already when it was indexed
            return None
        top, left, height, width = piece.window
        return pixels[top : top + height, left : left + width]


def picked(index: SegmentIndex, rows: np.ndarray | None) -> SegmentIndex:
    """The rows of an index; None: all."""
    return index if rows is None else replace(index, records=index.records[rows])
