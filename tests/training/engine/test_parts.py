"""Each part of a recipe reaches the step: the weights after it are other ones than without the part."""

import copy
import functools
import json
from dataclasses import replace

import pytest
import torch
from tiny_run import CPU, events, tiny_schedule, tiny_state, train

from training.config.config import Config
from training.data.loader import Batch
from training.engine.state import TrainState, fingerprint
from training.engine.step import step
from training.engine.warmup import preflight, warm_up, without_clock

PLAIN = Config(model="timm/test_resnet", weight_decay=0.01, momentum=0.9)
ALL = replace(
    PLAIN, optimizer="lamb", loss="bce", bce_threshold=0.2, label_smoothing=0.1, mixup=0.2, cutmix=1.0, mix_prob=0.9,
    mix_off_epoch=2, drop_path=0.2, blurpool=True, clip_grad=1.0, ema_decay=0.9, ema_every=2, no_bn_wd=True,
)  # fmt: skip


def batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.randn(8, 3, 32, 32, generator=generator), torch.randint(6, (8,), generator=generator))


def after(config: Config, steps: int = 2, first: TrainState | None = None) -> TrainState:
    state = first or tiny_state(config)
    torch.manual_seed(0)
    for number in range(steps):
        step(config, state, batch(number), 0.05, None)
        state.step += 1
    return state


# what is slow is in the facts of the log too
PARTS = [
    ({}, {"optimizer": "adamw"}),
    ({}, {"optimizer": "lamb"}),
    ({}, {"optimizer": "lars"}),
    ({}, {"optimizer": "muon"}),
    ({"optimizer": "adamw"}, {"beta2": 0.9}),
    ({"optimizer": "adamw"}, {"momentum": 0.5}),
    ({"optimizer": "adamw"}, {"eps": 1e-3}),
    pytest.param({"optimizer": "lamb"}, {"beta2": 0.9}, marks=pytest.mark.slow),
    pytest.param({"optimizer": "lamb"}, {"eps": 1e-3}, marks=pytest.mark.slow),
    pytest.param({"optimizer": "lamb"}, {"trust_clip": True}, marks=pytest.mark.slow),
    ({"optimizer": "lamb"}, {"clip_grad": 0.1}),
    pytest.param({"optimizer": "lars"}, {"eps": 0.1}, marks=pytest.mark.slow),
    ({"optimizer": "lars"}, {"trust_coefficient": 0.02}),
    pytest.param({"optimizer": "lars"}, {"trust_clip": True}, marks=pytest.mark.slow),
    ({"optimizer": "lars"}, {"nesterov": True}),
    ({}, {"clip_grad": 0.1}),
    ({}, {"loss": "bce"}),
    ({"loss": "bce", "mixup": 0.2}, {"bce_threshold": 0.2}),
    ({"loss": "bce"}, {"label_smoothing": 0.1}),
    ({}, {"mixup": 0.2}),
    ({}, {"cutmix": 1.0}),
    ({"mixup": 0.2}, {"cutmix": 1.0}),
    ({"mixup": 0.2}, {"mix_prob": 0.1}),
    ({}, {"drop_path": 0.5}),
    ({}, {"blurpool": True}),
    ({}, {"init_bn0": True}),
    ({}, {"no_bn_wd": True}),
]


@pytest.mark.parametrize(("base", "part"), PARTS, ids=lambda settings: " ".join(settings))
def test_a_part_changes_the_weights(base, part):
    config = replace(PLAIN, **base)
    assert weights_after(replace(config, **part)) != weights_repeated(config)


def weights_after(config: Config) -> str:
    return fingerprint(after(config).model.state_dict())


@functools.cache
def weights_repeated(config: Config) -> str:
    """Twice the same."""
    one, again = weights_after(config), weights_after(config)
    assert one == again
    return one


