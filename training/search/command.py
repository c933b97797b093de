"""`python -m training search DATA --recipe R --target T --budget 4h`."""

import importlib.util

from training.errors import ConfigError
from training.search.settings import parsed


def search(arguments: list[str]) -> int:
    """The exit code: 3 where the target is not reached. Raises: ConfigError."""
    settings = parsed(arguments)
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(
            "search: optuna is not installed. Install the extra: pip install '.[search]' in dawn-harness's folder, or "
            "pip install optuna"
        )
    from training.search.explore import searched  # imports optuna

    return searched(settings)
