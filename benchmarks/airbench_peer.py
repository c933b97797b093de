"""airbench (github.com/KellerJordan/cifar10-airbench), run from a checkout that the user gives.

Its script is read, changed in memory where it needs CUDA, and executed; nothing of it is stored. On a GPU it runs as it
is. On a CPU its numbers are fp32, or bf16 under autocast where --precision bf16 is asked for, and nothing is compiled.
"""

import contextlib
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.abc import InspectLoader
from pathlib import Path
from types import ModuleType

import torch
from torch.utils.flop_counter import FlopCounterMode

from data_prep import open_packed
from training.errors import ConfigError

ON_A_CPU = (
    (".half()", ".float()"),
    (".bfloat16()", ".float()"),  # Muon's, which takes most of a step where the processor has no bf16
    (".cuda()", ""),
    ('torch.device("cuda")', "'cpu'"),
    ("torch.device(gpu)", "'cpu'"),
    ("@torch.compile\n", "\n"),
    ("torch.cuda.Event(enable_timing=True)", "HostEvent()"),
    ("torch.cuda.synchronize()", "None"),
    ("(patches_flat.T @ patches_flat)", "gram(patches_flat)"),
)
WHITENING_EPOCHS = 3  # of both scripts
NEEDED = ("class CifarLoader", "def main(run", "total_train_steps")


class Enough(Exception):
    """The steps that were wanted have been taken."""


class HostEvent:
    """torch.cuda.Event of a device that runs in step with its host."""

    def record(self) -> None:
        self.seconds = time.perf_counter()

    def elapsed_time(self, later: "HostEvent") -> float:
        """Milliseconds."""
        return 1e3 * (later.seconds - self.seconds)


def gram(patches: torch.Tensor) -> torch.Tensor:
    """In fp32, also under autocast: the scripts have their patches in floats for it. In bf16 the smallest eigenvalues
    come out below zero, and their square roots, the first layer's filters, are NaN."""
    with torch.autocast("cpu", enabled=False):
        return patches.T @ patches


@dataclass(frozen=True)
class Part:
    """Steps of a run that cost the same. `seconds` and `flops` (torch's counter, weight updates included) of one."""

    steps: int
    seconds: float
    flops: int
    epoch_steps: int = 0


