"""The DALI renderer: one pipeline for the whole run, fed with requests. DALI reads, decodes, cuts and resizes in its
own threads, some batches ahead.

A file cut short is noticed when a window reaches the missing part; data_prep's check reads all of every file.
"""

import gc
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from nvidia.dali.backend import ReleaseUnusedMemory
from nvidia.dali.plugin.pytorch import feed_ndarray
from torch import Tensor

from data_prep import DataError
from data_prep.formats.image_index import ImageIndex
from data_prep.formats.pictures import picture_facts, read_rgb
from training.data.auto_augment import NO_POLICY, Policy, policy_of
from training.data.renderers.base import Request
from training.data.renderers.cuts import Cuts
from training.data.renderers.dali_pipeline import Encoded, inputs_of, pictures
from training.data.renderers.picture import place_of
from training.data.transforms import MEAN, STD
from training.distributed.env import worker_count

JPEG = ("JPEG", "MPO")
AHEAD = 2  # batches whose pictures are cut before the pipeline asks for them


class DaliFiles:
    """Files that Pillow reads and DALI does not (GIF) have a stand-in: a PNG file in a temporary folder. DALI reads
    all other forms like Pillow, CMYK within 1 level."""

    def __init__(
        self, folders: dict[str, dict[str, ImageIndex]], rank: int, threads: int = 1, cuts: Cuts | None = None
    ) -> None:
        """`cuts`: None cuts nothing out."""
        self.folders, self.rank, self.threads, self.cuts = folders, rank, threads, cuts
        self.pool = ThreadPoolExecutor(threads)
        self.stand_ins: dict[bytes, bytes] = {}
        self.temporary: TemporaryDirectory | None = None

    def enter(self, folders: set[str]) -> None:
        """Raises: DataError."""
        if self.cuts:
            self.cuts.enter(folders)

    def begun(self, request: Request) -> list[Future[list[Encoded]]]:
        """Begin to cut a batch, one share per thread."""
        count = len(request.rows)
        length = -(-count // self.threads)
        shares = (range(first, min(first + length, count)) for first in range(0, count, length))
        return [self.pool.submit(self.encoded, request, share) for share in shares]

    def encoded(self, request: Request, places: range) -> list[Encoded]:
        """In a thread. Raises: DataError for a file that has changed since its segments were indexed."""
        return [self.piece(request, place) or self.whole(request, place) for place in places]

    def piece(self, request: Request, place: int) -> Encoded | None:
        if not self.cuts:
            return None
        index, row = self.folders[request.folder][request.split], request.rows[place]
        size = int(index.heights[row]), int(index.widths[row])
        try:
            piece = self.cuts.piece(request, place, self.path(request, row), size)
        except DataError as error:
            raise DataError(f"{error} {place_of(self.rank, request, row)}") from None
        return piece and Encoded(np.frombuffer(piece.data, np.uint8), True, piece.window)

    def whole(self, request: Request, place: int) -> Encoded:
        path = self.path(request, request.rows[place])
        return Encoded(np.frombuffer(self.stand_ins.get(path, path), np.uint8), False, request.windows[place])

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
        where, size = place_of(self.rank, request, row), (index.widths[row], index.heights[row])
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
        self.pool.shutdown(cancel_futures=True)
        self.stand_ins.clear()
        if self.temporary:
            self.temporary.cleanup()
            self.temporary = None


class DaliRenderer:
    """See training/data/image_tree.py. One pass at a time: a new one ends the one before."""

    def __init__(
        self,
        files: DaliFiles,
        device: torch.device,
        largest_batch: int,
        threads: int,
        policy: Policy = NO_POLICY,
        half: bool = False,
    ) -> None:
        """`policy` of the requests; `half`: normalised float16 instead of uint8."""
        self.files, self.device, self.policy = files, device, policy
        self.black = torch.tensor([-mean / std for mean, std in zip(MEAN, STD, strict=True)] if half else [0, 0, 0])
        self.black = self.black.to(device, torch.float16 if half else torch.uint8)
        cuda = device.type == "cuda"
        self.settings = {"mixed": cuda, "policy": policy, "half": half}
        self.settings |= {"batch_size": largest_batch, "num_threads": threads}
        # None: one operator on a GPU would look for libcuda.so, also on a machine without (DALI#3826).
        self.settings |= {"device_id": (device.index or 0) if cuda else None}
        self.pipeline = None
        self.requests: Iterator[Request] = iter(())
        self.ahead: deque[tuple[Request, list[Future]]] = deque()  # requests whose pictures are being cut
        self.begun: deque[Request] = deque()  # requests in the pipeline
        self.passes = 0

    def enter(self, parts: list[tuple[str, str]]) -> None:
        """Files are read as they are asked for. Raises: DataError for segments that cannot be opened."""
        self.files.enter({folder for folder, _ in parts})

    def build(self) -> None:
        """A pipeline where there is none. Takes 0.3 s, with a policy 2.3 s, and reads no picture, so it is built when
        the renderer is opened: before the clock starts."""
        if self.pipeline is None:
            self.pipeline = pictures(self.next_inputs, **self.settings)
            self.pipeline.build()

    def batches(self, requests: Iterator[Request]) -> Iterator[Tensor]:
        """(B, H, W, 3) uint8 or float16 on the device. Raises: DataError naming a file that cannot be decoded."""
        self.end_pass()
        self.requests, self.passes = requests, self.passes + 1
        this = self.passes
        try:
            while (images := self.next_batch()) is not None:
                yield images
                assert this == self.passes, "a later pass has begun"
        finally:
            if this == self.passes:
                self.end_pass()

    def next_batch(self) -> Tensor | None:
        """The oldest batch in the pipeline; the next request takes its place at once."""
        while True:
            self.build()
            if not self.begun:
                self.pipeline.schedule_run()
            if self.pipeline.empty():
                return None
            try:
                images = self.finished()
            except RuntimeError as error:
                self.take_back(error)
                continue
            self.begun.popleft()
            self.pipeline.schedule_run()
            return images

    def next_inputs(self) -> tuple[list[np.ndarray] | np.ndarray, ...]:
        """Called by the pipeline when it begins a batch. StopIteration ends the pass. Raises: DataError."""
        self.look_ahead()
        if not self.ahead:
            raise StopIteration
        request, shares = self.ahead.popleft()
        encoded = [one for share in shares for one in share.result()]
        self.begun.append(request)
        return inputs_of(request, encoded, self.policy)

    def look_ahead(self) -> None:
        while len(self.ahead) <= AHEAD and (request := next(self.requests, None)):
            self.ahead.append((request, self.files.begun(request)))

    def finished(self) -> Tensor:
        """The oldest batch, copied out of DALI's memory; on a GPU in the order of torch's stream."""
        request, stream = self.begun[0], None
        if self.device.type == "cuda":
            stream = torch.cuda.current_stream(self.device)
        (output,) = self.pipeline.share_outputs(stream)
        shape = (len(request.rows), *request.size, 3)
        if all(sample == shape[1:] for sample in map(tuple, output.shape())):
            # A copy: outputs are DALI's own memory (DALI#5684), which its next batch overwrites.
            images = feed_ndarray(output.as_tensor(), self.empty(shape), cuda_stream=stream)
        else:
            images = self.bordered(output, request, shape, stream)
        self.pipeline.release_outputs()
        return images

    def bordered(self, output, request: Request, shape: tuple[int, ...], stream) -> Tensor:
        """Outputs that reach past their windows, black there."""
        images = self.empty(shape).copy_(self.black)
        tops_lefts = np.maximum(-request.corners, 0)
        for place, (top, left) in enumerate(tops_lefts.tolist()):
            part = feed_ndarray(output[place], self.empty(tuple(output[place].shape())), cuda_stream=stream)
            left = shape[2] - left - part.shape[1] if request.flips[place] else left
            images[place, top : top + part.shape[0], left : left + part.shape[1]] = part
        return images

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape, dtype=self.black.dtype, device=self.device)

    def take_back(self, error: RuntimeError) -> None:
        """A pipeline ends with its first error. Begin its batches again in a new one if the files allow it."""
        self.pipeline = None
        # No sample can be skipped: one damaged file poisons a pipeline (DALI#119, #306).
        if not any([self.files.examine(request) for request in self.begun]):
            raise error
        self.requests = chain(list(self.begun), [request for request, _ in self.ahead], self.requests)
        self.forget()

    def forget(self) -> None:
        """All requests that have begun."""
        for share in chain(*(shares for _, shares in self.ahead)):
            share.cancel()
        self.ahead.clear()
        self.begun.clear()

    def end_pass(self) -> None:
        """Finish and forget what is under way."""
        self.requests = iter(())
        self.forget()
        if self.pipeline is None:
            return
        try:
            self.pipeline.schedule_run()  # meets the end of the requests
            while not self.pipeline.empty():
                self.pipeline.share_outputs()
                self.pipeline.release_outputs()
            self.pipeline.reset()
        except RuntimeError:  # a bad picture that nobody wants any more
            self.pipeline = None

    def close(self) -> None:
        """DALI's memory goes back to the system."""
        self.end_pass()
        self.pipeline = None
        self.files.close()
        # DALI's pools only grow, and a pipeline that is gone gives nothing back by itself (DALI#2070, #3396).
        gc.collect()
        ReleaseUnusedMemory()


def open_renderer(config, folders, env, dtype: torch.dtype, largest_batch: int) -> DaliRenderer:
    coarse = env.device.type == "cuda" and dtype != torch.float32  # fp32 means fp32
    half = config.dali_output == "half" or (config.dali_output == "auto" and coarse)
    threads = max(1, worker_count(config))
    files = DaliFiles(folders, env.rank, threads, Cuts(config))
    renderer = DaliRenderer(files, env.device, largest_batch, threads, policy_of(config), half)
    renderer.build()
    return renderer
