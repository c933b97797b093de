"""Pictures from a packed tree: nothing is decoded. On a CPU threads cut and resize views of the memory map (torch lets
go of the interpreter there); for a GPU they only cut, and the device resizes the whole batch."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from data_prep.packed_tree import PackedTree, open_packed_tree
from training.device import worker_count
from training.policy import apply_torchvision
from training.render_torchvision import rendered
from training.requests import Request
from training.resample import resampled

PREFETCH = 3  # batches


class PackedRenderer:
    """See training.loader_tree.Renderer. Every batch is cut into one share per thread."""

    def __init__(self, trees: dict[str, dict[str, PackedTree]], workers: int, device: torch.device) -> None:
        self.trees, self.workers, self.device = trees, max(1, workers), device
        self.pool = ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,))

    def batches(self, requests: Iterator[Request]) -> Iterator[Tensor]:
        waiting: deque[tuple[Request, Tensor, list[Future]]] = deque()
        try:
            for request in requests:
                waiting.append(self.begun(request))
                if len(waiting) > PREFETCH:
                    yield self.finished(*waiting.popleft())
            while waiting:
                yield self.finished(*waiting.popleft())
        finally:  # an abandoned pass
            for _, _, shares in waiting:
                for share in shares:
                    share.cancel()

    def begun(self, request: Request) -> tuple[Request, Tensor, list[Future]]:
        out = torch.empty(len(request.rows), *request.size, 3, dtype=torch.uint8)
        return request, out, self.shared(self.fill, request, out)

    def shared(self, work, request: Request, out: Tensor) -> list[Future]:
        shares = [range(first, len(request.rows), self.workers) for first in range(self.workers)]
        return [self.pool.submit(work, request, out, share) for share in shares]

    def fill(self, request: Request, out: Tensor, places: range) -> None:
        tree = self.trees[request.folder][request.split]
        for place in places:
            out[place] = rendered(tree.image(request.rows[place]), request, place)

    def finished(self, request: Request, out: Tensor, shares: list[Future]) -> Tensor:
        for share in shares:
            share.result()
        return out

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


class DeviceRenderer(PackedRenderer):
    """Windows travel to the device, padded to the largest of the batch (with whatever the memory holds: it counts for
    nothing), and are resized there together."""

    def begun(self, request: Request) -> tuple[Request, Tensor, list[Future]]:
        largest = request.windows[:, 2:].max(0).tolist()
        out = torch.empty(len(request.rows), *largest, 3, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        return request, out, self.shared(self.fill, request, out)

    def fill(self, request: Request, out: Tensor, places: range) -> None:
        tree = self.trees[request.folder][request.split]
        for place in places:
            top, left, height, width = request.windows[place].tolist()
            window = tree.image(request.rows[place])[top : top + height, left : left + width]
            out[place, :height, :width] = torch.from_numpy(window)

    def finished(self, request: Request, out: Tensor, shares: list[Future]) -> Tensor:
        windows = super().finished(request, out, shares).to(self.device, non_blocking=True)
        return on_device(windows, request)


class ResidentRenderer(DeviceRenderer):
    """All pixels live on the device; windows are gathered there."""

    def __init__(self, trees: dict[str, dict[str, PackedTree]], workers: int, device: torch.device) -> None:
        super().__init__(trees, workers, device)
        self.pixels = {
            (folder, split): torch.from_numpy(np.array(tree.pixels)).to(device)
            for folder, splits in trees.items()
            for split, tree in splits.items()
        }

    def begun(self, request: Request) -> tuple[Request, Tensor, list[Future]]:
        return request, gathered(self.pixels[request.folder, request.split], self.tree_of(request), request), []

    def tree_of(self, request: Request) -> PackedTree:
        return self.trees[request.folder][request.split]


def gathered(pixels: Tensor, tree: PackedTree, request: Request) -> Tensor:
    """The windows of a request out of flat `pixels` (bytes,) uint8: (B, tallest, widest, 3); what lies beyond a window
    is whatever follows it and counts for nothing."""
    height, width = request.windows[:, 2:].max(0).tolist()
    device = pixels.device
    tops, lefts = (torch.from_numpy(request.windows[:, i].astype(np.int64)).to(device) for i in (0, 1))
    strides = torch.from_numpy(tree.widths[request.rows].astype(np.int64)).to(device)
    first = torch.from_numpy(tree.offsets[request.rows] // 3).to(device) + tops * strides + lefts
    rows = first[:, None] + torch.arange(height, device=device) * strides[:, None]
    places = rows[:, :, None] + torch.arange(width, device=device)  # of whole pixels: an index is 8 bytes
    return pixels.reshape(-1, 3)[places.clamp_(max=len(pixels) // 3 - 1)]


def on_device(windows: Tensor, request: Request) -> Tensor:
    """Windows (B, H, W, 3) uint8 on the device, resized, cut, mirrored and changed as the request says."""
    device = windows.device
    lengths, resized, corners, flips = (
        torch.from_numpy(part).to(device, non_blocking=True)
        for part in (request.windows[:, 2:].copy(), request.resized, request.corners, request.flips)
    )
    images = resampled(windows, lengths, request.size, resized, corners)
    images = torch.where(flips[:, None, None, None], images.flip(2), images)
    if request.policy is None:
        return images
    planes = images.permute(0, 3, 1, 2)
    changed = [apply_torchvision(image, row) for image, row in zip(planes, request.policy, strict=True)]
    return torch.stack(changed).permute(0, 2, 3, 1).contiguous()  # as the loader promises: channels_last


def mapped(tree: PackedTree) -> PackedTree:
    """Copy-on-write, because torch takes writable arrays only; nobody writes."""
    return replace(tree, pixels=np.memmap(tree.pixels.filename, np.uint8, "c"))


def in_ram(tree: PackedTree) -> PackedTree:
    return replace(tree, pixels=np.array(tree.pixels))


def open_renderer(config, folders, env, dtype, largest_batch) -> PackedRenderer:
    place = in_ram if config.packed_in == "ram" else mapped
    trees = {folder: {split: place(tree) for split, tree in open_packed_tree(folder).items()} for folder in folders}
    if config.packed_in == "device":
        return ResidentRenderer(trees, worker_count(config), env.device)
    kind = DeviceRenderer if env.device.type == "cuda" else PackedRenderer
    return kind(trees, worker_count(config), env.device)
