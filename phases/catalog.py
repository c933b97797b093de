"""The schedules shipped in `presets/`, by name. Each file: source, hardware, result, world_size, images, phases."""

import json
from pathlib import Path

from phases.phase import PhaseError, shown

FOLDER = Path(__file__).with_name("presets")
PRESETS = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def load_preset(name: str) -> dict:
    """The content of `presets/<name>.json`. Raises PhaseError for a name that is not in PRESETS."""
    if name not in PRESETS:
        raise PhaseError(f"unknown preset {shown(name)}.{near_match(name, PRESETS)} Known: {', '.join(PRESETS)}.")
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def near_match(word: str, known: tuple[str, ...]) -> str:
    """` Did you mean 'x'?` or nothing."""
    from difflib import get_close_matches  # here: 10 ms that only errors need

    found = get_close_matches(word, known, n=1)
    return f" Did you mean {found[0]!r}?" if found else ""
