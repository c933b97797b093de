"""Parameter groups, optimisers, the average of the weights: against sets, hand formulas and torch."""

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch
from tiny_run import CPU, tiny_schedule, tiny_state
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from dawn import Clock
from training.config.config import Config
from training.data.loader import Batch
from training.engine.optimizers import (
    Moment,
    build_optimizers,
    momentum_of,
    muon,
    normalise_filters,
    parameter_groups,
    set_hyperparameters,
    with_buffers,
)
from training.engine.precision import Precision
from training.engine.state import AveragedWeights, TrainState, new_state
from training.engine.step import record, step
from training.errors import ConfigError
from training.models.build import build_model
from training.models.cifarnet import CifarNet

CONFIG = Config(width=0.125, weight_decay=0.01, no_bn_wd=True, bias_lr=0.5, head_lr=2.0)
MODELS = ("cifarnet", "resnet18", "mobilenet_v3_small", "squeezenet1_0", "timm/test_resnet")


def batch(seed: int, size: int = 12) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.randn(8, 3, size, size, generator=generator), torch.randint(6, (8,), generator=generator))


def counts(groups: list[dict]) -> Counter:
    return Counter(id(p) for group in groups for p in group["params"])


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        *((name, "muon") for name in MODELS),
        *(("timm/test_resnet", other) for other in ("sgd", "adamw", "lamb", "lars")),
    ],
)
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


def test_vectors_of_layers_that_torch_does_not_know_do_not_decay():
    """timm's own norms and the scales of its residual branches; its rule too."""
    model = build_model(replace(CONFIG, model="timm/test_vit2"), 6)  # LayerScale
    decayed = {id(p) for g in parameter_groups(CONFIG, model) if g["weight_decay"] for p in g["params"]}
    assert not [name for name, p in model.named_parameters() if p.dim() <= 1 and id(p) in decayed]
    assert any("ls1.gamma" in name for name, _ in model.named_parameters())


def test_no_optimizer_holds_anything_of_the_average():
    state = tiny_state(replace(CONFIG, ema_decay=0.9))
    average = {id(t) for t in [*state.average.parameters(), *state.average.buffers()]}
    buffers = {id(b) for b in state.model.buffers()}
    held = counts([group for optimizer in state.optimizers for group in optimizer.param_groups])
    assert len(average) > 10 and not average & held.keys() and not buffers & held.keys()


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


def test_momentum_that_begins_at_zero_gives_the_same_bits():
    """As a GPU has it, where an overflow in the first step must find buffers."""
    models = [build_model(CONFIG, 6) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    plain, filled = (torch.optim.SGD(m.parameters(), 0.1, 0.9, weight_decay=0.01, nesterov=True) for m in models)
    for model, optimizer in zip(models, (plain, with_buffers(filled)), strict=True):
        for seed in range(3):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(batch(seed).images), batch(seed).targets).backward()
            optimizer.step()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_muon_holds_exactly_the_convolution_weights():
    model = CifarNet(6, 0.125)
    muon, sgd = build_optimizers(replace(CONFIG, optimizer="muon"), model)
    assert type(muon).__name__ == "Muon" and isinstance(sgd, torch.optim.SGD)
    convolutions = {f"blocks.{block}.conv{conv}.weight" for block in range(3) for conv in (1, 2)}
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[key] for key in counts(muon.param_groups)} == convolutions


@pytest.mark.parametrize(
    ("layers", "name"),
    [
        ((nn.Flatten(), nn.Linear(432, 6)), "SGD"),
        ((nn.Conv2d(3, 6, 12, bias=False), nn.Flatten()), "Muon"),
    ],
)
def test_muon_and_sgd_are_each_left_out_where_a_network_has_nothing_for_them(layers, name):
    model = nn.Sequential(*layers)
    state = new_state(replace(CONFIG, optimizer="muon"), model, CPU, Precision("fp32", "cpu"), Clock(), 6)
    assert [type(optimizer).__name__ for optimizer in state.optimizers] == [name]
    step(CONFIG, state, batch(0), 0.1, None)


