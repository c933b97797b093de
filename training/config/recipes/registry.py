"""Settings by name: functions that return a Config. Any flag on the command line goes on top.

The functions are in files by family beside this one; a function without parameters is a recipe, and its name is the
recipe's and its preset's. Each docstring is one sentence and then facts by name (OWN_FACTS); source, hardware
and result stand in the preset. docs/recipes.md is made of both.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from inspect import isfunction, signature
from types import ModuleType

from phases import Schedule, load_preset
from training.config.config import Config
from training.config.recipes import bag_of_tricks, dawnbench, ffcv_composer, small, torchvision_rsb

FAMILIES = (small, dawnbench, ffcv_composer, torchvision_rsb, bag_of_tricks)


def recipe_name(function: Callable) -> str:
    """cifar10_demo -> cifar10-demo: the name of a recipe, of its run folders and of its preset of phases."""
    return function.__name__.replace("_", "-")


def recipes_of(family: ModuleType) -> list[Callable[[], Config]]:
    """The functions of a file that take nothing, in their order; those that take something are what recipes share."""
    own = [value for value in vars(family).values() if isfunction(value) and value.__module__ == family.__name__]
    return [function for function in own if not signature(function).parameters]


RECIPES = {recipe_name(function): function for family in FAMILIES for function in recipes_of(family)}
OWN_FACTS = ("Command", "Differs")  # in the docstring; those of the schedule stand in its preset
FACTS = ("Source", "Command", "Hardware", "Expected", "Differs")
HEAD = """# Recipes

```
python -m training recipes --markdown > docs/recipes.md
```

makes this page from the recipes; a test compares it with the code. Batches are of all devices together,
learning rates the highest of the schedule. "Expected" is what the source states, unless it says that it was measured
here: nothing was trained on ImageNet here.
"""
COLUMNS = ("recipe", "model", "epochs", "batch", "lr", "train px", "validation px", "optimizer", "hardware", "expected")


def recipe_config(name: str) -> Config:
    """The Config of a known recipe, with its name and the preset of that name; the plain defaults for ''."""
    return replace(RECIPES[name](), recipe=name, phases=name) if name else Config()


def recipe_facts(name: str) -> dict[str, str]:
    """`Summary` and each of FACTS, of the preset and the recipe's docstring (a fact goes on until the next begins)."""
    parts = re.split(rf"^\s*({'|'.join(OWN_FACTS)}): ", RECIPES[name].__doc__ or "", flags=re.MULTILINE)
    texts, preset = [" ".join(part.split()) for part in parts], load_preset(name)
    told = {"Source": preset["source"], "Hardware": preset["hardware"], "Expected": preset["result"]}
    return {"Summary": texts[0]} | dict(zip(texts[1::2], texts[2::2], strict=True)) | told


def recipe_lines() -> list[str]:
    """Name, first sentence of the docstring."""
    width = max(map(len, RECIPES)) + 1
    return [f"{name:{width}} {recipe_facts(name)['Summary']}" for name in RECIPES]


def recipes_markdown() -> str:
    rows = [COLUMNS, ("---",) * len(COLUMNS), *map(table_row, RECIPES)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([HEAD, table, "", *map(section, RECIPES)])


def table_row(name: str) -> tuple[str, ...]:
    config, facts = recipe_config(name), recipe_facts(name)
    schedule = Schedule.parse(config.phases)
    batches = dict.fromkeys(phase.bs * (schedule.world_size or 1) for phase in schedule.data)
    return (
        f"[`{name}`](#{name})",
        config.model,
        f"{schedule.total_epochs}",
        ", ".join(f"{batch:,}" for batch in batches),
        f"{peak_lr(schedule):.4g}",
        changes([phase.sz for phase in schedule.data]),
        validation_sizes(schedule),
        optimizer(config),
        facts["Hardware"],
        facts["Expected"],
    )


def peak_lr(schedule: Schedule) -> float:
    return max(max(ramp.first, ramp.last) for ramp in schedule.lr)


def changes(values: list) -> str:
    """[128, 128, 224] -> '128, 224'; of many the first and the last."""
    different = [value for i, value in enumerate(values) if i == 0 or value != values[i - 1]]
    return ", ".join(map(str, different)) if len(different) <= 4 else f"{different[0]} to {different[-1]}"


def validation_sizes(schedule: Schedule) -> str:
    return changes([f"{phase.val_sz}{' rect' if phase.rect_val else ''}" for phase in schedule.data])


def optimizer(config: Config) -> str:
    return f"{config.optimizer}{', Nesterov' if config.nesterov else ''}, wd {config.weight_decay:.3g}"


def section(name: str) -> str:
    """A heading, the summary, and a line for each fact that the table does not hold."""
    facts = recipe_facts(name)
    lines = [f"* {fact}: {facts[fact]}" for fact in FACTS if fact not in ("Hardware", "Expected", "Command")]
    return "\n".join([f"## {name}", "", facts["Summary"], "", *lines, "", "```", facts["Command"], "```", ""])


def origin(config: Config, flag: str) -> str:
    """Where a setting comes from that the user may not have typed."""
    is_of_recipe = config.recipe in RECIPES and getattr(config, flag) == getattr(recipe_config(config.recipe), flag)
    return f" (of --recipe {config.recipe})" if is_of_recipe else ""
