"""The first trials: the start, then what people try by hand to make a schedule faster. A budget is some dozens of
trials; ten random ones in a space of ten choices would all be far behind the start."""

from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from training.search.space import Choices, Space

CHANGES: tuple[dict[str, float | str], ...] = (  # factors of the start's numbers
    {"tta": "flip"},
    {"tta": "flip", "epochs": 0.85},
    {"tta": "flip", "epochs": 0.7},
    {"tta": "flip", "size_1": 0.8},
    {"epochs": 1.25, "share": 1.2},  # longer, with more of it at the sizes before the last
    {"lr": 1.4},
    {"lr": 0.7},
)


def first_choices(start: Choices, space: Space) -> list[Choices]:
    """The start and its neighbours, each once, as far as the space allows the change. `start`: inside the space."""
    found = [start]
    for change in CHANGES:
        made = start | {
            name: nearest(space.distributions[name], start[name], by) for name, by in change_in(change, space)
        }
        if made not in found:
            found.append(made)
    return found


def start_inside(start: Choices, space: Space) -> Choices:
    """The start with the nearest value of each range that `--space` gives, and with its fixed values. The default
    ranges leave the start as it is, also one that lies outside."""
    given = {name: found for name, found in space.distributions.items() if name in space.given}
    return start | {name: nearest(found, start[name], 1) for name, found in given.items()} | space.fixed


def change_in(change: dict[str, float | str], space: Space) -> list[tuple[str, float | str]]:
    """`share` is the last one of the space. Empty if the space lacks one of the choices."""
    shares = [name for name in space.distributions if name.startswith("share_")]  # in the order of their numbers
    pairs = [(shares[-1] if name == "share" and shares else name, by) for name, by in change.items()]
    return pairs if all(name in space.distributions for name, _ in pairs) else []


def nearest(distribution: BaseDistribution, value: Any, by: float | str) -> Any:
    """What the distribution has nearest to `by` times the value. Of texts `by` itself, else the value, else the first
    choice."""
    if isinstance(distribution, CategoricalDistribution):
        if isinstance(by, str) or isinstance(value, str):
            return next((text for text in (by, value) if text in distribution.choices), distribution.choices[0])
        return min(distribution.choices, key=lambda choice: abs(choice - value * by))
    if isinstance(by, str):
        return value
    low, step = distribution.low, distribution.step
    inside = min(max(value * by, low), distribution.high)
    return round(low + round((inside - low) / step) * step, 6) if step else inside
