"""Weights of torchvision and timm, downloaded or from a file, with the input that they were published for."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from training.config.config import INTERPOLATIONS, Config
from training.config.own_code import is_own
from training.data.transforms import MEAN, STD
from training.errors import ConfigError
from training.evaluation.trained import plain
from training.evaluation.weight_files import input_of, need, read_weights
from training.models.build import AUXILIARY, build_model, library_of

IMAGENET_CLASSES = 1000
OTHER_FILE = "Give --weights-file FILE"


@dataclass(frozen=True)
class Input:
    """How images are made for a network. `size` of the crop in pixels; `resize`: short side before it, in sizes; `mean`
    and `std` (3,) in 0..255."""

    size: int = 224
    resize: float = 256 / 224
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD


@dataclass(frozen=True)
class Published:
    network: nn.Module  # fp32, CPU, evaluation mode
    config: Config  # of the network
    classes: int
    weights: str  # one word or path, to be told
    input: Input


def open_published(name: str, file: str, classes: int, warn: Callable[[str], None]) -> Published:
    """`name`: [torchvision/ or timm/]NAME[.TAG], '' for a file that tells it; `file`: its weights, '' to download them.
    `classes` of the dataset. Raises: ConfigError."""
    state, header = read_weights(Path(file), "--weights-file") if file else (None, {})
    name = name or header.get("model", "")
    if not name:
        raise ConfigError(f"--weights-file {file}: does not tell its network. Name it: --model resnet50")
    library, base, tag = parts_of(name)
    state, wanted = (plain(state), None) if state is not None else downloaded(library, base, tag, warn)
    config = shaped(Config(model=f"timm/{base}" if library == "timm" else base), header)
    network, found = fitted(config, state, (classes, IMAGENET_CLASSES), f"--weights-file {file}" if file else name)
    wanted = wanted or input_known(library, base, tag, Path(file), header, warn)
    return Published(network.eval(), config, found, file or name, wanted)


def parts_of(name: str) -> tuple[str, str, str]:
    """Library, the network's name there, tag of the weights or ''. Raises: ConfigError for an unknown name."""
    base, _, tag = name.partition(".")
    if is_own(name):
        raise ConfigError(f"--model {name}: a function of yours. Give the folder of its run")
    library, base = library_of(base.removeprefix("torchvision/"))
    if name.startswith("torchvision/") and library != "torchvision":
        raise ConfigError(f"--model {name}: torchvision has no network {base}. Write timm/{base}")
    if library == "torchvision" and base in AUXILIARY:
        raise ConfigError(f"--model {name}: torchvision's weights of it scale images on their own. Use another network")
    return library, base, tag


def shaped(config: Config, header: dict[str, str]) -> Config:
    """With the settings of an export that decide what its network is. Raises: ConfigError for a header of no export."""
    blurpool, width = header.get("blurpool") == "True", number_in(header, "width", config.width)
    return replace(config, blurpool=blurpool, width=width)


def number_in(header: dict[str, str], name: str, default: float) -> float:
    try:
        return float(header[name])
    except (KeyError, ValueError):
        return default


def fitted(config: Config, state: dict[str, Tensor], classes: tuple[int, ...], where: str) -> tuple[nn.Module, int]:
    """The network with the weights `state` for the first of these numbers of classes that they are for. Raises:
    ConfigError."""
    reason = ""
    for count in dict.fromkeys(classes):
        network = build_model(config, count)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
        else:
            return network, count
    counts = " or ".join(f"{count}" for count in dict.fromkeys(classes))
    raise ConfigError(f"{where}: not the weights of --model {config.model} with {counts} classes ({reason})")


def input_known(
    library: str, base: str, tag: str, file: Path, header: dict[str, str], warn: Callable[[str], None]
) -> Input:
    """Of a file: as its header says, else as its library says for the tag, or for the weights of the file's name, or
    for its default weights of this network."""
    if "image_size" in header and header["image_size"].isdigit():
        resize = number_in(header, "val_resize", Config().val_resize)
        filter = interpolation_of(header.get("val_interpolation", ""))
        return Input(int(header["image_size"]), resize, filter, *input_of(header))
    if library == "timm":
        return timm_input(timm_entry(base, tag), warn)
    if library == "torchvision" and (entries := torchvision_entries(base)):
        named = [entry for entry in entries if entry.url.rsplit("/", 1)[-1] == file.name]
        entry = torchvision_entry(base, tag) if tag else (named or [type(entries[0]).DEFAULT])[0]
        if not tag and not named:
            warn(f"{file}: images are resized as for torchvision's {entry}; --resize, --sizes and a tag change it")
        return torchvision_input(entry)
    return Input()


