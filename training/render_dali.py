"""The DALI renderer: one pipeline for the whole run, fed with requests. DALI reads, decodes, cuts and resizes in its
own threads, some batches ahead.

A file cut short is noticed when a window reaches the missing part; data_prep's check reads all of every file.
"""

import gc
from collections import deque
from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch
from nvidia.dali.backend import ReleaseUnusedMemory
from nvidia.dali.plugin.pytorch import feed_ndarray
from torch import Tensor

from training.dali_files import DaliFiles
from training.dali_graph import pictures
from training.device import worker_count
from training.policy import NAMES, strengths
from training.requests import Request

OPERATIONS = {"none": 0, "trivialaugment": 1, "randaugment": 2}  # of a policy, per picture


class DaliRenderer:
    """See training/loader_tree.py. One pass at a time: a new one ends the one before."""

    def __init__(
        self,
        files: DaliFiles,
        device: torch.device,
        largest_batch: int,
        threads: int,
        operations: int = 0,
        half: bool = False,
    ) -> None:
        """`operations` per picture in the requests' policies; `half`: normalised float16 instead of uint8."""
        self.files, self.device, self.operations = files, device, operations
        self.format = torch.float16 if half else torch.uint8
        cuda = device.type == "cuda"
        self.settings = {"mixed": cuda, "operations": operations, "half": half}
        self.settings |= {"batch_size": largest_batch, "num_threads": threads}
        self.settings |= {"device_id": (device.index or 0) if cuda else None}
        self.pipeline = None
        self.requests: Iterator[Request] = iter(())
        self.begun: deque[Request] = deque()  # requests in the pipeline
        self.passes = 0

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
            if self.pipeline is None:
                self.pipeline = pictures(self.next_inputs, **self.settings)
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
        """Called by the pipeline when it begins a batch. StopIteration ends the pass."""
        request = next(self.requests)
        self.begun.append(request)
        count = len(request.rows)
        cut = np.concatenate([request.corners, np.tile(request.size, (count, 1))], 1).astype(np.int32)
        inputs = (self.files.names(request), request.windows, request.resized.astype(np.float32), cut)
        inputs += (request.flips.astype(np.int32),)
        if not self.operations:
            return inputs
        policy = np.zeros((count, self.operations, 3), np.int32) if request.policy is None else request.policy
        return (*inputs, policy[..., 0] % len(NAMES), strengths(policy, request.size))

    def finished(self) -> Tensor:
        """The oldest batch, copied out of DALI's memory; on a GPU in the order of torch's stream."""
        stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
        (output,) = self.pipeline.share_outputs(stream)
        tensor = output.as_tensor()
        images = torch.empty(tensor.shape(), dtype=self.format, device=self.device)
        feed_ndarray(tensor, images, cuda_stream=stream)
        self.pipeline.release_outputs()
        return images

    def take_back(self, error: RuntimeError) -> None:
        """A pipeline ends with its first error. Begin its batches again in a new one if the files allow it."""
        self.pipeline = None
        if not any([self.files.examine(request) for request in self.begun]):
            raise error
        self.requests = chain(list(self.begun), self.requests)
        self.begun.clear()

    def end_pass(self) -> None:
        """Finish and forget what is under way."""
        self.requests = iter(())
        self.begun.clear()
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
        gc.collect()
        ReleaseUnusedMemory()


def open_renderer(config, folders, env, dtype: torch.dtype, largest_batch: int) -> DaliRenderer:
    half = config.dali_output == "half" or (config.dali_output == "auto" and env.device.type == "cuda")
    threads = max(1, worker_count(config))
    return DaliRenderer(
        DaliFiles(folders, env.rank), env.device, largest_batch, threads, OPERATIONS[config.policy], half
    )
