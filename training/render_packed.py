"""Pictures from a packed tree: nothing is decoded. On a CPU threads cut and resize views of the memory map (torch lets
go of the interpreter there); for a GPU they only cut, and the device resizes the whole batch."""

from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from data_prep.packed_tree import PackedTree, open_packed_tree
from training.device import worker_count
from training.picture import put_picture, window_of
from training.policy import apply_torchvision
from training.requests import Request
from training.resample import resampled
from training.threaded import ThreadedRenderer


class PackedRenderer(ThreadedRenderer):
    """See training.loader_tree.Renderer."""

    def __init__(self, trees: dict[str, dict[str, PackedTree]], workers: int, device: torch.device) -> None:
        super().__init__(workers, device)
        self.trees = trees

    def fill(self, request: Request, out: Tensor, places: range) -> None:
        tree, planes = self.trees[request.folder][request.split], out.permute(0, 3, 1, 2)
        for place in places:
            put_picture(window_of(tree.image(request.rows[place]), request, place), request, place, planes)


class DeviceRenderer(PackedRenderer):
    """Windows travel to the device, padded to the largest of the batch (with whatever the memory holds: it counts for
    nothing), and are resized there together. Centre crops are made by the threads: their windows are whole pictures of
    any shape, and a tall one beside a wide one would pad a batch to gigabytes."""

    def begun(self, request: Request) -> tuple[Request, Tensor, list[Future]]:
        if is_centred(request):
            return super().begun(request)
        largest = request.windows[:, 2:].max(0).tolist()
        out = torch.empty(len(request.rows), *largest, 3, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        return request, out, self.shared(self.fill, request, out)

    def fill(self, request: Request, out: Tensor, places: range) -> None:
        if is_centred(request):
            return super().fill(request, out, places)
        tree = self.trees[request.folder][request.split]
        for place in places:
            window = window_of(tree.image(request.rows[place]), request, place)
            out[place, : window.shape[0], : window.shape[1]] = torch.from_numpy(window)

    def finished(self, request: Request, out: Tensor, shares: list[Future]) -> Tensor:
        images = super().finished(request, out, shares)
        return images if is_centred(request) else on_device(images, request)


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
        if is_centred(request):
            return super().begun(request)
        return request, gathered(self.pixels[request.folder, request.split], self.tree_of(request), request), []

    def tree_of(self, request: Request) -> PackedTree:
        return self.trees[request.folder][request.split]


def is_centred(request: Request) -> bool:
    """Resized to more than its output: see ImagePlan.centred."""
    return bool((request.resized != request.size).any())


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
    images = resampled(windows, lengths, request.size, resized, corners, request.cubic)
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