def downloaded(library: str, base: str, tag: str, warn: Callable[[str], None]) -> tuple[dict[str, Tensor], Input]:
    """The state dict of published weights, from the library's cache or the network. Raises: ConfigError."""
    if library == "torchvision":
        entry = torchvision_entry(base, tag)
        with download_errors(f"torchvision/{base}"):
            return entry.get_state_dict(progress=False, check_hash=True, weights_only=True), torchvision_input(entry)
    if library != "timm":
        raise ConfigError(f"--model {base}: nobody published weights of it. {OTHER_FILE}")
    entry = timm_entry(base, tag)
    name = ".".join(filter(None, (base, tag)))
    need(f"--model timm/{name}", "huggingface_hub", "safetensors")
    from timm import create_model

    with download_errors(f"timm/{name}"):  # timm reads safetensors, or torch.load(weights_only=True)
        return create_model(name, pretrained=True).state_dict(), timm_input(entry, warn)


@contextlib.contextmanager
def download_errors(name: str) -> Iterator[None]:
    hub = logging.getLogger("huggingface_hub")
    before = hub.level
    hub.setLevel(logging.ERROR)  # it warns of each of its ten tries
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # of urllib, huggingface_hub and a wrong hash
        reason = " ".join(f"{type(error).__name__}: {error}".split()).split(". ")[0][:150]
        raise ConfigError(
            f"--model {name}: its weights cannot be downloaded ({reason}). Get the file elsewhere and add "
            "--weights-file FILE"
        ) from None
    finally:
        hub.setLevel(before)


def torchvision_entries(base: str) -> list[Any]:
    """Members of torchvision's enum of weights of this network."""
    from torchvision import models

    return list(models.get_model_weights(base))


def torchvision_entry(base: str, tag: str) -> Any:
    entries = torchvision_entries(base)
    found = [entry for entry in entries if entry.name == tag] if tag else [type(entries[0]).DEFAULT] if entries else []
    if not found:
        known = ", ".join(f"{base}.{entry.name}" for entry in entries) or "none"
        raise ConfigError(f"--model {base}{'.' * bool(tag)}{tag}: torchvision has no such weights. It has: {known}")
    return found[0]


def torchvision_input(entry: Any) -> Input:
    """What torchvision's evaluation of these weights does (its transforms)."""
    made = entry.transforms()
    size, short = made.crop_size[0], made.resize_size[0]
    mean, std = (tuple(255 * value for value in values) for values in (made.mean, made.std))
    return Input(size, short / size, interpolation_of(made.interpolation.value), mean, std)


def timm_entry(base: str, tag: str) -> dict[str, Any]:
    import timm

    name = ".".join(filter(None, (base, tag)))
    try:
        entry = timm.get_pretrained_cfg(name)
    except (RuntimeError, KeyError, ValueError):
        entry = None
    if entry is None:
        known = [known for known in timm.list_pretrained(f"{base}.*")][:6]
        raise ConfigError(f"--model timm/{name}: timm has no such weights. It has: {', '.join(known) or 'none'}")
    return entry.to_dict()


def timm_input(entry: dict[str, Any], warn: Callable[[str], None]) -> Input:
    """What timm's own validation does: the size for tests where there is one. What is done otherwise is told."""
    from timm.data import resolve_data_config

    made = resolve_data_config({}, pretrained_cfg=entry, use_test_size=True)
    size = made["input_size"][-1]
    if made["crop_mode"] != "center":
        warn(f"timm shows these weights images of crop mode {made['crop_mode']!r}, here the centre is cut out")
    if made["interpolation"] not in INTERPOLATIONS:
        warn(f"timm resizes images for these weights with {made['interpolation']!r}, here the filter is bilinear")
    mean, std = (tuple(255 * value for value in made[name]) for name in ("mean", "std"))
    return Input(size, 1 / made["crop_pct"], interpolation_of(made["interpolation"]), mean, std)


def interpolation_of(name: str) -> str:
    return name if name in INTERPOLATIONS else "bilinear"


def imagenet_columns(names: tuple[str, ...], classes: int, where: str, warn: Callable[[str], None]) -> Any:
    """Which logits of a network of `classes` classes are those of the dataset's `names`; None: all, in order.

    ImageNet's 1,000 classes are known by their WordNet ids, in sorted order. Raises: ConfigError for classes that are
    not the network's.
    """
    if classes != IMAGENET_CLASSES:
        if len(names) != classes:
            raise ConfigError(f"{where}: {len(names)} classes, the weights have {classes}. Give the dataset of these")
        warn(f"{where}: the order of its classes cannot be compared with that of the weights")
        return None
    from timm.data import ImageNetInfo

    ids = {name: label for label, name in enumerate(ImageNetInfo().label_names())}
    if set(names) <= ids.keys():
        columns = tuple(ids[name] for name in names)
        return None if columns == tuple(range(classes)) else columns
    if len(names) != classes:
        other = next(name for name in names if name not in ids)
        raise ConfigError(
            f"{where}: {len(names)} classes, the weights have {classes}, and {other!r:.40} is no WordNet id of theirs. "
            "Name the class folders by WordNet ids such as n01440764"
        )
    warn(f"{where}: its class names are no WordNet ids, so their order cannot be compared with that of the weights")
    return None