def test_nothing_is_mixed_from_the_off_epoch_on():
    config = replace(PLAIN, mixup=0.2, mix_off_epoch=4)
    for epoch, same in ((3, False), (4, True)):
        state = tiny_state(config)
        state.epoch = epoch
        found = fingerprint(after(config, first=state).model.state_dict())
        assert (found == fingerprint(after(PLAIN).model.state_dict())) == same


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_the_strength_of_a_phase_reaches_the_mixing(strength):
    config = replace(PLAIN, mixup=0.2)
    mixed, plain = tiny_state(config), tiny_state(PLAIN)
    step(config, mixed, batch(0), 0.05, None, mix_strength=strength)
    step(PLAIN, plain, batch(0), 0.05, None)
    same = fingerprint(mixed.model.state_dict()) == fingerprint(plain.model.state_dict())
    assert same == (strength == 0)


@pytest.mark.parametrize("optimizer", ["lamb", pytest.param("lars", marks=pytest.mark.slow)])
@pytest.mark.parametrize("prepare", [preflight, lambda *parts: warm_up(*parts, step)], ids=["preflight", "warm-up"])
def test_warm_up_and_preflight_take_the_same_step_and_leave_no_trace(optimizer, prepare):
    config = replace(ALL, optimizer=optimizer)
    state = after(config, 2)
    before = copy.deepcopy(without_clock(state))
    prepare(config, tiny_schedule(), state, CPU, 6)
    assert fingerprint(without_clock(state)) == fingerprint(before)


def test_a_saved_state_goes_on_as_if_nothing_had_happened():
    """With everything on; also LAMB's count of its steps, which is in its groups."""
    whole = after(ALL, 2)
    saved = torch.get_rng_state(), copy.deepcopy(whole.state_dict())
    resumed = tiny_state(ALL)
    resumed.load_state_dict(saved[1])
    for state in (whole, resumed):
        torch.set_rng_state(saved[0])
        for number in range(2, 5):
            step(ALL, state, batch(number), 0.05, None)
    assert fingerprint(without_clock(whole)) == fingerprint(without_clock(resumed))


def flags_of(config: Config) -> list[str]:
    """The command line that makes ALL."""
    names = "optimizer loss bce_threshold label_smoothing mixup cutmix mix_prob drop_path clip_grad ema_decay ema_every"
    pairs = [(f"--{name.replace('_', '-')}", str(getattr(config, name))) for name in ["model", *names.split()]]
    return [word for pair in pairs for word in pair] + ["--blurpool", "--no-bn-wd"]


SIZES = "[{'ep': 0, 'sz': 24, 'bs': 60}, {'ep': 1, 'sz': 32, 'bs': 40}, {'ep': (0, 2), 'lr': (0.01, 0.0)}]"


def test_the_log_has_the_facts_of_the_optimizer_and_the_report_reads_them(toy, tmp_path):
    assert train(toy, tmp_path / "run", *flags_of(ALL), "--phases", SIZES) == 0
    facts = events(tmp_path / "run", "start")[0]["optimizer"]
    assert (facts["name"], facts["clip_grad"]) == ("lamb", 1.0)
    own = {"optimizer": "Lamb", "lr_factor": 1.0, "momentum": 0.9, "beta2": 0.999, "eps": 1e-6, "max_grad_norm": None}
    for group in facts["groups"]:
        assert group.items() >= own.items() and group["trust_clip"] is False
    assert {group["weight_decay"] for group in facts["groups"]} == {5e-5, 0.0}
    misc = json.loads((tmp_path / "run" / "entry.draft.json").read_text())["misc"]
    assert (misc["optimizer"], misc["momentum"], misc["parameterGroups"]) == ("lamb", 0.9, facts["groups"])


def test_facts_of_lars_in_the_log(toy, tmp_path):
    assert train(toy, tmp_path / "run", "--optimizer", "lars", "--trust-clip", "--trust-coefficient", "0.02") == 0
    group = events(tmp_path / "run", "start")[0]["optimizer"]["groups"][0]
    assert (group["trust_coeff"], group["trust_clip"], group["eps"], group["momentum"]) == (0.02, True, 1e-8, 0.9)
    assert "beta2" not in group


@pytest.mark.slow
def test_a_compiled_run_with_everything_on(toy, tmp_path):
    """Both sizes are warmed up; a shape or layout that was not would be an error."""
    assert train(toy, tmp_path / "run", *flags_of(ALL), "--phases", SIZES, "--compile") == 0
    assert events(tmp_path / "run", "start")[0]["setup_seconds"]["warm"] > 1
