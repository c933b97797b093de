"""Everything that touches torch: configuration, loaders, the trainer, checkpoints and logs.

`phases`, `dawn` and `data_prep` are generic names that another installed distribution may also use, so their place is
checked here.
"""

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
