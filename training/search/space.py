"""The space of a search: what may differ from the start, between which bounds, and the schedule that a choice makes."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from phases import Schedule
from phases.ramps import Ramp
from training.config.config import Config
from training.errors import ConfigError
from training.models.layouts import LAYOUTS

FLAGS = ("momentum", "weight_decay", "label_smoothing", "tta")  # choices that are flags of a run
KEPT = ("trndir", "valdir", "rect_val", "val_sz", "val_bs", "aug", "val_resize")  # of a data phase
PHASE_STEP = 0.5  # phases begin at whole or half epochs
LENGTH_STEP = 0.1  # epochs; the last one may be cut
SHARE_STEP, LEAST_SHARE = 0.01, 0.05
FINE, COARSE = 4, 16  # pixels between two sizes, below and from COARSE_FROM on
COARSE_FROM = 64
Choices = dict[str, Any]  # by name


class Start(NamedTuple):
    """What the search begins with: its settings and its schedule."""

    config: Config
    schedule: Schedule

    @property
    def peak_lr(self) -> float:
        return max(max(ramp.first, ramp.last) for ramp in self.schedule.lr)

    @property
    def borders(self) -> list[float]:
        """Where the data phases but the first begin, as shares of the run."""
        return [phase.epoch / self.schedule.total_epochs for phase in self.schedule.data[1:]]


@dataclass(frozen=True)
class Space:
    """What a trial chooses (`distributions`), what `--space` has fixed, and all names that it has `given`."""

    distributions: dict[str, BaseDistribution]
    fixed: Choices
    given: frozenset[str] = frozenset()

    def lines(self) -> list[str]:
        ranges = {name: text_of(found) for name, found in self.distributions.items()}
        return [f"{name:16} {text}" for name, text in (ranges | {n: f"{v}" for n, v in self.fixed.items()}).items()]


def start_of(config: Config) -> Start:
    return Start(config, Schedule.parse(config.phases))


def choices_of(start: Start) -> Choices:
    """The start itself, as choices. A share is rounded to a step of the space. `batch_factor` multiplies the batch size
    of each phase; `min_scale` is a choice where all phases have the same."""
    config, schedule = start.config, start.schedule
    sizes = {f"size_{i}": phase.sz for i, phase in enumerate(schedule.data, start=1)}
    shares = {f"share_{i}": to_step(share, SHARE_STEP) for i, share in enumerate(start.borders, start=1)}
    rates = {"lr": start.peak_lr, "lr_end": schedule.lr[-1].last / start.peak_lr}
    scales = {phase.min_scale for phase in schedule.data}
    scale = {"min_scale": scales.pop()} if len(scales) == 1 else {}
    flags = {name: getattr(config, name) for name in FLAGS if name != "momentum" or not schedule.momentum}
    return {"epochs": float(schedule.total_epochs)} | sizes | shares | {"batch_factor": 1.0} | rates | scale | flags


def default_space(start: Start, crops: bool) -> dict[str, BaseDistribution]:
    """Around the start. `crops`: the dataset is an image tree, whose training images are random crops (min_scale)."""
    mine = choices_of(start)
    epochs, rate = mine["epochs"], mine["lr"]
    shares = {
        name: FloatDistribution(LEAST_SHARE, 1 - LEAST_SHARE, step=SHARE_STEP) for name in mine if "share_" in name
    }
    crop = {"min_scale": FloatDistribution(0.08, 0.6)} if crops and "min_scale" in mine else {}
    return {
        "epochs": FloatDistribution(
            max(PHASE_STEP, to_step(epochs / 2, LENGTH_STEP)), to_step(epochs * 1.5, LENGTH_STEP), step=LENGTH_STEP
        ),
        **size_choices(start),
        **shares,
        "batch_factor": CategoricalDistribution((0.5, 1.0, 2.0)),
        "lr": FloatDistribution(rate / 3, rate * 3, log=True),
        "lr_end": FloatDistribution(0.0, min(0.2, highest_end(start))),
        **({"momentum": FloatDistribution(0.6, 0.95)} if "momentum" in mine else {}),
        "weight_decay": decay_range(mine["weight_decay"]),
        "label_smoothing": FloatDistribution(0.0, 0.3),
        "tta": CategoricalDistribution(sorted({"none", "flip", mine["tta"]})),
        **crop,
    }


def size_choices(start: Start) -> dict[str, BaseDistribution]:
    """From half of each phase's size to the largest size of the run."""
    largest = max(phase.sz for phase in start.schedule.data)
    step = COARSE if largest >= COARSE_FROM else FINE
    found: dict[str, BaseDistribution] = {}
    for i, phase in enumerate(start.schedule.data, start=1):
        grid = range(step * math.ceil(phase.sz / 2 / step), largest + 1, step)
        found[f"size_{i}"] = CategoricalDistribution(sorted({*grid, phase.sz}))
    return found


