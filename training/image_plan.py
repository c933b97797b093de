"""The sample plan of image trees: requests for every batch of an epoch and of a validation, as pure functions.

The same for every loader, rank and number of workers; random numbers belong to the picture, not to its place.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data_prep.image_index import ImageIndex
from phases import DataPhase
from training.plan import SamplePlan
from training.policy import draw
from training.rectangles import batches_by_shape, bucketed_shapes, shapes_2018
from training.requests import Request
from training.windows import TRIES, centred_corners, random_windows, resized_sizes, whole_windows

WINDOW, POLICY = 4, 5  # random streams beside those of training.plan


@dataclass(frozen=True)
class ImagePlan:
    """`policy` none | trivialaugment | randaugment; `val_resize`: short side before the centre crop, in sizes;
    `rect_rule` bucketed | 2018."""

    samples: SamplePlan
    policy: str = "none"
    val_resize: float = 1.14
    rect_rule: str = "bucketed"

    def train(
        self, folder: str, index: ImageIndex, phase: DataPhase, epoch: int, places: Iterator[slice]
    ) -> Iterator[Request]:
        """The batches at `places` of the epoch's order."""
        order = self.samples.epoch(epoch)
        windows = self.windows(index, phase.min_scale, epoch)
        policy = self.policies(len(index.labels), epoch)
        for place in places:
            rows = order.index[place]
            resized = np.full((len(rows), 2), phase.sz, np.int32)
            corners, size = np.zeros_like(resized), (phase.sz, phase.sz)
            chosen = policy[rows] if policy is not None else None
            yield Request(
                folder,
                "train",
                rows,
                index.labels[rows],
                windows[rows],
                resized,
                corners,
                size,
                order.flip[place],
                chosen,
            )

    def windows(self, index: ImageIndex, min_scale: float, epoch: int) -> np.ndarray:
        """(N, 4) int32 by picture number. A copy of the dataset at another size gets the same draws."""
        generator = self.samples.generator(WINDOW, epoch)
        draws = (generator.random((len(index.labels), 4)) for _ in range(TRIES))
        return random_windows(index.heights, index.widths, min_scale, draws)

    def policies(self, images: int, epoch: int) -> np.ndarray | None:
        """(N, K, 3) int32 by picture number."""
        return None if self.policy == "none" else draw(self.policy, self.samples.generator(POLICY, epoch), images)

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
        return [self.centred(folder, "validation", index, rows, phase.val_sz, shapes[rows[0]]) for rows in batches]

    def centred(
        self, folder: str, split: str, index: ImageIndex, rows: np.ndarray, short: int, shape: np.ndarray
    ) -> Request:
        """Short side to int(val_resize * short), then the centre of `shape` (height, width): the 2018 rule."""
        heights, widths = index.heights[rows], index.widths[rows]
        resized = resized_sizes(heights, widths, int(self.val_resize * short))
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
        )
