"""Pictures of a request, read and made by one worker: it decodes no more than the window and resizes it into its place
in the batch."""

from collections.abc import Iterator

import numpy as np
import simplejpeg
from torch import Tensor

from data_prep import DataError
from data_prep.formats.image_index import ImageIndex
from training.data.renderers.base import Request
from training.data.renderers.cuts import Cuts
from training.data.renderers.picture import (
    checked_size,
    decoded_window,
    path_of,
    place_of,
    planes_of,
    put_picture,
)

# A worker decodes some pictures, then resizes them: its caches change from one to the other less often.
GROUP = 1_000_000  # bytes of pixels: about 4 random crops of ImageNet's pictures, 10 copies of 160 px
ROOM = 3_000_000  # bytes: a picture of 800 x 800 px still fits behind a group that is not yet full


class Scratch:
    """Memory of one worker for the pixels of a group, used again and again: it stays in the processor's cache (1.02
    times the images/s)."""

    def __init__(self) -> None:
        self.memory, self.used = np.empty(ROOM, np.uint8), 0

    def decoded(self, data: bytes) -> np.ndarray:
        """(H, W, 3) uint8, RGB, of a JPEG file; to be used before `used` is set back. Raises: ValueError."""
        try:
            pixels = simplejpeg.decode_jpeg(data, buffer=self.memory[self.used :])
        except ValueError:  # larger than what is left, or damaged
            return simplejpeg.decode_jpeg(data)
        self.used += pixels.size
        return pixels


class Filler:
    """Of one worker: a thread or a process."""

    def __init__(self, folders: dict[str, dict[str, ImageIndex]], rank: int, cuts: Cuts) -> None:
        self.folders, self.rank, self.cuts, self.scratch = folders, rank, cuts, Scratch()

    def fill(self, request: Request, out: Tensor, places: range) -> None:
        """The pictures at `places` of a request into a batch (B, height, width, 3) uint8. Raises: DataError."""
        planes = planes_of(out, places)
        for group in self.groups(request, places):
            for place, window in group:
                put_picture(window, request, place, planes[place])

    def groups(self, request: Request, places: range) -> Iterator[list[tuple[int, np.ndarray]]]:
        """Places and their windows, GROUP bytes of pixels at a time; each group until the next one is asked for."""
        scratch = self.scratch
        group, held, scratch.used = [], 0, 0
        for place in places:
            group.append((place, self.window(request, place)))
            held += group[-1][1].size  # also what lies outside of the scratch
            if max(held, scratch.used) >= GROUP:
                yield group
                group, held, scratch.used = [], 0, 0
        yield group

    def window(self, request: Request, place: int) -> np.ndarray:
        """(h, w, 3) uint8. Raises: DataError, also for a file that is not the indexed one."""
        index, row = self.folders[request.folder][request.split], request.rows[place]
        path, size = path_of(request, index, row), (int(index.heights[row]), int(index.widths[row]))
        where, decode = place_of(self.rank, request, row), self.scratch.decoded
        try:
            window = self.cuts.window(request, place, path, size, decode)
            if window is not None:
                return window
            window, found = decoded_window(path, size, request.windows[place].tolist(), decode)
        except DataError as error:
            raise DataError(f"{error} {where}") from None
        checked_size(path, found, size, where)
        return window