def highest_end(start: Start) -> float:
    """As a share of the peak: a last ramp that is constant or falls does not become one that rises."""
    last = start.schedule.lr[-1]
    return last.first / start.peak_lr if last.last <= last.first else math.inf


def decay_range(decay: float) -> FloatDistribution:
    return FloatDistribution(decay / 4, decay * 4, log=True) if decay else FloatDistribution(0.0, 1e-3)


def space_of(start: Start, crops: bool, path: str) -> Space:
    """The default space with the changes of the JSON file `path` ('': none). Raises: ConfigError."""
    ranges, mine = default_space(start, crops), choices_of(start)
    given = read_space(path, list(mine)) if path else {}
    changed = {name: read_choice(f"{path}: '{name}'", value, type(mine[name])) for name, value in given.items()}
    fixed = {name: value for name, value in changed.items() if not isinstance(value, BaseDistribution)}
    free = {name: value for name, value in (ranges | changed).items() if name not in fixed}
    if not free:
        raise ConfigError(f"--space {path}: fixes every choice. Leave at least one with a range")
    return Space(free, fixed, frozenset(given))


def read_space(path: str, known: list[str]) -> dict[str, Any]:
    """Raises: ConfigError."""
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"--space {path}: cannot be read as JSON ({reason})") from None
    if not isinstance(given, dict):
        raise ConfigError(f'--space {path}: must be an object, such as {{"lr": {{"low": 0.1, "high": 0.4}}}}')
    if unknown := [name for name in given if name not in known]:
        raise ConfigError(f"--space {path}: unknown key '{unknown[0]}'. Known: {', '.join(known)}")
    return given


def read_choice(place: str, value: Any, kind: type) -> Any:
    """A range, some choices, or one value for all trials. `kind` of the start's own value. Raises: ConfigError."""
    if not isinstance(value, dict):
        if not isinstance(value, int | float | str) or isinstance(value, bool):
            raise ConfigError(f"--space {place}: {value!r} is no number, text or range")
        check_kind(place, [value], kind)
        return value
    try:
        if set(value) == {"choices"}:
            check_kind(place, value["choices"], kind)
            return CategoricalDistribution(value["choices"])
        names = {"low", "high", "step", "log"}
        if not {"low", "high"} <= set(value) <= names:
            raise ValueError("write low and high, and perhaps step or log; or choices")
        if value["low"] == value["high"]:
            raise ValueError(f"an empty range from {value['low']} to {value['high']}; write one number to fix it")
        check_kind(place, [value["low"], value["high"]], kind)
        return FloatDistribution(**value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--space {place}: {error}") from None


def check_kind(place: str, values: Sequence[Any], kind: type) -> None:
    """Raises: ConfigError for anything but a text where `kind` is one, else anything but a finite number."""
    for value in values:
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"--space {place}: {value} must be a finite number")
        if not isinstance(value, str if kind is str else int | float) or isinstance(value, bool):
            raise ConfigError(f"--space {place}: {value!r} must be a {'text' if kind is str else 'number'}")


# ---- from choices to a run


def phases_of(start: Start, choices: Choices) -> list[dict[str, Any]]:
    """The start's phases with these choices. Phases that end up empty are left out; each keeps its validation size."""
    total = round(choices["epochs"], 6)
    later = range(1, len(start.schedule.data))
    begins = [0.0, *(min(to_step(choices[f"share_{i}"] * total, PHASE_STEP), total) for i in later)]
    data = [
        data_phase(start, i, begin, choices)
        for i, begin in enumerate(begins)
        if begin < total and begin not in begins[i + 1 :] and begin == max(begins[: i + 1])
    ]
    momentum = [{"mom": [r.first, r.last]} | stretched(r, start, total) for r in start.schedule.momentum]
    return data + lr_phases(start, choices) + momentum


