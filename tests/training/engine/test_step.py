"""A step does not wait for the device: it reads no number of a tensor, which a GPU would have to finish all its work
for."""

import pytest
import torch
from tiny_run import tiny_state
from torch.utils._python_dispatch import TorchDispatchMode

from dawn import Clock
from training.config.config import Config
from training.data.loader import Batch
from training.distributed.env import Env
from training.engine.precision import Precision
from training.engine.state import new_state
from training.engine.step import step
from training.models.build import build_model

READS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select"}
SGD = {"label_smoothing": 0.1, "nesterov": True}


class Reads(TorchDispatchMode):
    """Counts the operations that hand a number of a tensor to Python."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.operations += 1
        self.count += function.overloadpacket.__name__ in READS
        return function(*args, **(kwargs or {}))


def reads_of_a_step(precision: str = "fp32", number: int = 2, loss_factor: float = 1.0, **settings) -> int:
    """Of the step after `number` others."""
    config = Config(data="/nowhere", width=0.125, ema_every=1, **settings)
    state = tiny_state(config, precision=precision)
    images = torch.randn(8, 3, 12, 12).to(dtype=state.precision.dtype, memory_format=torch.channels_last)
    batch = Batch(images, torch.arange(8) % 6)
    for _ in range(number):
        step(config, state, batch, 0.1, 0.9)
        state.step += 1
    with Reads() as reads:
        step(config, state, batch, 0.1, 0.8, loss_factor)
    assert reads.operations > 100
    return reads.count


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        SGD,
        {"optimizer": "muon", "muon_rescale_every": 2},
        {"lookahead": 0.7, "lookahead_every": 1, "whitening_decay": True},
        {"optimizer": "lars"},
        {"accumulate": 4},
        pytest.param({"model": "resnet18", "init_bn0": True}, marks=pytest.mark.slow),
        {"clip_grad": 1.0, "loss": "bce", "label_smoothing": 0.1},
    ],
    ids=["plain", "sgd", "muon", "lookahead", "lars", "parts", "resnet18", "clip, bce"],
)
def test_a_step_reads_nothing(precision, settings):
    assert reads_of_a_step(precision, **settings) == 0


@pytest.mark.parametrize("settings", [SGD, {"optimizer": "muon"}], ids=["sgd", "muon"])
def test_the_first_step_reads_nothing_either(settings):
    """It makes the optimiser's state."""
    assert reads_of_a_step(number=0, **settings) == 0


@pytest.mark.parametrize("loss_factor", [1.0, float("nan")], ids=["taken", "left out"])
@pytest.mark.parametrize(("optimizer", "optimizers"), [("sgd", 1), ("muon", 2)])
def test_fp16_reads_one_flag_per_optimizer(optimizer, optimizers, loss_factor):
    """torch's GradScaler asks before it lets an optimiser step, unless that takes the flag itself ("fused"), which SGD
    without it and Muon do not."""
    assert reads_of_a_step("fp16", optimizer=optimizer, loss_factor=loss_factor) == optimizers


EVERYTHING = {"optimizer": "muon", "ema_decay": 0.9, "accumulate": 2, "label_smoothing": 0.1, "nesterov": True}
EVERYTHING |= {"lookahead": 0.7, "lookahead_every": 1}

PARTS = {"optimizer": "lamb", "loss": "bce", "bce_threshold": 0.2, "clip_grad": 1.0, "model": "timm/test_resnet"}
PARTS |= {"drop_path": 0.2, "blurpool": True, "ema_decay": 0.9}
LARS = {"optimizer": "lars", "trust_clip": True, "cutmix": 1.0, "nesterov": True}


class Uploads(TorchDispatchMode):
    """Counts the tensors that are copied from the CPU to the device, for which PyTorch makes a GPU finish its work."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.overloadpacket.__name__ in ("_to_copy", "copy_"):
            source = args[-1] if function.overloadpacket.__name__ == "copy_" else args[0]
            self.count += source.device.type == "cpu" and result.is_meta
        return result


def steps_without_numbers(**settings) -> tuple[torch.Tensor, int]:
    """The loss of the third step on torch's device "meta", whose tensors have shapes and no contents, and how many
    tensors the three copied there from the CPU."""
    config = Config(data="/nowhere", width=0.125, ema_every=1, **settings)
    nowhere = Env(torch.device("meta"))
    state = new_state(config, build_model(config, 6), nowhere, Precision("fp32", "cpu"), Clock(), 6)
    batch = Batch(torch.empty(8, 3, 32, 32, device="meta"), torch.empty(8, dtype=torch.long, device="meta"))
    with Uploads() as uploads:
        for _ in range(3):
            _, loss = step(config, state, batch, 0.1, 0.9)
            state.step += 1
    return loss, uploads.count


@pytest.mark.parametrize(
    "settings",
    [
        SGD,
        EVERYTHING,
        pytest.param(PARTS | {"mixup": 0.2}, marks=pytest.mark.slow),
        pytest.param(PARTS | {"cutmix": 1.0}, marks=pytest.mark.slow),
        pytest.param(LARS, marks=pytest.mark.slow),
        {"optimizer": "adamw"},
    ],
    ids=["sgd", "muon, average, parts", "lamb, mixup", "lamb, cutmix", "lars", "adamw"],
)
def test_a_step_runs_where_there_are_no_numbers_to_read(settings):
    """What is on the CPU wherever the network is may be read: the average's counter, LAMB's, the draws of mixup. But
    nothing is brought to the device, as torch's own AveragedModel brings its counter in every update."""
    loss, uploads = steps_without_numbers(**settings)
    assert loss.is_meta and uploads == 0


def test_the_check_notices_a_copy():
    """Negative control."""
    with Uploads() as uploads:
        torch.tensor(3).to("meta")
        torch.empty((), device="meta").copy_(torch.ones(()))
    assert uploads.count == 2


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [SGD, EVERYTHING, {"ema_decay": 0.9}, {"model": "resnet18", "cutmix": 1.0}])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_does_not_wait_for_the_gpu(settings, precision):
    """PyTorch itself tells of every wait."""
    config = Config(data="/nowhere", width=0.125, ema_every=1, **settings)
    env = Env(torch.device("cuda"))
    state = new_state(config, build_model(config, 6), env, Precision(precision, "cuda"), Clock(), 6)
    images = torch.randn(8, 3, 32, 32, device="cuda", dtype=state.precision.dtype)
    batch = Batch(images.to(memory_format=torch.channels_last), torch.arange(8, device="cuda") % 6)
    for state.step in range(3):
        step(config, state, batch, 0.1, 0.9)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(config, state, batch, 0.1, 0.8)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_where_there_are_no_numbers_a_read_is_an_error(monkeypatch):
    """Negative control; the check above does not see tolist() on a CPU."""
    monkeypatch.setattr("training.engine.step.record", lambda state, loss: state.loss_sum.add_(loss).tolist())
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        steps_without_numbers()


def test_a_loss_that_is_not_finite_is_noted_without_looking():
    assert reads_of_a_step(loss_factor=float("nan")) == 0


@pytest.mark.parametrize("read", [float, torch.Tensor.item, bool, torch.nonzero])
def test_the_check_notices_a_read(read):
    """Negative control."""
    with Reads() as reads:
        read(torch.ones(()))
    assert reads.count >= 1
