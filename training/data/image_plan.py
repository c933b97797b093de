"""The sample plan of image trees: requests for every batch of an epoch and of a validation, as pure functions.

The same for every loader, rank and number of workers; random numbers belong to the picture, not to its place.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data_prep.formats.image_index import ImageIndex
from phases import DataPhase
from training.data.auto_augment import NO_POLICY, Policy, draw
from training.data.crops import (
    TRIES,
    batches_by_shape,
    bucketed_shapes,
    centred_corners,
    random_windows,
    resized_sizes,
    shapes_2018,
    short_side,
    whole_windows,
)
from training.data.renderers.base import Request
from training.data.sample_plan import ERASING, SamplePlan
from training.data.transforms import random_boxes

WINDOW, POLICY = 4, 5  # random streams beside those of training.data.sample_plan


class ImageEpoch(NamedTuple):
    """What is drawn for an epoch of N places: 25 bytes a place without policy and boxes."""

    index: np.ndarray  # (N,) int32 by place: rows of the index
    slot: np.ndarray  # (N,) int32 by place: which of the draws below belong here
    flip: np.ndarray  # (N,) bool by place
    windows: np.ndarray  # (N, 4) int32 by slot
    policy: np.ndarray | None  # (N, K, 2) float32 by slot
    boxes: np.ndarray | None  # (N, 4) int32 by slot


@dataclass(frozen=True)
class ImagePlan:
    """`val_resize`: short side before the centre crop, in sizes, where the phase names none; `rect_rule` bucketed |
    2018; `erasing`: probability of a box; `cubic`, `val_cubic`: resizing."""

    samples: SamplePlan
    policy: Policy = NO_POLICY
    val_resize: float = 1.14
    rect_rule: str = "bucketed"
    erasing: float = 0.0
    cubic: bool = False
    val_cubic: bool = False

    def epoch(self, index: ImageIndex, phase: DataPhase, epoch: int) -> ImageEpoch:
        """Depends on the phase's `sz`, `min_scale` and `aug`."""
        order = self.samples.epoch(epoch)
        by_slot = np.empty_like(order.index)
        by_slot[order.slot] = order.index
        windows = self.windows(index, phase.min_scale, epoch, by_slot)
        policy, boxes = self.policies(len(by_slot), phase, epoch), self.boxes(len(by_slot), phase, epoch)
        return ImageEpoch(order.index.astype(np.int32), order.slot.astype(np.int32), order.flip, windows, policy, boxes)

    def train(
        self, folder: str, index: ImageIndex, phase: DataPhase, drawn: ImageEpoch, places: Iterator[slice]
    ) -> Iterator[Request]:
        """The batches at `places` of the epoch's order."""
        size = (phase.sz, phase.sz)
        for place in places:
            rows, slots = drawn.index[place].astype(np.int64), drawn.slot[place]
            resized = np.full((len(rows), 2), phase.sz, np.int32)
            yield Request(
                folder,
                "train",
                rows,
                index.labels[rows],
                drawn.windows[slots],
                resized,
                np.zeros_like(resized),
                size,
                drawn.flip[place],
                drawn.policy[slots] if drawn.policy is not None else None,
                drawn.boxes[slots] if drawn.boxes is not None else None,
                self.cubic,
            )

    def windows(self, index: ImageIndex, min_scale: float, epoch: int, by_slot: np.ndarray | None = None) -> np.ndarray:
        """(N, 4) int32 by slot, whose picture numbers are `by_slot` (default: the slots themselves). A copy of the
        dataset at another size gets the same draws."""
        generator = self.samples.generator(WINDOW, epoch)
        draws = (generator.random((len(index.labels), 4)) for _ in range(TRIES))
        sizes = (index.heights, index.widths)
        heights, widths = sizes if by_slot is None else (side[by_slot] for side in sizes)
        return random_windows(heights, widths, min_scale, draws)

    def policies(self, images: int, phase: DataPhase, epoch: int) -> np.ndarray | None:
        """(N, K, 2) float32 by slot."""
        if self.policy.name == "none" or not phase.aug:
            return None
        return draw(self.policy, self.samples.generator(POLICY, epoch), images, (phase.sz, phase.sz), phase.aug)

    def boxes(self, images: int, phase: DataPhase, epoch: int) -> np.ndarray | None:
        """(N, 4) int32 by slot."""
        probability = self.erasing * phase.aug
        generator = self.samples.generator(ERASING, epoch)
        return random_boxes(probability, generator, images, (phase.sz, phase.sz)) if probability else None

    def validation(self, folder: str, index: ImageIndex, phase: DataPhase) -> list[Request]:
        """Every picture once, in batches of one shape, whatever the number of ranks."""
        everything = np.arange(len(index.labels))
        if not phase.rect_val:
            shapes = np.full((len(everything), 2), phase.val_sz)
            batches = [everything[first : first + phase.val_bs] for first in range(0, len(everything), phase.val_bs)]
        elif self.rect_rule == "bucketed":
            shapes = bucketed_shapes(index.heights, index.widths, phase.val_sz)
            batches = batches_by_shape(shapes, phase.val_bs)
        else:
            order, shapes = shapes_2018(index.heights, index.widths, phase.val_sz, phase.val_bs)
            batches = [order[first : first + phase.val_bs] for first in range(0, len(order), phase.val_bs)]
        short = short_side(phase.val_resize or self.val_resize, phase.val_sz)
        return [self.centred(folder, "validation", index, rows, short, shapes[rows[0]]) for rows in batches]

    def still(
        self, folder: str, split: str, index: ImageIndex, phase: DataPhase, rows: np.ndarray, size: int
    ) -> Request:
        """Pictures of either split as a square validation of `size` pixels would show them."""
        short = short_side(phase.val_resize or self.val_resize, size)
        return self.centred(folder, split, index, rows, short, np.array([size, size]))

    def centred(
        self, folder: str, split: str, index: ImageIndex, rows: np.ndarray, short: int, shape: np.ndarray
    ) -> Request:
        """Resized to the short side `short` in pixels, then the centre of `shape` (height, width)."""
        heights, widths = index.heights[rows], index.widths[rows]
        resized = resized_sizes(heights, widths, short)
        size = (int(shape[0]), int(shape[1]))
        return Request(
            folder,
            split,
            rows,
            index.labels[rows],
            whole_windows(heights, widths),
            resized,
            centred_corners(resized, size),
            size,
            np.zeros(len(rows), bool),
            cubic=self.val_cubic,
        )