def data_phase(start: Start, i: int, begin: float, choices: Choices) -> dict[str, Any]:
    phase = start.schedule.data[i]
    chosen = {
        "ep": shortest(begin),
        "sz": int(choices[f"size_{i + 1}"]),
        "bs": max(1, round(phase.bs * choices["batch_factor"])),
        "min_scale": choices.get("min_scale", phase.min_scale),
    }
    kept = {name: getattr(phase, name) for name in KEPT if getattr(phase, name) not in ("", None)}
    return chosen | kept


def lr_phases(start: Start, choices: Choices) -> list[dict[str, Any]]:
    """The start's ramps, stretched to the chosen epochs, with this peak and this end."""
    factor, ramps = choices["lr"] / start.peak_lr, start.schedule.lr
    end = min(choices["lr_end"], highest_end(start)) * choices["lr"]
    lasts = [*(ramp.last * factor for ramp in ramps[:-1]), end]
    return [
        {"lr": [ramp.first * factor, last]} | stretched(ramp, start, choices["epochs"])
        for ramp, last in zip(ramps, lasts, strict=True)
    ]


def stretched(ramp: Ramp, start: Start, total: float) -> dict[str, Any]:
    """Where and how a ramp of the start goes in a run of `total` epochs."""
    factor = total / start.schedule.total_epochs
    found: dict[str, Any] = {"ep": [shortest(round(place * factor, 6)) for place in (ramp.start, ramp.end)]}
    if ramp.curve != "linear":
        found["curve"] = ramp.curve
    if ramp.over:
        found["over"] = [shortest(round(place * factor, 6)) for place in ramp.over]
    return found | ({"epoch_step": True} if ramp.epoch_step else {})


def settings_of(start: Start, choices: Choices) -> dict[str, Any]:
    """Fields of a run with these choices, besides its phases."""
    return {name: choices[name] for name in FLAGS if name in choices} | moved(start, choices["epochs"])


def moved(start: Start, epochs: float) -> dict[str, float]:
    """The start's settings that are places in its schedule, in one of `epochs`, as far as they change. They are
    stretched as its learning rates, to whole numbers where the flag takes no others; 0 is off and stays."""
    config, schedule, begun = start.config, start.schedule, math.ceil(round(epochs, 6))
    factor = epochs / schedule.total_epochs
    whitening = config.whitening_epochs * factor if config.model in LAYOUTS else config.whitening_epochs
    found = {
        "lookahead_from": round(config.lookahead_from * factor, 6),
        "mix_off_epoch": to_step(config.mix_off_epoch * factor, 1),
        "whitening_epochs": round(whitening, 6) if config.whitening_decay else to_step(whitening, 1),
        # a start that validates its last epoch alone still does
        "eval_from": min(math.ceil(config.eval_from * begun / schedule.epochs), begun - 1),
    }
    return {name: value for name, value in found.items() if getattr(config, name) not in (0, value)}


def flags_of(start: Start, choices: Choices) -> list[str]:
    """Of a run with these choices, besides its phases."""
    return [
        word
        for name, value in settings_of(start, choices).items()
        for word in (f"--{name.replace('_', '-')}", f"{value}")
    ]


def to_step(value: float, step: float) -> float:
    return round(max(1, round(value / step)) * step, 6)


def never_shrinks(schedule: Schedule) -> bool:
    """Whether no phase has smaller images than the one before."""
    sizes = [phase.sz for phase in schedule.data]
    return sizes == sorted(sizes)


def shortest(number: float) -> int | float:
    return int(number) if number == int(number) else number


def text_of(found: BaseDistribution) -> str:
    if isinstance(found, CategoricalDistribution):
        return ", ".join(map(str, found.choices))
    scale = ", logarithmic" if found.log else f" in steps of {found.step:g}" if found.step else ""
    return f"{found.low:.4g} to {found.high:.4g}{scale}"
