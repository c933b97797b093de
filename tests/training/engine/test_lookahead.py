"""Lookahead against plain loops, over a save, and in the schedule's last step."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny_run import tiny_job, tiny_schedule, tiny_state

from training.config.config import Config
from training.config.schedule import advice
from training.data.loader import Batch
from training.engine.optimizers import Moment
from training.engine.state import TrainState, fingerprint
from training.engine.step import step
from training.engine.trainer import fit
from training.engine.warmup import without_clock

PLAIN = Config(width=0.125, momentum=0.8, nesterov=True)
TAIL = replace(PLAIN, lookahead=0.7, lookahead_every=2, lookahead_from=1.25)  # Fulcrum's
WHOLE = replace(PLAIN, lookahead=0.95**5, lookahead_every=5, lookahead_power=3)  # airbench94's
STEPS, EPOCHS = 12, 3.0


def moment(number: int) -> Moment:
    """Of a step (from 0) of a schedule of three epochs of four steps."""
    return Moment(number / 4, (number + 1) / 4, EPOCHS)


def batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.randn(8, 3, 12, 12, generator=generator), torch.randint(6, (8,), generator=generator))


def trained(config: Config, state: TrainState, steps) -> TrainState:
    for number in steps:
        step(config, state, batch(number), 0.1, None, moment=moment(number))
    return state


def weights(state: TrainState) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.model.state_dict().items() if value.is_floating_point()}


def is_same(ours: TrainState, theirs: TrainState) -> bool:
    pairs = zip(weights(ours).values(), weights(theirs).values(), strict=True)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)


def tail_by_hand() -> TrainState:
    """The slow weights are those after step 5 (from 1), and meet the others after steps 7, 9 and 11; after step 12, the
    last one, the weights are the slow ones."""
    state, slow = tiny_state(PLAIN), {}
    for number in range(1, STEPS + 1):
        trained(PLAIN, state, [number - 1])
        now = weights(state)
        if number == 5:
            slow = {name: value.clone() for name, value in now.items()}
        elif number in (7, 9, 11):
            slow = {name: 0.7 * slow[name] + 0.3 * value for name, value in now.items()}
        if number in (7, 9, 11, 12):
            for name, value in now.items():
                value.copy_(slow[name])
    return state


def whole_by_hand() -> TrainState:
    """The slow weights begin as the first ones; after steps 5 and 10 they meet the others, with 0.95**5 times the cube
    of the part of the schedule that is over; after step 12 the weights are the slow ones."""
    state = tiny_state(PLAIN)
    slow = {name: value.clone() for name, value in weights(state).items()}
    for number in range(1, STEPS + 1):
        trained(PLAIN, state, [number - 1])
        decay = 0.95**5 * (number / STEPS) ** 3 if number % 5 == 0 else 1.0
        if number in (5, 10, 12):
            for name, value in weights(state).items():
                slow[name] = decay * slow[name] + (1 - decay) * value
                value.copy_(slow[name])
    return state


@pytest.mark.parametrize(("config", "by_hand"), [(TAIL, tail_by_hand), (WHOLE, whole_by_hand)], ids=["tail", "whole"])
def test_weights_and_statistics_are_those_of_a_plain_loop(config, by_hand):
    ours = trained(config, tiny_state(config), range(STEPS))
    assert is_same(ours, by_hand()) and not is_same(ours, trained(PLAIN, tiny_state(PLAIN), range(STEPS)))


def test_before_its_epoch_lookahead_changes_nothing():
    ours, plain = (trained(config, tiny_state(config), range(6)) for config in (TAIL, PLAIN))
    assert fingerprint(weights(ours)) == fingerprint(weights(plain))


@pytest.mark.parametrize("saved_after", [3, 6], ids=["before it begins", "between two averages"])
def test_a_saved_state_goes_on_to_the_same_bits(saved_after):
    whole = trained(TAIL, tiny_state(TAIL), range(saved_after))
    saved, resumed = copy.deepcopy(whole.state_dict()), tiny_state(TAIL)
    resumed.load_state_dict(saved)
    for state in (whole, resumed):
        torch.set_rng_state(saved["rng"]["cpu"])
        trained(TAIL, state, range(saved_after, STEPS))
    assert fingerprint(without_clock(whole)) == fingerprint(without_clock(resumed))


def test_a_run_begins_and_ends_it_where_the_schedule_says(toy, tmp_path):
    """Six steps of epoch 1: it begins before the fourth, the average is after the fifth, and the sixth is the last."""
    more = "--lookahead", "0.7", "--lookahead-every", "2", "--lookahead-from", "1.5"
    with tiny_job(toy, tmp_path / "run", *more) as job:
        fit(job)
        state = job.state
        assert state.lookahead.steps == 3
        assert all(torch.equal(value, state.lookahead.slow[name]) for name, value in weights(state).items())


def test_a_beginning_after_the_end_is_told():
    config, schedule = replace(TAIL, lookahead_from=2.5), tiny_schedule()
    assert list(advice(config, schedule, 1)) == ["--lookahead-from 2.5: the schedule has 2 epochs, so there is none"]
    assert not list(advice(TAIL, schedule, 1))
