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
    """The start and its neighbours, each once, as far as the space allows the change."""
    found = [start]
    for change in CHANGES:
        made = start | {
            name: nearest(space.distributions[name], start[name], by) for name, by in change_in(change, space)
        }
        if made not in found:
            found.append(made)
    return found


def change_in(change: dict[str, float | str], space: Space) -> list[tuple[str, float | str]]:
    """`share` is the last one of the space. Empty if the space lacks one of the choices."""
    shares = [name for name in space.distributions if name.startswith("share_")]  # in the order of their numbers
    pairs = [(shares[-1] if name == "share" and shares else name, by) for name, by in change.items()]
    return pairs if all(name in space.distributions for name, _ in pairs) else []


def nearest(distribution: BaseDistribution, value: Any, by: float | str) -> Any:
    """What the distribution has nearest to `by` times the value, or `by` itself where it is a text."""
    if isinstance(distribution, CategoricalDistribution):
        if isinstance(by, str) or isinstance(value, str):
            return by if by in distribution.choices else value
        return min(distribution.choices, key=lambda choice: abs(choice - value * by))
    if isinstance(by, str):
        return value
    low, step = distribution.low, distribution.step
    inside = min(max(value * by, low), distribution.high)
    return round(low + round((inside - low) / step) * step, 6) if step else inside
