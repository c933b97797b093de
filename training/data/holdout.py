"""--holdout: a validation part split off the training images, so that the dataset's own validation images stay unseen.

A pure function of the seed and the labels: the same for every loader, rank and number of workers.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from data_prep import Manifest
from training.config.config import Config
from training.config.own_code import is_own
from training.errors import ConfigError

SPLITS = ("train", "validation")
HOLDOUT = 7  # random stream beside those of training.data.sample_plan


class Source(NamedTuple):
    """Where the images of a split lie: a stored split, and the rows of it in their order; None: all."""

    split: str
    rows: np.ndarray | None = None


def stored_splits(config: Config) -> tuple[str, ...]:
    """The splits of the dataset that a run may open."""
    return ("train",) if config.holdout else SPLITS


def sources(config: Config, labels: np.ndarray) -> dict[str, Source]:
    """By split of the run. `labels`: (N,) int64 of all stored training images. Raises: ConfigError."""
    if not config.holdout:
        return {split: Source(split) for split in SPLITS}
    counts = held_counts(config.holdout, np.bincount(labels).tolist())
    keys = np.random.Generator(np.random.Philox(np.random.SeedSequence([config.seed, HOLDOUT]))).random(len(labels))
    is_held = np.zeros(len(labels), bool)
    for label, count in enumerate(counts):
        rows = np.flatnonzero(labels == label)
        is_held[rows[np.argsort(keys[rows], kind="stable")[:count]]] = True
    return {
        "train": Source("train", np.flatnonzero(~is_held)),
        "validation": Source("train", np.flatnonzero(is_held)),
    }


def held_counts(holdout: float, per_class: list[int]) -> list[int]:
    """How many images of each class are held out: its share of `holdout`, rounded so that the sum is right (largest
    remainders first)."""
    total = sum(per_class)
    wanted = round(holdout * total) if holdout < 1 else int(holdout)
    counts = [wanted * images // total for images in per_class]
    by_remainder = sorted(range(len(counts)), key=lambda label: (-(wanted * per_class[label] % total), label))
    for label in by_remainder[: wanted - sum(counts)]:
        counts[label] += 1
    return counts


def with_holdout(config: Config, dataset: Manifest, loader: str) -> Manifest:
    """The dataset as a run with --holdout sees it: its two splits are parts of the training images. Raises:
    ConfigError for a part that lacks a class, and for a loader that knows nothing of parts."""
    if not config.holdout:
        return dataset
    flag = f"--holdout {config.holdout:.15g}"
    if is_own(loader):
        raise ConfigError(f"{flag}: --loader {loader} chooses its images itself. Use a loader of this project")
    train = dataset.splits["train"]
    if config.holdout >= train.images:
        raise ConfigError(f"{flag}: there are {train.images} training images. Hold out fewer")
    held = held_counts(config.holdout, list(train.per_class))
    kept = [images - count for images, count in zip(train.per_class, held, strict=True)]
    for name, images, left, count in zip(dataset.classes, train.per_class, kept, held, strict=True):
        if images and not (left and count):
            lacking, remedy = ("training", "fewer") if not left else ("validation", "more")
            raise ConfigError(f"{flag}: leaves no {lacking} image of class {name} ({images} images). Hold out {remedy}")
    parts = {"train": kept, "validation": held}
    # The files are those of the stored training images in both: nothing else is opened.
    return replace(
        dataset,
        splits={name: replace(train, images=sum(part), per_class=tuple(part)) for name, part in parts.items()},
    )
