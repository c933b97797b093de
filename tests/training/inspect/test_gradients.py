"""What --inspect full tells of the gradients of every layer."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from training.config.config import Config
from training.inspect.gradients import FACTS, NORM, NOT_FINITE, UPDATE, ZEROS, Gradients, facts_of, strange_layers
from training.models.build import build_model


def layer(gradient: torch.Tensor | None, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    generator = torch.Generator().manual_seed(1)
    parameter = nn.Parameter(torch.randn(4, 25, generator=generator).to(dtype))
    parameter.grad = None if gradient is None else gradient.to(dtype)
    return parameter


def by_hand(gradient: torch.Tensor) -> list[float]:
    """One fact after the other, in float64."""
    values = gradient.double()
    zeros, odd = (values == 0).double().mean(), (~values.isfinite()).double().mean()
    return [float(x) for x in (values.min(), values.mean(), values.max(), values.norm(), zeros, odd)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_facts_of_all_layers_are_those_of_each_alone(dtype):
    """Also of a gradient that is zero, has zeros, or is not finite; a frozen layer has none."""
    generator = torch.Generator().manual_seed(2)
    given = [torch.randn(4, 25, generator=generator) for _ in range(7)]
    given[1] = 1e-9 * given[1].abs()
    given[2].clamp_(min=0)
    given[3].zero_()
    given[4][0, :3] = torch.tensor([float("nan"), float("inf"), 1.0])
    given[5][0, :2] = float("inf")
    given[6][1, 1] = -float("inf")
    layers = [layer(None, dtype), *(layer(gradient, dtype) for gradient in given)]
    found = facts_of(layers)
    assert found.dtype == torch.float32 and found.shape == (8, len(FACTS) - 1)
    assert found[0, :-1].tolist() == [0] * (len(FACTS) - 2)
    expected = torch.tensor([by_hand(gradient) for gradient in given], dtype=torch.float32)
    torch.testing.assert_close(found[1:, :-1], expected, rtol=1e-5, atol=1e-7, equal_nan=True)
    torch.testing.assert_close(found[:, -1], torch.full((8,), float(layers[0].detach().norm())))
    assert facts_of([layer(None)]).shape == (1, len(FACTS) - 1)


def test_the_facts_of_a_large_layer_are_not_rounded():
    """Of 2**24 values and more, a sum in float32 on a CPU leaves some out."""
    large = nn.Parameter(torch.full((2, 2**24), 0.01))
    large.grad = torch.ones_like(large)
    large.grad[0, 0] = 0
    low, mean, high, norm, zeros, odd, weight = facts_of([large])[0].double().tolist()
    assert (low, high, odd) == (0, 1, 0)
    assert weight == pytest.approx(0.01 * large.numel() ** 0.5, rel=1e-6)
    assert norm == pytest.approx(large.numel() ** 0.5, rel=1e-6)
    assert mean == pytest.approx(1, rel=1e-6) and zeros == pytest.approx(1 / large.numel(), rel=1e-3)


def test_a_network_without_matrices_has_no_gradients_to_show(tmp_path):
    watch = Gradients(nn.BatchNorm1d(3), 1, tmp_path)
    assert not watch.is_due(0)


class Operations(TorchDispatchMode):
    """How many PyTorch does. An operation on a list is one, whatever its length."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ not in ("detach", "unbind", "view", "slice", "select"):
            self.count += 1
        return function(*args, **(kwargs or {}))


def test_more_layers_take_no_more_operations():
    counts = []
    for number in (2, 60):
        layers = [layer(torch.ones(4, 25)) for _ in range(number)]
        with Operations() as operations:
            facts_of(layers)
        counts.append(operations.count)
    assert counts[0] == counts[1] < 40


def test_a_step_that_is_looked_at_reads_nothing(tmp_path):
    """On a device without numbers a read fails, as in test_step."""
    config = Config(width=0.125)
    with torch.device("meta"):
        model = build_model(config, 6)
    watch = Gradients(model, 1, tmp_path)
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    watch.gradients(0)
    watch.updated()
    assert watch.facts[0].shape == (len(watch.names), len(FACTS)) and watch.facts[0].is_meta


def test_layers_that_vanish_and_explode_are_named():
    facts = np.ones((4, 3, len(FACTS)), np.float32)
    facts[:, :, NOT_FINITE] = 0
    assert strange_layers(["a", "b", "c"], facts, 0) == []
    facts[:, 1, NORM] = 1e-9
    facts[2, 2, NORM] = 1e5
    assert strange_layers(["a", "b", "c"], facts, 0) == [
        "epoch 1: gradients vanish: below 1e-7 of the largest in b",
        "epoch 1: gradients explode in c",
    ]


def test_the_first_step_of_blocks_whose_last_norm_is_zero_is_no_vanishing():
    """All convolutions of imagenette-5's blocks were named in an epoch of one look."""
    facts = np.ones((2, 2, len(FACTS)), np.float32)
    facts[:, :, NOT_FINITE] = facts[0, 0, NORM] = 0
    assert strange_layers(["hidden", "b"], facts[:1], 0) == strange_layers(["hidden", "b"], facts, 0) == []
    assert strange_layers(["hidden", "b"], facts[:1], 3)[0].endswith("of the largest in hidden")


def test_a_step_that_fp16_left_out_is_no_explosion():
    facts = np.ones((3, 2, len(FACTS)), np.float32)
    facts[:, :, NOT_FINITE] = 0
    facts[0, :, NOT_FINITE], facts[0, :, UPDATE] = 5, 0
    assert strange_layers(["a", "b"], facts, 0) == []
    assert strange_layers(["a", "b"], facts[:1], 0)[0].startswith("epoch 1: gradients explode in a, b")


def test_a_frozen_layer_does_not_vanish_and_a_dead_one_does():
    facts = np.ones((4, 3, len(FACTS)), np.float32)
    facts[:, :, NOT_FINITE] = 0
    facts[:, :2, NORM] = facts[:, 0, ZEROS] = 0
    lines = strange_layers(["frozen", "dead", "c"], facts, 0)
    assert lines == ["epoch 1: gradients vanish: below 1e-7 of the largest in dead"]


def test_a_layer_without_gradient_and_a_single_look_are_drawn():
    from training.inspect.figures import gradients_figure

    facts = np.zeros((1, 2, len(FACTS)), np.float32)
    facts[0, 1, NORM] = np.inf
    assert gradients_figure(np.array(["a", "b" * 99]), np.array([0]), facts).startswith(b"\x89PNG")
