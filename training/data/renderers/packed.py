"""Pictures from a packed tree: nothing is decoded. On a CPU threads cut and resize views of the memory map (torch lets
go of the interpreter there); for a GPU they only cut, and the device resizes the whole batch."""

from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from data_prep.formats.packed_tree import PackedTree, open_packed_tree
from training.config.config import Config
from training.data.holdout import sources, stored_splits
from training.data.renderers.base import Request, ThreadedRenderer
from training.data.renderers.picture import planes_of, put_picture, window_of
from training.distributed.env import worker_count


class PackedRenderer(ThreadedRenderer):
    """See training.data.renderers.base.Renderer."""

    def __init__(self, workers: int, device: torch.device, config: Config) -> None:
        super().__init__(workers, device)
        self.config = config
        self.trees: dict[tuple[str, str], PackedTree] = {}  # by folder and split

    def enter(self, parts: list[tuple[str, str]]) -> None:
        """The old folders' memory is free before the new ones are read."""
        self.trees = {part: tree for part, tree in self.trees.items() if part in parts}
        missing = [part for part in parts if part not in self.trees]
        splits = stored_splits(self.config)
        opened = {folder: open_packed_tree(folder, splits=splits) for folder in {folder for folder, _ in missing}}
        for folder, split in missing:
            self.trees[folder, split] = self.part(folder, split, opened[folder])

    def part(self, folder: str, split: str, stored: dict[str, PackedTree]) -> PackedTree:
        """The pictures of a split of the run. Two parts of one file have its pixels in common."""
        source = sources(self.config, stored["train"].labels)[split]
        tree, rows = stored[source.split], source.rows
        if rows is None:
            return self.placed(tree)
        other = next((self.trees[part] for part in self.trees if part[0] == folder), None)
        placed = replace(tree, pixels=other.pixels) if other else self.placed(tree)
        numbers = {name: getattr(tree, name)[rows] for name in ("offsets", "heights", "widths", "labels")}
        return replace(placed, **numbers)

    def placed(self, tree: PackedTree) -> PackedTree:
        return in_ram(tree) if self.config.packed_in == "ram" else mapped(tree)

    def tree_of(self, request: Request) -> PackedTree:
        return self.trees[request.folder, request.split]

    def fill(self, request: Request, out: Tensor, places: range) -> None:
        tree, planes = self.tree_of(request), planes_of(out, places)
        for place in places:
            put_picture(window_of(tree.image(request.rows[place]), request, place), request, place, planes[place])


