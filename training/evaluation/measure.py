"""One way of measuring weights: each combination of size, shape and test-time augmentation, on every image once.

All counts are made in fp32 and, near a tie, in float64 (training.engine.near_ties), so that they depend neither on the
batch nor on the number of ranks.
"""

import copy
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from data_prep import Manifest
from dawn.runlog.records import Validation
from phases import DataPhase, Schedule
from training.config.config import Config
from training.config.own_code import is_own, said
from training.data.crops import BUCKET
from training.data.dataset import checked_dataset, folders_of, index_of, loader_name
from training.data.image_tree import TreeLoader
from training.data.loader import Loader, open_loader
from training.distributed.env import Env
from training.engine.evaluate import VIEWS, evaluate
from training.engine.near_ties import Referee
from training.engine.precision import Precision
from training.errors import ConfigError
from training.models.build import trial_device
from training.models.flops import FLOPS_PER_MULTIPLY_ADD, multiply_adds
from training.models.outputs import logits_of


class Way(NamedTuple):
    """One combination. `size`: pixels of the short side."""

    size: int
    shape: str  # of dawn.runlog.evaluations.SHAPES
    tta: str  # of VIEWS, as --tta


@dataclass(frozen=True)
class Subject:
    """Weights in their network: fp32, on the CPU, in evaluation mode. `config` of the network; its settings of training
    do not matter. `mean` and `std` (3,) in 0..255: what its images have to be normalised with, None: as the loader
    does. `columns`: of its logits, those of the dataset's classes; None: all."""

    network: nn.Module
    config: Config
    weights: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    columns: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Pictures:
    """Where validation images come from: `config` names the dataset and the loader, `phase` the folder, the batch and
    the resizing."""

    config: Config
    phase: DataPhase
    dataset: Manifest

    @property
    def loader(self) -> str:
        return loader_name(self.config, only(self.phase))

    @property
    def folder(self) -> str:
        return folders_of(self.config, only(self.phase))[0]

    @property
    def has_rectangles(self) -> bool:
        """Whether the loader shows the images of a tree in shapes of their own."""
        return not is_own(self.loader) and self.loader != "memory"

    def has_oblong_images(self) -> bool:
        """Whether rectangles would show other pixels than squares."""
        if not self.has_rectangles:
            return False
        index = index_of(self.config, self.folder)["validation"]
        return not np.array_equal(index.heights, index.widths)

    @property
    def resize(self) -> float | None:
        """Short side before the crop, in sizes; None: the loader does not cut."""
        return (self.phase.val_resize or self.config.val_resize) if self.has_rectangles else None

    @property
    def filter(self) -> str:
        return self.config.val_interpolation


class Measured(NamedTuple):
    """`flops`: of an image, a multiply-add counted as two; `seconds`: of the whole pass, the loader's included."""

    way: Way
    seen: Validation
    flops: float
    seconds: float


def open_pictures(config: Config, phase: DataPhase) -> Pictures:
    """After every check of the dataset. Raises: ConfigError, DataError."""
    loader = "auto" if config.loader == "synthetic" else config.loader
    config = replace(config, loader=loader, **WITHOUT_TRAINING)
    phase = replace(phase, epoch=0, bs=1, trndir=phase.valdir, rect_val=False)
    return Pictures(config, phase, checked_dataset(config, only(phase)))


WITHOUT_TRAINING: dict[str, Any] = {  # what would be checked against training images, which nobody looks at here
    "shift": 0,
    "cutout": 0,
    "brightness": 0.0,
    "contrast": 0.0,
    "antialias": True,
    "policy": "none",
    "random_erasing": 0.0,
    "repeated_augmentation": 1,
    "flip": "random",
    "ema_decay": 0.0,
    "sync_bn": False,
}


def only(phase: DataPhase) -> Schedule:
    return Schedule((phase,), (), (), 1)


def measured(
    subjects: list[Subject], pictures: Pictures, ways: list[Way], env: Env, warn: Callable[[str], None]
) -> Iterator[Measured]:
    """Every way of the first of `subjects`, which have networks of one make, then of the next; on all ranks alike.
    Raises: ConfigError, when it is called, for a size that the network cannot take."""
    loader = open_loader(pictures.config, only(pictures.phase), pictures.dataset, env, torch.float32)
    try:
        flops = env.group.together(lambda: costs(subjects[0], loader, pictures.phase, ways))
    except BaseException:
        loader.close()
        raise
    return passes(subjects, pictures.phase, flops, loader, env, warn)


def passes(
    subjects: list[Subject],
    phase: DataPhase,
    flops: dict[Way, float],
    loader: Loader,
    env: Env,
    warn: Callable[[str], None],
) -> Iterator[Measured]:
    with closing(loader):
        for subject in subjects:
            first = next(iter(flops))
            loader.set_phase(phase_of(phase, first))
            network = copy.deepcopy(adapted(subject, loader)).to(env.device, memory_format=torch.channels_last)
            referee = referee_of(network, first.size, env, warn)
            for way in flops:
                loader.set_phase(phase_of(phase, way))
                seen, seconds = counted(network, loader, way.tta, env, referee, subject.weights)
                yield Measured(way, seen, flops[way], seconds)


