"""Everything that is found out about a bad step: it is computed again under observation, and compared."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from training.data.loader import Batch
from training.diagnosis.causes import GREW, GREW_WEIGHTS, Cause, Facts, Growth, causes
from training.diagnosis.dissection import NETWORK, Call, Culprit, Stats, Trace, culprit_of, own_tensors, stats_of
from training.diagnosis.log import Ended, Logged, injected
from training.diagnosis.replay import REMEMBERED, BadStep
from training.engine.precision import Precision
from training.engine.step import gradients
from training.models.build import build_model

NEAR_ZERO = 0.01  # a bias that begins there grows any number of times in a run that is well


@dataclass(frozen=True)
class Findings:
    ended: Ended
    bad: BadStep
    culprit: Culprit
    causes: list[Cause]
    constant: list[int]  # places in the batch, as in Facts
    broken: list[int]


def findings_of(ended: Ended, bad: BadStep) -> Findings:
    trace = dissected(bad, bad.job.state.precision)
    culprit = culprit_of(trace)
    constant, broken = strange_images(bad.job.loader.last.images)
    initial = initial_weights(bad, culprit)
    facts = Facts(
        culprit,
        bad.job.state.precision.name,
        bad.lr,
        len(bad.batch.targets) // bad.job.config.accumulate,
        growths(ended, bad, culprit, initial),
        constant,
        broken,
        initial,
        injected=injected(ended),
    )
    return Findings(ended, bad, culprit, causes(compared_with_fp32(facts, bad)), constant, broken)


def dissected(bad: BadStep, precision: Precision) -> Trace:
    """The trace of the bad step of this rank's images alone, computed in `precision`. The job stands afterwards where
    it stood."""
    state, trace = replace(bad.job.state, precision=precision, forward=bad.job.state.model), Trace()
    if precision != bad.job.state.precision:
        state.scaler = precision.scaler()
    batch = Batch(bad.batch.images.to(precision.dtype), bad.batch.targets)
    bad.rewind()
    state.model.train()
    with trace.of(state.model):
        gradients(bad.job.config, state, batch, bad.loss_factor)
    bad.rewind()
    return trace


def compared_with_fp32(facts: Facts, bad: BadStep) -> Facts:
    if facts.precision == "fp32":
        return facts
    trace, call = dissected(bad, Precision("fp32", bad.job.env.device.type)), facts.culprit.call
    same = trace.calls[call.number] if call and call.number < len(trace.calls) else None
    return replace(facts, in_fp32=same, fp32_is_finite=culprit_of(trace).kind == "none")


def strange_images(images: Tensor) -> tuple[list[int], list[int]]:
    """Images whose channels have one value each, and images that are not finite: their places in the batch."""
    flat = images.float().flatten(2)
    broken = ~flat.isfinite().all(2).all(1)
    constant = (flat.amax(2) == flat.amin(2)).all(1) & ~broken
    return constant.nonzero().flatten().tolist(), broken.nonzero().flatten().tolist()


def initial_weights(bad: BadStep, culprit: Culprit) -> dict[str, Stats]:
    """The culprit's own before the first step of the run: the seed decides them."""
    if culprit.call is None:
        return {}
    with torch.random.fork_rng():
        model = build_model(bad.job.config, bad.job.classes)
    return {n: stats_of(t) for n, t in own_tensors(submodule_of(model, culprit.call))}


def submodule_of(model: nn.Module, call: Call) -> nn.Module:
    return model.get_submodule("" if call.name == NETWORK else call.name)


def growths(ended: Ended, bad: BadStep, culprit: Culprit, initial: dict[str, Stats]) -> list[Growth]:
    past, found = bad.past, []
    if past:
        found.append(weight_growth(bad))
        for what, values in (("the loss", [p.loss for p in past]), ("the largest logit", [p.logit for p in past])):
            found.append(Growth(what, len(past) - 1, values[0], values[-1], GREW))
    found += logged_growth(ended.logged, bad)
    known = {growth.what for growth in found}
    return found + [growth for growth in own_growth(bad, culprit, initial) if growth.what not in known]


def logged_growth(logged: list[Logged], bad: BadStep) -> list[Growth]:
    """To the largest loss of the last steps: the log also has those before the checkpoint."""
    before = [line for line in logged if (line.epoch, line.step) < (bad.epoch, bad.step)]
    near = [line for line in before if steps_since(line.epoch, line.step, bad) <= REMEMBERED]
    if len(near) < 2:
        return []
    first, peak = near[0], max(near[1:], key=lambda line: line.loss)
    steps = steps_since(first.epoch, first.step, bad) - steps_since(peak.epoch, peak.step, bad)
    return [Growth("the logged loss", steps, first.loss, peak.loss, GREW)]


def steps_since(epoch: int, step: int, bad: BadStep) -> int:
    """From a step to the bad one."""
    return sum(bad.job.steps_of(number) for number in range(epoch, bad.epoch)) + bad.step - step


def own_growth(bad: BadStep, culprit: Culprit, initial: dict[str, Stats]) -> list[Growth]:
    """Of the culprit's own parameters since the beginning of the run: that of them which grew most. Statistics follow
    their input, and are left out."""
    if bad.first or culprit.call is None:
        return []
    names = [name for name, _ in submodule_of(bad.job.state.model, culprit.call).named_parameters(recurse=False)]
    begun = {name: initial[name].largest for name in names if name in initial and initial[name].largest > NEAR_ZERO}
    pairs = {name: (before, culprit.call.own[name].largest) for name, before in begun.items()}
    if not pairs:
        return []
    name = max(pairs, key=lambda name: pairs[name][1] / pairs[name][0])
    steps = steps_since(bad.job.config.start_epoch, 0, bad)
    return [Growth(f"the largest value of `{culprit.name}.{name}`", steps, *pairs[name], GREW)]


def weight_growth(bad: BadStep) -> Growth:
    """Of the weights that grew most; norms and biases, which may begin at zero, are left out."""
    parameters = list(bad.job.state.model.named_parameters())
    before, after = bad.past[0].weights, bad.weights
    places = [n for n, (_, p) in enumerate(parameters) if p.dim() > 1 and before[n] > 1e-3] or [0]
    worst = max(places, key=lambda n: float(torch.nan_to_num(after[n] / before[n], nan=torch.inf)))
    name = parameters[worst][0]
    what = f"the largest value of `{name}`"
    return Growth(what, len(bad.past), float(before[worst]), float(after[worst]), GREW_WEIGHTS)
