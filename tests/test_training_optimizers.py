"""Parameter groups, optimisers, the average of the weights: against sets, hand formulas and torch."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from tiny_run import tiny_state
from torch import nn

from training.cifarnet import CifarNet
from training.config import Config
from training.loaders import Batch
from training.models import build_model
from training.optimizers import build_optimizers, normalise_filters, parameter_groups, set_hyperparameters
from training.step import step

CONFIG = Config(width=0.125, weight_decay=0.01, no_bn_wd=True, bias_lr=0.5, head_lr=2.0)
MODELS = ("cifarnet", "resnet18", "mobilenet_v3_small", "squeezenet1_0")


def batch(seed: int, size: int = 12) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.randn(8, 3, size, size, generator=generator), torch.randint(6, (8,), generator=generator))


def counts(groups: list[dict]) -> Counter:
    return Counter(id(p) for group in groups for p in group["params"])


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
@pytest.mark.parametrize("name", MODELS)
def test_every_trained_parameter_is_in_exactly_one_group(name, optimizer):
    config = replace(CONFIG, model=name, optimizer=optimizer)
    model = build_model(config, 6)
    groups = [group for o in build_optimizers(config, model) for group in o.param_groups]
    assert counts(groups) == Counter(id(p) for p in model.parameters() if p.requires_grad)


def test_no_bn_wd_spares_norms_and_biases_of_a_resnet50():
    config = replace(CONFIG, model="resnet50")
    model = build_model(config, 6)
    without = {id(p) for g in parameter_groups(config, model) if g["weight_decay"] == 0 for p in g["params"]}
    norms = [p for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    assert len(norms) == 2 * 53
    assert without == {id(p) for p in norms} | {id(model.fc.bias)}
    decayed = [p for p in model.parameters() if id(p) not in without]
    assert len(decayed) == 53 + 1  # convolutions and the classifier


def test_layer_types_decide_not_names():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn_like_name = nn.Conv2d(3, 4, 1)
            self.conv = nn.GroupNorm(2, 4)
            self.layers = nn.ModuleList([nn.LayerNorm(4), nn.MultiheadAttention(4, 2), nn.Linear(4, 4)])

    model = Odd()
    without = {id(p) for g in parameter_groups(CONFIG, model) if g["weight_decay"] == 0 for p in g["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in without}
    assert names == {
        "bn_like_name.bias", "conv.weight", "conv.bias", "layers.0.weight", "layers.0.bias",
        "layers.1.in_proj_bias", "layers.1.out_proj.bias", "layers.2.bias",
    }  # fmt: skip


def test_without_no_bn_wd_everything_decays():
    model = build_model(replace(CONFIG, model="resnet18"), 6)
    groups = parameter_groups(replace(CONFIG, no_bn_wd=False), model)
    assert {group["weight_decay"] for group in groups} == {0.01}


def test_lr_factors_of_biases_and_head():
    model = CifarNet(6, 0.125)
    factor = {id(p): g["lr_factor"] for g in parameter_groups(CONFIG, model) for p in g["params"]}
    assert factor[id(model.head.weight)] == 2.0 and factor[id(model.whiten.bias)] == 0.5
    assert factor[id(model.blocks[0].norm1.bias)] == 0.5 and factor[id(model.blocks[0].conv1.weight)] == 1.0


def test_muon_holds_exactly_the_convolution_weights():
    model = CifarNet(6, 0.125)
    muon, sgd = build_optimizers(replace(CONFIG, optimizer="muon"), model)
    assert type(muon).__name__ == "Muon" and isinstance(sgd, torch.optim.SGD)
    convolutions = {f"blocks.{block}.conv{conv}.weight" for block in range(3) for conv in (1, 2)}
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[key] for key in counts(muon.param_groups)} == convolutions


def test_normalise_filters_gives_each_bank_the_root_of_its_channels():
    model = CifarNet(6, 0.125)
    head = model.head.weight.clone()
    optimizers = build_optimizers(replace(CONFIG, optimizer="muon"), model)
    normalise_filters(optimizers)
    for group in optimizers[0].param_groups:
        for filters in group["params"]:
            assert filters.norm().item() == pytest.approx(len(filters) ** 0.5, rel=1e-5)
    assert torch.equal(model.head.weight, head)


def test_normalise_filters_leaves_sgd_alone():
    state = tiny_state(CONFIG)
    before = [p.clone() for p in state.model.parameters()]
    normalise_filters(state.optimizers)
    assert all(torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True))


def test_set_hyperparameters_scales_by_factor_and_keeps_momentum_on_none():
    optimizers = build_optimizers(replace(CONFIG, optimizer="muon", momentum=0.8), CifarNet(6, 0.125))
    set_hyperparameters(optimizers, 0.4, None)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    assert sorted(group["lr"] for group in groups) == pytest.approx([0.2, 0.4, 0.8])  # biases, filters, head
    assert [group["momentum"] for group in groups] == [0.6, *[0.8] * (len(groups) - 1)]
    set_hyperparameters(optimizers, 0.4, 0.5)
    assert {group["momentum"] for group in groups} == {0.5}


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_are_those_of_sgd_by_hand(nesterov):
    """v = m v + (g + wd w); w -= lr (g + wd w + m v) with Nesterov, else lr v; biases with their own lr and decay."""
    config = replace(CONFIG, nesterov=nesterov, momentum=0.7, label_smoothing=0.1)
    state, reference = tiny_state(config), build_model(config, 6)
    small = {id(p) for g in parameter_groups(config, reference) if g["lr_factor"] == 0.5 for p in g["params"]}
    velocity = {}
    for number, lr in enumerate((0.1, 0.3, 0.05)):
        step(config, state, batch(number), lr, None)
        reference.zero_grad()
        data = batch(number)
        nn.functional.cross_entropy(reference(data.images), data.targets, label_smoothing=0.1).backward()
        for p in [p for p in reference.parameters() if p.requires_grad]:
            factor, decay = (0.5, 0.0) if id(p) in small else (2.0 if p is reference.head.weight else 1.0, 0.01)
            gradient = p.grad + decay * p.detach()
            velocity[p] = 0.7 * velocity[p] + gradient if p in velocity else gradient
            p.data -= lr * factor * (gradient + 0.7 * velocity[p] if nesterov else velocity[p])
    for (name, ours), theirs in zip(state.model.named_parameters(), reference.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6), name


def test_the_average_follows_the_formula_with_statistics_every_second_step():
    """a = w after the first update, then a = d a + (1 - d) w, at steps 2, 4, 6; also for BN statistics."""
    config = replace(CONFIG, ema_decay=0.75, ema_every=2)
    state = tiny_state(config)
    expected = None
    for number in range(6):
        state.step = number
        step(config, state, batch(number), 0.1, None)
        now = {name: value.clone() for name, value in state.model.state_dict().items() if value.is_floating_point()}
        if number % 2 == 1:
            expected = {k: 0.75 * expected[k] + 0.25 * v for k, v in now.items()} if expected else now
    average = state.evaluated_model().state_dict()
    assert any("running_var" in name for name in expected)
    for name, value in expected.items():
        assert torch.allclose(average[name], value, rtol=1e-5, atol=1e-7), name
    assert not torch.equal(average["head.weight"], state.model.head.weight)


def test_without_an_average_the_model_itself_is_evaluated():
    state = tiny_state(CONFIG)
    assert state.evaluated_model() is state.model
