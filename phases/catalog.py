"""The schedules shipped in `presets/`, by name. Each file: source, hardware, result, world_size, images, phases."""

import json
from pathlib import Path

from phases.phase import PhaseError, shown

PRESETS = (
    "imagenet18-1",
    "imagenet18-4",
    "imagenet18-8",
    "imagenet18-16",
    "titan-rtx",
    "lambda-4x1080ti",
    "alibaba-1",
    "ffcv-16",
    "ffcv-40",
    "composer-mild",
    "torchvision-v1",
    "torchvision-v2",
    "rsb-a1",
    "rsb-a2",
    "rsb-a3",
    "bag-of-tricks",
    "cosine-restarts",
    "lars-256",
    "lars-512",
    "lars-1024",
    "lars-2048",
    "lars-4096",
    "cifar10-demo",
    "cifar10-demo-fixed",
    "cifar10-94",
    "cifar10-95",
    "cifar10-96",
    "imagenette-5",
    "imagenette-20",
    "imagenette-80",
    "toy",
)


def load_preset(name: str) -> dict:
    """The content of `presets/<name>.json`. Raises PhaseError for a name that is not in PRESETS."""
    if name not in PRESETS:
        raise PhaseError(f"unknown preset {shown(name)}.{near_match(name, PRESETS)} Known: {', '.join(PRESETS)}.")
    return json.loads((Path(__file__).with_name("presets") / f"{name}.json").read_text(encoding="utf-8"))


def near_match(word: str, known: tuple[str, ...]) -> str:
    """` Did you mean 'x'?` or nothing."""
    from difflib import get_close_matches  # here: 10 ms that only errors need

    found = get_close_matches(word, known, n=1)
    return f" Did you mean {found[0]!r}?" if found else ""