def test_normalise_filters_gives_each_bank_the_root_of_its_channels():
    model = CifarNet(6, 0.125)
    head = model.head.weight.clone()
    optimizers = build_optimizers(replace(CONFIG, optimizer="muon"), model)
    normalise_filters(optimizers)
    for group in optimizers[0].param_groups:
        for filters in group["params"]:
            assert filters.norm().item() == pytest.approx(len(filters) ** 0.5, rel=1e-5)
    assert torch.equal(model.head.weight, head)


@pytest.mark.parametrize(
    ("name", "steps", "coefficients", "precision", "error"),
    [
        ("original", 3, (3.4445, -4.7750, 2.0315), "bf16", 0.02),
        ("hiverge", 2, (3.4576, -4.7391, 2.0843), "bf16", 0.02),
        ("original", 3, (3.4445, -4.7750, 2.0315), "fp32", 1e-5),
    ],
)
def test_muons_update_is_the_polynomial_of_its_name_so_many_times(name, steps, coefficients, precision, error):
    """X = aX + (bA + cA^2)X with A = XX^T, from a gradient of norm 1 (K. Jordan, 2024)."""
    config = replace(CONFIG, optimizer="muon", muon_steps=steps, muon_coefficients=name, muon_momentum=0.0)
    config = replace(config, muon_precision=precision)
    filters = nn.Parameter(torch.randn(16, 4, 3, 3, generator=torch.Generator().manual_seed(0)))
    before, gradient = filters.detach().clone(), torch.randn(16, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    optimizer = muon(config, [filters])
    filters.grad = gradient.clone()
    set_hyperparameters([optimizer], 0.1, None)
    optimizer.step()
    x, (a, b, c) = gradient.reshape(16, 36) / gradient.norm(), coefficients
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    found = (before - filters.detach()).reshape(16, 36) / 0.1
    assert torch.allclose(found, x, atol=error) and not torch.allclose(found, x, atol=error / 100)


@pytest.mark.parametrize(
    ("wanted", "run", "dtype"),
    [
        ("bf16", "fp32", torch.bfloat16),  # a run from before the setting goes on to the same bits
        ("auto", "fp32", torch.float32),
        ("auto", "fp16", torch.bfloat16),
        ("fp32", "bf16", torch.float32),
    ],
)
def test_muon_computes_in_the_format_that_is_asked_for(wanted, run, dtype):
    config = replace(CONFIG, optimizer="muon", muon_precision=wanted)
    state = new_state(config, CifarNet(6, 0.125), CPU, Precision(run, "cpu"), Clock(), 6)
    assert state.optimizers[0].dtype == dtype


def test_filters_are_rescaled_ever_more_rarely():
    """As hiverge counts: in the step that lies as many after the last rescaling as the interval is then."""
    config = replace(CONFIG, optimizer="muon", muon_rescale_every=2, muon_rescale_growth=4)
    state, ours, theirs, last = tiny_state(config), [], [], 0
    filters = state.optimizers[0].param_groups[0]["params"][0]
    for number in range(1, 21):
        with torch.no_grad():
            filters.mul_(1.5)
        step(config, state, batch(number), 0.0, None, moment=Moment((number - 1) / 10, number / 10, 2.0))
        if abs(filters.norm().item() - len(filters) ** 0.5) < 1e-3:
            ours.append(number)
        if number - last >= 2 + int(4 * number / 20):
            theirs.append(number)
            last = number
    assert ours == theirs == [2, 4, 7, 11, 16]


def test_the_whitening_biass_rate_falls_to_zero_on_its_own():
    """And stays there: a part of an epoch after which a layer is frozen costs nothing but its gradient."""
    config = replace(CONFIG, whitening_epochs=0.25, whitening_decay=True)
    state = tiny_state(config)
    optimizer = state.optimizers[0]
    assert [group["name"] for group in optimizer.param_groups][-1] == "whitening bias"
    assert optimizer.param_groups[-1]["params"] == [state.model.whiten.bias]
    rates, biases = [], []
    for number in range(1, 6):
        step(config, state, batch(number), 0.4, None, moment=Moment(end=number / 16, epochs=2.0))
        rates.append(optimizer.param_groups[-1]["lr"])
        biases.append(state.model.whiten.bias.detach().clone())
    assert rates == pytest.approx([0.15, 0.1, 0.05, 0.0, 0.0])
    assert {group["lr"] for group in optimizer.param_groups[:-1]} == {0.2, 0.4, 0.8}
    assert not torch.equal(biases[0], biases[2]) and torch.equal(biases[2], biases[4])
    with pytest.raises(ConfigError, match=r"--whitening-epochs 0\.25: .*--whitening-decay"):
        replace(config, whitening_decay=False)


class Operations(TorchDispatchMode):
    """How many PyTorch does; about as many kernels are sent to a GPU."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def test_normalising_and_noting_the_loss_send_few_kernels():
    """The factors of all filter banks come from three operations, not from two each; the loss takes five, not eight."""
    state, loss = tiny_state(replace(CONFIG, optimizer="muon")), torch.ones(())
    with Operations() as normalised:
        normalise_filters(state.optimizers)
    with Operations() as recorded:
        record(state, loss)
    assert normalised.count <= 4 and recorded.count <= 5


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_the_update_is_one_kernel_on_a_gpu_and_not_on_a_cpu(name):
    """Fused sums have other last bits: a run on a CPU keeps its own."""
    config = replace(CONFIG, optimizer=name)
    with FakeTensorMode(), torch.device("cuda"):
        on_gpu = build_optimizers(config, CifarNet(6, 0.125))[-1]
    on_cpu = build_optimizers(config, CifarNet(6, 0.125))[-1]
    assert on_gpu.defaults["fused"] and not on_cpu.defaults["fused"]


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


RATES = [tiny_schedule().lr_at(position) for position in (0.25, 0.5, 1.0, 1.5)]
TOTAL = torch.nn.utils.get_total_norm


def trained(config: Config, update) -> tuple[dict, dict]:
    """Weights after a step for each of RATES, ours and by `update(weight, gradient, lr, decay, memory, number)` from
    the same gradients. `memory` is a dict of the weight's own."""
    state, memory = tiny_state(config), {}
    names = {id(p): name for name, p in state.model.named_parameters()}
    groups = [(g["weight_decay"], g["lr_factor"], g["params"]) for g in parameter_groups(config, state.model)]
    weights = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    gradients = {}
    state.optimizers[0].register_step_pre_hook(
        lambda *_: gradients.update({names[id(p)]: p.grad.clone() for _, _, params in groups for p in params})
    )
    for number, rate in enumerate(RATES, start=1):
        step(config, state, batch(number), rate, None)
        clipped = config.optimizer == "lamb" and not config.clip_grad  # timm's LAMB by itself, to a norm of 1
        longer = max(1.0, float(TOTAL(list(gradients.values())))) if clipped else 1.0
        for decay, factor, params in groups:
            for name in (names[id(p)] for p in params):
                weight, gradient = weights[name], gradients[name] / longer
                own = memory.setdefault(name, {"m": torch.zeros_like(weight), "v": torch.zeros_like(weight)})
                weights[name] = weight - update(weight, gradient, rate * factor, decay, own, number)
    return dict(state.model.named_parameters()), weights


def adam(gradient, memory, number, eps, beta1=0.9, beta2=0.999):
    memory["m"] = beta1 * memory["m"] + (1 - beta1) * gradient
    memory["v"] = beta2 * memory["v"] + (1 - beta2) * gradient**2
    return memory["m"] / (1 - beta1**number) / ((memory["v"] / (1 - beta2**number)).sqrt() + eps)


def adamw_update(weight, gradient, lr, decay, memory, number):
    return lr * (adam(gradient, memory, number, 1e-8) + decay * weight)


def lamb_update(weight, gradient, lr, decay, memory, number):
    direction = adam(gradient, memory, number, 1e-6) + decay * weight
    ratio = weight.norm() / direction.norm() if decay and weight.norm() and direction.norm() else 1.0
    return lr * ratio * direction


def lars_update(weight, gradient, lr, decay, memory, number, clip=False):
    ratio = 1.0
    if decay and weight.norm() and gradient.norm():
        ratio = 0.02 * weight.norm() / (gradient.norm() + decay * weight.norm() + 1e-8)
        ratio = min(ratio / lr, 1.0) if clip else ratio
    memory["m"] = 0.9 * memory["m"] + ratio * (gradient + decay * weight)
    return lr * memory["m"]


@pytest.mark.parametrize(
    ("settings", "update"),
    [
        ({"optimizer": "adamw"}, adamw_update),
        ({"optimizer": "lamb"}, lamb_update),
        ({"optimizer": "lamb", "clip_grad": 1e6}, lamb_update),
        ({"optimizer": "lars", "trust_coefficient": 0.02}, lars_update),
        ({"optimizer": "lars", "trust_coefficient": 0.02, "trust_clip": True}, partial(lars_update, clip=True)),
    ],
)
def test_steps_are_those_of_the_formula_with_the_schedules_rates(settings, update):
    """Y. You et al., arXiv:1904.00962 and 1708.03888; NVIDIA's LARC; Loshchilov and Hutter, arXiv:1711.05101."""
    ours, theirs = trained(replace(CONFIG, **settings), update)
    for name, weight in ours.items():
        assert torch.allclose(weight, theirs[name], rtol=1e-5, atol=1e-6), name


def test_the_schedules_momentum_is_beta1_of_adamw_and_lamb():
    for name in ("adamw", "lamb"):
        optimizers = build_optimizers(replace(CONFIG, optimizer=name, momentum=0.8, beta2=0.95), CifarNet(6, 0.125))
        groups = optimizers[0].param_groups
        assert {group["betas"] for group in groups} == {(0.8, 0.95)}
        set_hyperparameters(optimizers, 0.4, 0.5)
        assert {group["betas"] for group in groups} == {(0.5, 0.95)} and {momentum_of(g) for g in groups} == {0.5}
        set_hyperparameters(optimizers, 0.4, None)
        assert {group["betas"] for group in groups} == {(0.5, 0.95)} and "momentum" not in groups[0]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_clipping_is_of_all_gradients_as_one_vector_in_their_true_size(precision, optimizer):
    """With fp16 they are a loss scale larger until the step."""
    config = replace(CONFIG, clip_grad=0.01, optimizer=optimizer, loss_scale=1024.0)
    seen = []

    def look(state: TrainState) -> None:
        held = [p for o in state.optimizers for g in o.param_groups for p in g["params"]]
        seen.append(TOTAL([p.grad for p in held if p.grad is not None]).item())

    state = tiny_state(config, precision=precision)
    state.optimizers[0].register_step_pre_hook(lambda *_: look(state))
    step(config, state, batch(0), 0.1, None)
    assert seen == [pytest.approx(0.01, rel=1e-3)]


def test_an_fp16_step_that_overflows_is_left_out_with_clipping_too():
    config = replace(CONFIG, clip_grad=0.01)
    state = tiny_state(config, precision="fp16")
    before = [p.clone() for p in state.model.parameters()]
    step(config, state, batch(0), 0.1, None, loss_factor=float("inf"))
    assert int(state.skipped) == 1
    assert all(torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True))


def test_short_gradients_are_not_touched_by_clipping():
    after = []
    for clip in (0.0, 1e6):
        config = replace(CONFIG, clip_grad=clip)
        state = tiny_state(config)
        step(config, state, batch(0), 0.1, None)
        after.append(list(state.model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*after, strict=True))


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


def test_the_average_is_torchs_to_the_bit():
    """Numbers of batches, which are integers, too."""
    torch.manual_seed(0)
    model = CifarNet(6, 0.125)
    ours = AveragedWeights(model, 0.9)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for number in range(4):
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.add_(torch.randn(tensor.shape) if tensor.is_floating_point() else number + 3)
        ours.update_parameters(model)
        theirs.update_parameters(model)
    assert ours.state_dict().keys() == theirs.state_dict().keys() and int(ours.n_averaged) == 4
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in theirs.state_dict().items())
