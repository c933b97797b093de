"""Files of weights: torch's own and safetensors, read without running anything in them."""

import importlib.util
import pickle
import shlex
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dawn.filekind import wrong_kind
from training.data.transforms import MEAN, STD
from training.errors import ConfigError

INSIDE = ("state_dict", "model")  # where such a checkpoint has its weights


def need(what: str, *packages: str) -> None:
    """Raises: ConfigError when one of the packages that `what` needs is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{what}: {' and '.join(missing)} not installed. Install the extra: pip install '.[handover]' in "
            f"dawn-harness's folder, or pip install {shlex.join(missing)}"
        )


def read_weights(path: Path, flag: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name and the header's texts; tensors and plain values only are read. `flag` named the file. Raises:
    ConfigError."""
    try:
        if path.suffix == ".safetensors":
            need(f"{flag} {path}", "safetensors")
            from safetensors import safe_open

            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except ConfigError:
        raise
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        if kind := wrong_kind(path, "zip"):
            raise ConfigError(f"{flag} {path}: {kind}") from None
        is_other = isinstance(error, pickle.UnpicklingError)  # whose text is advice for programmers
        reason = "not written by torch.save, or not tensors alone" if is_other else str(error).splitlines()[0][:100]
        advice = "Give an export (.pt or .safetensors), or a run"
        raise ConfigError(f"{flag} {path}: not a file of weights ({reason}). {advice}") from None
    except Exception as error:  # safetensors has an error of its own that is no subclass of these
        reason = wrong_kind(path) or f"cannot be read ({str(error)[:100]})"
        raise ConfigError(f"{flag} {path}: {reason}. Give an export, or a run") from None
    state = state_dict_in(state)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(f"{flag} {path}: not a state dict. Of a checkpoint, give the folder of its run")
    return state, {}


def state_dict_in(content: Any) -> Any:
    """The state dict inside a checkpoint of torchvision's or timm's training scripts; else `content` itself."""
    if not isinstance(content, dict):
        return content
    return next((content[name] for name in INSIDE if isinstance(content.get(name), dict)), content)


def input_of(metadata: dict[str, str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation (3,) in 0..255 as an export wrote them; ImageNet's for a file that does not tell."""
    try:
        mean, std = (tuple(map(float, metadata[f"{name}_0_to_255"].split())) for name in ("mean", "std"))
    except (KeyError, ValueError):
        return MEAN, STD
    return (mean, std) if len(mean) == len(std) == 3 and min(std) > 0 else (MEAN, STD)
