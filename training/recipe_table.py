"""docs/recipes.md: every recipe with what its docstring and its schedule say. `python -m training recipes --markdown`
prints it."""

from phases import Schedule
from training.config import Config
from training.recipes import FACTS, RECIPES, recipe_config, recipe_facts

HEAD = """# Recipes

Made by `python -m training recipes --markdown > docs/recipes.md`; a test compares it with the code. Batches are of all
devices together, learning rates the highest of the schedule. "Expected" is what the source states, unless it says that
it was measured here: nothing was trained on ImageNet here.
"""
COLUMNS = ("recipe", "model", "epochs", "batch", "lr", "train px", "validation px", "optimizer", "hardware", "expected")


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