class DeviceRenderer(PackedRenderer):
    """Windows travel to the device, padded to the largest of the batch (with whatever the memory holds: it counts for
    nothing), and are resized there together. Some batches the threads make whole, see by_threads."""

    def begun(self, request: Request) -> tuple[Request, Tensor, list[Future]]:
        if by_threads(request):
            return super().begun(request)
        largest = request.windows[:, 2:].max(0).tolist()
        out = torch.empty(len(request.rows), *largest, 3, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        return request, out, self.shared(self.fill, request, out)

    def fill(self, request: Request, out: Tensor, places: range) -> None:
        if by_threads(request):
            return super().fill(request, out, places)
        tree = self.tree_of(request)
        for place in places:
            window = window_of(tree.image(request.rows[place]), request, place)
            out[place, : window.shape[0], : window.shape[1]] = torch.from_numpy(window)

    def finished(self, request: Request, out: Tensor, shares: list[Future]) -> Tensor:
        images = super().finished(request, out, shares)
        return images if by_threads(request) else on_device(images, request)


class ResidentRenderer(DeviceRenderer):
    """All pixels live on the device; windows are gathered there."""

    def __init__(self, workers: int, device: torch.device, config: Config) -> None:
        super().__init__(workers, device, config)
        self.pixels: dict[tuple[str, str], Tensor] = {}  # by folder and split

    def enter(self, parts: list[tuple[str, str]]) -> None:
        self.pixels = {part: pixels for part, pixels in self.pixels.items() if part in parts}
        super().enter(parts)
        for part in parts:
            if part not in self.pixels:
                stored = self.trees[part].pixels
                other = next((there for there in self.pixels if self.trees[there].pixels is stored), None)
                self.pixels[part] = self.pixels[other] if other else torch.from_numpy(np.array(stored)).to(self.device)

    def begun(self, request: Request) -> tuple[Request, Tensor, list[Future]]:
        if by_threads(request):
            return super().begun(request)
        return request, gathered(self.pixels[request.folder, request.split], self.tree_of(request), request), []


def by_threads(request: Request) -> bool:
    """Centre crops: their windows are whole pictures of any shape, and a tall one beside a wide one would pad a batch
    to gigabytes. Batches with a policy: a device would get its operations image by image, thousands in a batch."""
    return request.policy is not None or is_centred(request)


def is_centred(request: Request) -> bool:
    """Resized to more than its output: see ImagePlan.centred."""
    return bool((request.resized != request.size).any())


def gathered(pixels: Tensor, tree: PackedTree, request: Request) -> Tensor:
    """The windows of a request out of flat `pixels` (bytes,) uint8: (B, tallest, widest, 3); what lies beyond a window
    is whatever follows it and counts for nothing. Where they lie is one copy, for which nothing waits."""
    height, width = request.windows[:, 2:].max(0).tolist()
    device = pixels.device
    tops, lefts = request.windows[:, :2].astype(np.int64).T
    widths = tree.widths[request.rows].astype(np.int64)
    numbers = np.stack([widths, tree.offsets[request.rows] // 3 + tops * widths + lefts])
    strides, first = torch.from_numpy(numbers).to(device, non_blocking=True)
    rows = first[:, None] + torch.arange(height, device=device) * strides[:, None]
    places = rows[:, :, None] + torch.arange(width, device=device)  # of whole pixels: an index is 8 bytes
    return pixels.reshape(-1, 3)[places.clamp_(max=len(pixels) // 3 - 1)]


def on_device(windows: Tensor, request: Request) -> Tensor:
    """Windows (B, H, W, 3) uint8 on the device, resized, cut and mirrored as the request says."""
    device = windows.device
    lengths, resized, corners, flips = (
        torch.from_numpy(part).to(device, non_blocking=True)
        for part in (request.windows[:, 2:].copy(), request.resized, request.corners, request.flips)
    )
    images = resampled(windows, lengths, request.size, resized, corners, request.cubic)
    return torch.where(flips[:, None, None, None], images.flip(2), images)


def mapped(tree: PackedTree) -> PackedTree:
    """Copy-on-write, because torch takes writable arrays only; nobody writes."""
    return replace(tree, pixels=np.memmap(tree.pixels.filename, np.uint8, "c"))


def in_ram(tree: PackedTree) -> PackedTree:
    return replace(tree, pixels=np.array(tree.pixels))


def open_renderer(config, folders, env, dtype, largest_batch) -> PackedRenderer:
    resident = config.packed_in == "device"
    kind = ResidentRenderer if resident else DeviceRenderer if env.device.type == "cuda" else PackedRenderer
    return kind(worker_count(config), env.device, config)


def resampled(
    windows: Tensor, lengths: Tensor, size: tuple[int, int], resized: Tensor, corners: Tensor, cubic: bool = False
) -> Tensor:
    """windows (B, H, W, 3) uint8, of which `lengths` (B, 2) rows and columns count; each is resized to `resized` (B, 2)
    and cut to `size` from `corners` (B, 2) on -> (B, *size, 3) uint8. Black outside."""
    batch, height, width = windows.shape[:3]
    rows = weights(lengths[:, 0], resized[:, 0], corners[:, 0], size[0], height, cubic)
    columns = weights(lengths[:, 1], resized[:, 1], corners[:, 1], size[1], width, cubic)
    half = torch.bmm(rows, windows.to(rows.dtype).reshape(batch, height, width * 3))
    half = half.reshape(batch, size[0], width, 3).transpose(1, 2).reshape(batch, width, size[0] * 3)
    whole = torch.bmm(columns, half).reshape(batch, size[1], size[0], 3).transpose(1, 2)
    return whole.round_().clamp_(0, 255).to(torch.uint8, memory_format=torch.contiguous_format)


def weights(length: Tensor, resized: Tensor, corner: Tensor, size: int, longest: int, cubic: bool) -> Tensor:
    """(B, size, longest) float32: how much of each source pixel is in each output pixel. A triangle, or Keys' filter
    twice as wide, scaled to the larger of a source and an output pixel, half-pixel centres, cut off at the border:
    torch's antialias=True."""
    scale = (length / resized)[:, None, None]
    support = scale.clamp_min(1.0)
    place = corner[:, None] + torch.arange(size, device=length.device)
    centre = (place[:, :, None] + 0.5) * scale - 0.5
    source = torch.arange(longest, device=length.device)
    distance = (source - centre).abs() / support
    shape = (keys(distance) if cubic else (1 - distance).clamp_min(0)) * (source < length[:, None, None])
    inside = (place >= 0) & (place < resized[:, None])
    return shape / shape.sum(2, keepdim=True).clamp_min(1e-9) * inside[:, :, None]


def keys(distance: Tensor) -> Tensor:
    """Cubic convolution with a = -0.5, which Pillow and torch's antialiased filter use (R. Keys, 1981)."""
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0))
