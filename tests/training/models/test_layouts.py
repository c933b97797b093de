"""The layouts of cifarnet: the first one is what it always was, the others are their sources'."""

import pytest
import torch
import torch.nn.functional as F

from training.config.config import Config
from training.models.build import build_model
from training.models.layouts import LAYOUTS

PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def network(name: str, width: float = 0.125):
    return build_model(Config(model=name, width=width), 6)


def keys(convolutions: int) -> list[str]:
    """Of a state dict, in its order."""
    numbers = range(1, convolutions + 1)
    block = [part for n in numbers for part in (f"conv{n}.weight", *(f"norm{n}.{part}" for part in PARTS))]
    return ["whiten.weight", "whiten.bias", *(f"blocks.{b}.{part}" for b in range(3) for part in block), "head.weight"]


def logits(state: dict, images: torch.Tensor, eps: float, activation, residual: bool) -> torch.Tensor:
    """In evaluation, by torch's functions alone."""

    def normed(x, block, number):
        mean, var, weight, bias = (
            state[f"blocks.{block}.norm{number}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias, eps=eps)

    def convolved(x, block, number):
        return F.conv2d(x, state[f"blocks.{block}.conv{number}.weight"], padding=1)

    x = F.gelu(F.conv2d(images, state["whiten.weight"], state["whiten.bias"]))
    for block in range(3):
        first = activation(normed(F.max_pool2d(convolved(x, block, 1), 2), block, 1))
        x = activation(normed(convolved(first, block, 2), block, 2))
        if residual:
            x = activation(normed(convolved(x, block, 3), block, 3) + first)
    return x.amax((2, 3)) @ state["head.weight"].T / 9


def test_old_checkpoints_of_cifarnet_have_its_names_and_shapes():
    state = network("cifarnet").state_dict()
    assert list(state) == keys(2)
    assert [tuple(state[f"blocks.{block}.conv{n}.weight"].shape[:2]) for block in range(3) for n in (1, 2)] == [
        (8, 24), (8, 8), (32, 8), (32, 32), (32, 32), (32, 32),
    ]  # fmt: skip
    assert state["whiten.weight"].shape == (24, 3, 2, 2) and state["head.weight"].shape == (6, 32)
    norms = [m for m in network("cifarnet").modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.4, 1e-5)}


@pytest.mark.parametrize(
    ("name", "eps", "activation", "residual"),
    [
        ("cifarnet", 1e-5, F.gelu, False),
        ("cifarnet-95", 1e-12, F.gelu, False),
        ("cifarnet-96", 1e-12, F.gelu, True),
        ("cifarnet-fulcrum", 1e-12, F.silu, False),
    ],
)
def test_what_a_layout_computes(name, eps, activation, residual):
    model, images = network(name), torch.randn(5, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    assert list(model.state_dict()) == keys(3 if residual else 2)
    with torch.no_grad():
        model(images)  # statistics of their own
        expected = logits(model.state_dict(), images, eps, activation, residual)
        assert torch.allclose(model.eval()(images), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "widths", "momentum", "weights"),
    [
        ("cifarnet", (64, 256, 256), 0.4, 1_967_616),
        ("cifarnet-95", (128, 384, 384), 0.4, 4_598_784),
        ("cifarnet-96", (128, 384, 512), 0.1, 9_907_200),
        ("cifarnet-fulcrum", (64, 256, 256), 0.4434, 1_967_616),
    ],
)
def test_channels_and_weights_are_those_of_the_sources(name, widths, momentum, weights):
    with torch.device("meta"):
        model = network(name, 1.0)
    assert tuple(block.conv2.out_channels for block in model.blocks) == widths == LAYOUTS[name].widths
    assert [block.norm2.momentum for block in model.blocks] == pytest.approx([momentum] * 3)
    assert sum(p.numel() for name, p in model.blocks.named_parameters() if "conv" in name) == weights
