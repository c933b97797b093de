"""Settings by name: functions that return a Config. Any flag on the command line goes on top.

The functions are in files by family, recipes_*.py. Each docstring is one sentence and then facts by name (FACTS), of
which docs/recipes.md is made.
"""

import re
from collections.abc import Callable

from training import recipes_2018, recipes_fast, recipes_long, recipes_small, recipes_tricks
from training.config import Config

RECIPES: dict[str, Callable[[], Config]] = {
    **recipes_small.RECIPES,
    **recipes_2018.RECIPES,
    **recipes_fast.RECIPES,
    **recipes_long.RECIPES,
    **recipes_tricks.RECIPES,
}

FACTS = ("Source", "Command", "Hardware", "Expected", "Differs")


def recipe_config(name: str) -> Config:
    """The Config of a known recipe; the plain defaults for ''."""
    return RECIPES[name]() if name else Config()


def recipe_facts(name: str) -> dict[str, str]:
    """`Summary` and each of FACTS, of the recipe's docstring: a fact goes on until the next one begins."""
    parts = re.split(rf"^\s*({'|'.join(FACTS)}): ", RECIPES[name].__doc__ or "", flags=re.MULTILINE)
    texts = [" ".join(part.split()) for part in parts]
    return {"Summary": texts[0]} | dict(zip(texts[1::2], texts[2::2], strict=True))


def recipe_lines() -> list[str]:
    """Name, first sentence of the docstring."""
    width = max(map(len, RECIPES)) + 1
    return [f"{name:{width}} {recipe_facts(name)['Summary']}" for name in RECIPES]