class Script(InspectLoader):
    """A module of a text that is nowhere on disk."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_source(self, fullname: str) -> str:
        return self.text


class Peer:
    """A script of airbench as a module, in a folder of its own that holds CIFAR-10 in its format."""

    def __init__(self, path: Path, data: str, device: torch.device, precision: str) -> None:
        """Raises: ConfigError for a file that is not such a script."""
        self.name, self.device = path.stem, device
        self.autocast = contextlib.nullcontext()
        if precision == "bf16" and device.type == "cpu":
            # A cached copy of a weight in bf16 would outlive its updates: the whole of main is in one context.
            self.autocast = torch.autocast("cpu", torch.bfloat16, cache_enabled=False)
        self.module = loaded(path, device)
        self.networks: dict[bool, list[torch.nn.Module]] = {}
        self.folder = tempfile.TemporaryDirectory()
        store_cifar(data, Path(self.folder.name) / "cifar10")

    def timed_parts(self, count: int) -> list["Part"]:
        """Of a run: the steps that train the bias of the first layer, and those after them, whose backward pass is
        shorter."""
        with_bias = self.timed_steps(count, True)
        without = self.timed_steps(count, False)
        first = WHITENING_EPOCHS * with_bias.epoch_steps
        return [replace(with_bias, steps=first), replace(without, steps=without.steps - first)]

    def timed_steps(self, count: int, bias: bool) -> "Part":
        """`count` steps one by one, from fetching the batch to the updated weights, after one whose arithmetic is
        counted. What the script does with all images at the beginning of an epoch is not in them."""
        times: list[float] = []
        found: dict[str, int] = {}

        def batches(original: Iterator) -> Iterator:
            script = sys._getframe(1).f_locals  # of its main, which alone knows how long a run is
            found.update(steps=script["total_train_steps"], epoch_steps=len(script["train_loader"]))
            with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
                yield next(original)
            found.update(flops=counter.get_total_flops())
            for _ in range(count):
                begin = self.now()
                yield next(original)
                times.append(self.now() - begin)
            raise Enough

        self.warm_up(bias)
        with contextlib.suppress(Enough):
            self.run(batches, bias)
        return Part(seconds=statistics.median(times), **found)

    def train(self, seed: int) -> tuple[float, float]:
        """(seconds of all steps and their augmentation, top-1 in percent with its six test-time views)."""
        torch.manual_seed(seed)
        seconds = 0.0

        def batches(original: Iterator) -> Iterator:
            nonlocal seconds
            begin = self.now()
            try:
                yield from original
            finally:  # it leaves its last epoch with a break
                seconds += self.now() - begin

        self.warm_up()
        accuracy = self.run(batches)
        return seconds, 100 * accuracy

    def warm_up(self, bias: bool = True) -> None:
        """On a GPU a whole run that is not timed, as the script's own first one: it compiles, and the network stays."""
        if self.device.type == "cuda" and bias not in self.networks:
            self.run(lambda batches: batches, bias)

    def run(self, around: Callable[[Iterator], Iterator], bias: bool = True) -> float:
        """Its main, with `around` about the training batches of every epoch. `bias`: False leaves that of the first
        layer out from the first step."""
        script, loader = self.module, self.module.CifarLoader
        original = loader.__iter__

        def batches(self_: object) -> Iterator:
            return around(original(self_)) if self_.shuffle else original(self_)

        loader.__iter__ = batches
        try:
            with contextlib.chdir(self.folder.name), self.autocast:
                return script.main("race", *self.network(bias))
        finally:
            loader.__iter__ = original

    def network(self, bias: bool) -> list[torch.nn.Module]:
        """For the script whose main takes it and gives it new weights; compiled on a GPU as that script does it."""
        if not hasattr(self.module, "CifarNet"):
            self.module.hyp["opt"]["whiten_bias_epochs"] = WHITENING_EPOCHS * bias
            return self.networks.setdefault(bias, [])
        if bias not in self.networks:
            self.networks[bias] = [self.new_network(bias)]
        return self.networks[bias]

    def new_network(self, bias: bool) -> torch.nn.Module:
        model = self.module.CifarNet().to(self.device, memory_format=torch.channels_last)
        if not bias:
            forward = model.forward
            model.forward = lambda images, whiten_bias_grad=False: forward(images, whiten_bias_grad=False)
        if self.device.type == "cuda":
            model.compile(mode="max-autotune")
        return model

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def loaded(path: Path, device: torch.device) -> ModuleType:
    """Raises: ConfigError."""
    text = path.read_text() if path.is_file() else ""
    if missing := [word for word in NEEDED if word not in text]:
        raise ConfigError(
            f"{path}: is no training script of airbench, it lacks {missing[0]!r}. Give --airbench CHECKOUT"
        )
    for old, new in ON_A_CPU if device.type == "cpu" else ():
        text = text.replace(old, new)
    spec = importlib.util.spec_from_loader(path.stem, Script(text), origin=str(path))
    module = importlib.util.module_from_spec(spec)
    module.HostEvent, module.gram = HostEvent, gram
    spec.loader.exec_module(module)
    return module


def store_cifar(data: str, folder: Path) -> None:
    """train.pt and test.pt, as its loader stores what torchvision downloads."""
    folder.mkdir()
    for name, split in (("train", "train"), ("test", "validation")):
        packed = open_packed(data)[split]
        images, labels = (torch.from_numpy(part[:].copy()) for part in (packed.images, packed.labels))
        content = {"images": images, "labels": labels.long(), "classes": [str(i) for i in range(10)]}
        torch.save(content, os.path.join(folder, f"{name}.pt"))
