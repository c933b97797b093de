"""The first trials: the start, then what people try by hand to make a schedule faster."""

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
    """The start and its neighbours, each once, as far as the space allows the change. Where a budget is some dozens of
    trials, ten random ones in a space of ten choices would all be far behind the start."""
    found = [start]
    for change in CHANGES:
        made = start | {name: changed(space.distributions[name], start[name], by) for name, by in named(change, space)}
        if made not in found:
            found.append(made)
    return found


def named(change: dict[str, float | str], space: Space) -> list[tuple[str, float | str]]:
    """`share` is the last one of the space. A change of which one choice is fixed is none."""
    last = max((name for name in space.distributions if name.startswith("share_")), default="share")
    pairs = [(last if name == "share" else name, by) for name, by in change.items()]
    return pairs if all(name in space.distributions for name, _ in pairs) else []


def changed(found: BaseDistribution, value, by: float | str):
    """The value that the distribution has nearest to the changed one."""
    if isinstance(by, str):
        return by if by in found.choices else value
    if isinstance(found, CategoricalDistribution):
        return min(found.choices, key=lambda choice: abs(choice - value * by))
    inside = min(max(value * by, found.low), found.high)
    return round(found.low + round((inside - found.low) / found.step) * found.step, 6) if found.step else inside
