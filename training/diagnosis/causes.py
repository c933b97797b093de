"""Which of the usual causes fits a step that is not finite, and the evidence for each."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from training.diagnosis.dissection import NETWORK, Call, Culprit, Operation, Stats

FP16_LARGEST = 65504
GREW_WEIGHTS, GREW = 10, 100  # times; a loss changes by less when a run is well
HUGE_WEIGHT = 1e4  # no initialisation draws one


class Cause(NamedTuple):
    name: str
    evidence: str
    remedy: str


class Growth(NamedTuple):
    """A quantity over the steps before the bad one."""

    what: str
    steps: int
    before: float
    after: float
    least: float  # times, from which on it counts as growth by orders of magnitude

    @property
    def is_large(self) -> bool:
        """One that passed the largest number has grown as well."""
        if not math.isfinite(self.before) or self.before <= 0:
            return False
        return not math.isfinite(self.after) or self.after >= self.least * self.before

    def __str__(self) -> str:
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        return f"{self.what} went from {self.before:.3g} to {self.after:.3g} in {steps}"


@dataclass(frozen=True)
class Facts:
    """`constant`, `broken`: places in the batch of images of one value, and of images that are not finite. `initial`:
    the culprit's weights before any training; `in_fp32`: the culprit's call when the step is computed in fp32, with
    `fp32_is_finite` for the whole step; None: the run is in fp32."""

    culprit: Culprit
    precision: str
    lr: float
    images: int
    growths: list[Growth]
    constant: list[int]
    broken: list[int]
    initial: dict[str, Stats]
    in_fp32: Call | None = None
    fp32_is_finite: bool = False
    injected: str = ""


def causes(facts: Facts) -> list[Cause]:
    """Those that fit, the most likely first."""
    tests = injected, bad_image, uninitialised, batch_of_one, learning_rate, fp16_range, domain
    return [cause for test in tests if (cause := test(facts))]


def injected(facts: Facts) -> Cause | None:
    if facts.injected and facts.culprit.call is None:
        return Cause("an injected fault", f"the log has the fault {facts.injected}", "Train without --inject-fault.")
    return None


def bad_image(facts: Facts) -> Cause | None:
    """A constant image is at fault only where it and no other image became not finite."""
    remedy = "Remove or replace the file; `python -m data_prep check` finds files that cannot be read."
    if facts.broken:
        return Cause("a bad image", f"{places(facts.broken)} of the batch has values that are not finite", remedy)
    rows = facts.culprit.operation.rows if facts.culprit.operation else []
    if rows and set(rows) <= set(facts.constant):
        text = f"{places(rows)} of the batch has one value in all pixels, and only there the result is not finite"
        return Cause("a bad image", text, remedy)
    return None


def listed(names: list[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def places(rows: list[int]) -> str:
    shown = ", ".join(str(row + 1) for row in rows[:8]) + (", ..." if len(rows) > 8 else "")
    return f"image {shown}"


def uninitialised(facts: Facts) -> Cause | None:
    for name, stats in facts.initial.items():
        if stats.odd or stats.largest > HUGE_WEIGHT:
            text = (
                f"{100 * stats.odd:.3g} % of the values of `{name}` were not finite before the first step"
                if stats.odd
                else f"`{name}` had values up to {stats.largest:.3g} in magnitude before the first step"
            )
            return Cause("an uninitialised layer", text, "Give the layer initial values, as torch.nn.init has them.")
    return None


def batch_of_one(facts: Facts) -> Cause | None:
    call, operation = facts.culprit.call, facts.culprit.operation
    if facts.images != 1 or not call or not operation or "norm" not in (call.kind + operation.name).lower():
        return None
    text = f"`{call.name}` ({call.kind}) normalises over a batch of one image"
    return Cause("a batch of one with batch norm", text, "Use a larger batch, less --accumulate, or a group norm.")


def learning_rate(facts: Facts) -> Cause | None:
    large = [str(growth) for growth in facts.growths if growth.is_large]
    if facts.culprit.kind == "weights" and not any(s.odd for s in facts.initial.values()):
        left = listed(facts.culprit.call.bad_weights)
        large.append(f"the step before left {left} of `{facts.culprit.name}` not finite")
    if not large:
        return None
    remedy = "Lower the learning rate, warm up longer, or use --clip-grad."
    return Cause("a learning rate too high", f"at {facts.lr:.4g}, " + "; ".join(large), remedy)


def fp16_range(facts: Facts) -> Cause | None:
    if facts.precision != "fp16" or not facts.fp32_is_finite:
        return None
    text, largest = "in fp32 the same step is finite", largest_of(facts.in_fp32, facts.culprit.is_backward)
    where = f"`{facts.culprit.name}`" if facts.culprit.call else "the loss"
    if largest > FP16_LARGEST:
        text += f", with values up to {largest:.4g} in {where}: fp16 ends at {FP16_LARGEST:,}"
    elif facts.culprit.is_backward:
        text += ", and the gradients of fp16 are multiplied by the loss scale"
    return Cause("the range of fp16", text, "Use --precision bf16 or fp32, or scale the layer's values down.")


def largest_of(call: Call | None, backward: bool) -> float:
    if call is None:
        return 0.0
    found = list(call.gradients.values()) if backward else [call.outputs]
    return max((stats.largest for stats in found if stats), default=0.0)


def domain(facts: Facts) -> Cause | None:
    """Operations outside of the range where they have a value, as their arguments show it."""
    operation = facts.culprit.operation
    text = outside(operation) if operation else ""
    if not text:
        return None
    how = f", in the backward pass of {operation.node.removesuffix('0').removesuffix('Backward').lower()}"
    where = f"{how if operation.node else ''}, in {place_of(facts.culprit)}"
    name = text.partition(":")[0]
    return Cause(name, f"{text.partition(':')[2].strip()}{where}", remedy_of(name))


def place_of(culprit: Culprit) -> str:
    return culprit.name if culprit.call is None or culprit.call.name == NETWORK else f"`{culprit.name}`"


def remedy_of(name: str) -> str:
    return {
        "the deviation of one value": "Use more than one value, or `correction=0`.",
        "an overflow of exp": "Subtract the largest value first, or limit the input.",
    }.get(name, "Add a small number, or clamp the input.")


def outside(operation: Operation) -> str:
    """`NAME OF THE CAUSE: evidence`; empty where the operation has a value everywhere."""
    name, given = operation.name, operation.arguments
    tensors = [item for item in given if isinstance(item, Stats)]
    first = tensors[0] if tensors else None
    if first is None:
        return ""
    if name in ("log", "log2", "log10", "log1p") and (point := -1.0 if name == "log1p" else 0.0) >= first.low:
        kind = "zero" if first.low == point else "a negative number"
        return f"log of {kind}: the smallest input of {name} is {first.low:.4g}"
    if name in ("sqrt", "rsqrt") and first.low < 0:
        return f"sqrt of a negative number: the smallest input of {name} is {first.low:.4g}"
    if name in ("rsqrt", "reciprocal") and first.smallest == 0:
        return f"division by zero: an input of {name} is 0"
    if name.startswith("div") and len(given) > 1:
        divisor = given[1].smallest if isinstance(given[1], Stats) else abs(given[1])
        return "division by zero: a divisor is 0" if divisor == 0 else ""
    return outside_of_others(name, given, first)


def outside_of_others(name: str, given: list[Stats | float], first: Stats) -> str:
    if name == "pow" and len(given) > 1:
        exponents = given[1] if isinstance(given[1], Stats) else Stats(given[1], given[1], given[1], 0, 0, "")
        if exponents.low < 0 and first.smallest == 0:
            return f"division by zero: 0 to the power {exponents.low:.4g}"
        if first.low < 0:
            return f"a power of a negative number: {first.low:.4g} to the power {exponents.low:.4g}"
    if name in ("asin", "acos", "atanh") and first.largest >= 1:
        return f"{name} of a number beyond 1: an input is {first.largest:.4g} in magnitude"
    if name in ("std", "var", "std_mean", "var_mean") and first.largest < 1e15:  # whose square is finite
        return f"the deviation of one value: {name} of a single value with correction 1"
    if name in ("exp", "expm1", "exp2", "sinh", "cosh") and first.high > 11:
        return f"an overflow of exp: the largest input of {name} is {first.high:.4g}"
    return ""
