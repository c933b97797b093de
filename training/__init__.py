"""Everything that touches torch: configuration, loaders, the trainer, checkpoints and logs.

`from training import Config, recipe, resumed, train, evaluate` is its face for Python (docs/python.md); a name is
imported when it is asked for, so that `import training` stays light.

`phases`, `dawn` and `data_prep` are generic names that another installed distribution may also use, so their place is
checked here.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

_HOME = Path(__file__).resolve().parents[1]

for _name in ("phases", "dawn", "data_prep"):
    _spec = find_spec(_name)
    if _spec is None or Path(_spec.origin or "").resolve().parents[1] != _HOME:
        raise ImportError(
            f"package '{_name}' was found at {_spec and _spec.origin}, not beside {_HOME / 'training'}: "
            f"another distribution shadows it; use a virtual environment of its own"
        )

_FACE = {
    "Config": "training.config.config",
    "ConfigError": "training.errors",
    "Diverged": "training.errors",
    "Preempted": "training.errors",
    "evaluate": "training.runs.api",
    "recipe": "training.runs.api",
    "resumed": "training.runs.api",
    "train": "training.runs.api",
}
__all__ = [*_FACE]


def __getattr__(name: str):
    if name not in _FACE:
        raise AttributeError(f"module 'training' has no attribute {name!r}")
    return getattr(import_module(_FACE[name]), name)