def counted(
    network: nn.Module, loader: Loader, tta: str, env: Env, referee: Referee | None, weights: str
) -> tuple[Validation, float]:
    """And the seconds that it took."""
    precision, size = Precision("fp32", env.device.type), loader.phase.val_sz
    env.sync()
    begin = time.perf_counter()
    seen = evaluate(
        network,
        loader.validation(),
        loader.validation_images,
        precision,
        tta,
        env.group,
        size=size,
        weights=weights,
        referee=referee,
    )
    return seen, time.perf_counter() - begin


def phase_of(phase: DataPhase, way: Way) -> DataPhase:
    return replace(phase, val_sz=way.size, rect_val=way.shape == "rectangular")


def costs(subject: Subject, loader: Loader, phase: DataPhase, ways: list[Way]) -> dict[Way, float]:
    """FLOPs of an image of each way, the mean where images have shapes of their own. Raises: ConfigError for a shape
    that the network cannot take."""
    device, found = trial_device(subject.config), {}
    trial = copy.deepcopy(subject.network).to(device)
    one: dict[tuple[int, int], int] = {}
    for way in ways:
        shapes = shapes_of(loader, phase_of(phase, way))
        for shape in shapes.keys() - one.keys():
            one[shape] = tried(subject, trial, shape, device)
        flops = sum(one[shape] * images for shape, images in shapes.items()) / shapes.total()
        found[way] = flops * VIEWS[way.tta]
    return found


def shapes_of(loader: Loader, phase: DataPhase) -> Counter[tuple[int, int]]:
    """How many validation images have each height and width in pixels."""
    if isinstance(loader, TreeLoader):
        return loader.validation_shapes(phase)
    return Counter({(phase.val_sz, phase.val_sz): loader.validation_images})


def tried(subject: Subject, trial: nn.Module, shape: tuple[int, int], device: str) -> int:
    """FLOPs of one image forward. Raises: ConfigError."""
    try:
        return FLOPS_PER_MULTIPLY_ADD * multiply_adds(trial, shape, device)
    except Exception as error:
        own = is_own(subject.config.model)
        if not own and not isinstance(error, RuntimeError | ValueError | AssertionError):
            raise
        reason = said(error) if own else " ".join(str(error).split())[:120]
        height, width = shape
        remedy = "Use other --sizes" if height == width else "Use other --sizes, or --square alone"
        raise ConfigError(
            f"--sizes {min(shape)}: {subject.config.model} cannot take images of {height} x {width} px ({reason}). "
            f"{remedy}"
        ) from None


def takes_rectangles(subject: Subject, size: int) -> bool:
    device = trial_device(subject.config)
    try:
        tried(subject, copy.deepcopy(subject.network).to(device), (size, size + BUCKET), device)
    except ConfigError:
        return False
    return True


class Adapted(nn.Module):
    """A network behind images that a loader normalised in another way than it learned, and before fewer classes."""

    def __init__(self, network: nn.Module, scale: Tensor, shift: Tensor, columns: tuple[int, ...] | None) -> None:
        super().__init__()
        self.network = network
        for name, values in (("scale", scale), ("shift", shift)):
            self.register_buffer(name, values[:, None, None])
        self.columns = list(columns) if columns is not None else slice(None)

    def forward(self, images: Tensor) -> Tensor:
        return logits_of(self.network(images * self.scale + self.shift))[:, self.columns]


def adapted(subject: Subject, loader: Loader) -> nn.Module:
    """The subject's network as `loader` has to be answered; `loader` is in its first phase."""
    scale, shift = torch.ones(3), torch.zeros(3)
    if subject.mean and subject.std and hasattr(loader, "mean"):
        mean, std = torch.tensor(subject.mean), torch.tensor(subject.std)
        scale, shift = loader.std.cpu() / std, (loader.mean.cpu() - mean) / std
    is_same = torch.allclose(scale, torch.ones(3), rtol=1e-5) and torch.allclose(shift, torch.zeros(3), atol=1e-5)
    if is_same and subject.columns is None:
        return subject.network  # the very arithmetic of the run
    return Adapted(subject.network, scale, shift, subject.columns).eval()


def referee_of(network: nn.Module, size: int, env: Env, warn: Callable[[str], None]) -> Referee | None:
    """None for a network that does not compute in float64."""
    referee = Referee(network)
    try:
        with torch.no_grad():
            referee.model(torch.zeros(1, 3, size, size, dtype=torch.float64, device=env.device))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:100]
        warn(
            f"the network cannot be computed in float64 ({reason}), so counts may differ by the images near a tie with "
            "another batch or number of ranks"
        )
        return None
    return referee
