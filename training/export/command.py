"""`python -m training export RUN --format ...`: the weights of a run as a file that others load, and a model card."""

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path

import torch

from data_prep import load_manifest
from data_prep.files import write_atomically
from dawn.runlog.evaluations import SHAPES
from dawn.runlog.writer import utc_now
from training.config.own_code import short_name
from training.config.parser import Parser
from training.distributed.env import open_env
from training.distributed.launcher import warn
from training.errors import ConfigError
from training.evaluation.measure import Subject, Way, measured, open_pictures, takes_rectangles
from training.evaluation.trained import Trained, check_classes, load_trained
from training.export.formats import SUFFIXES, check_packages, onnx_bytes, safetensors_bytes, torch_bytes
from training.export.model_card import MARK, Handover, Remeasured, card
from training.export.networks import receiver

TRIAL_IMAGES = 4
FILE_NAME = str.maketrans("/:", "--")


def export_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m training export", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    parser.add_argument("--format", required=True, choices=tuple(SUFFIXES), help="who will load the weights")
    parser.add_argument("--out", default="", metavar="FILE", help="default: in RUN, named after the model")
    parser.add_argument(
        "--weights", default="", choices=("model", "ema"), help="default: the average where the run evaluates it"
    )
    parser.add_argument("--evaluate", default="", metavar="DATA", help="measure the accuracy again, in every way")
    return parser


def export(arguments: list[str]) -> int:
    """Write the file and its card. Raises: ConfigError, DataError, RunError before anything is written."""
    options = export_parser().parse_args(arguments)
    check_packages(options.format)
    trained = load_trained(Path(options.run), options.weights, warn)
    path = place(options, trained)
    card_path = path.with_name(f"{path.name}.md")
    check_place(path, card_path)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(TRIAL_IMAGES, 3, trained.phase.val_sz, trained.phase.val_sz, generator=generator)
    network, difference = receiver(options.format, trained.config, trained.network, trained.classes, images)
    rows = remeasured(trained, network.module, options.evaluate) if options.evaluate else []
    data, more = contents(options.format, trained, network.module, images)
    digest = hashlib.sha256(data).hexdigest()
    handover = Handover(path.name, options.format, network, digest, len(data), difference, more, utc_now())
    write(path, data)
    write(card_path, card(trained, handover, rows).encode())
    print(f"{path}: {trained.weights} weights after {trained.counters['epoch']} epochs, for {network.make}")
    print(f"checked: {handover.checks()}")
    print(f"{card_path}: model card")
    return 0


def place(options: argparse.Namespace, trained: Trained) -> Path:
    suffix = SUFFIXES[options.format]
    if not options.out:
        kind = "" if suffix == f".{options.format}" else f".{options.format}"
        return trained.folder / f"{short_name(trained.config.model).translate(FILE_NAME)}{kind}{suffix}"
    path = Path(options.out)
    if path.suffix not in (suffix, ".pth" if suffix == ".pt" else suffix):
        raise ConfigError(f"--out {path}: a file of --format {options.format} ends in {suffix}. Name it so")
    return path


def check_place(path: Path, card_path: Path) -> None:
    """Raises: ConfigError where nothing can be written, or a file would be lost that is no model card."""
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.parent}. Make it first")
    if path.is_dir() or card_path.is_dir():
        raise ConfigError(f"--out {path}: a folder is in the way. Choose another name")
    if path.exists() and not card_path.exists():
        raise ConfigError(f"--out {path}: has no model card, so it is no export, and would be lost. Choose another")
    if card_path.exists() and not card_path.read_text(errors="replace").startswith(MARK):
        raise ConfigError(f"{card_path}: is no model card and would be lost. Choose another --out")


def remeasured(trained: Trained, network: torch.nn.Module, data: str) -> list[Remeasured]:
    """Square and rectangular (image trees only), alone, with mirror images and with the run's own views, at the last
    phase's size.

    `data`: prepared like the run's own dataset. Raises: ConfigError, DataError.
    """
    data = data.rstrip("/")
    dataset = load_manifest(data + trained.phase.valdir)
    is_own = dataset.sha256 == trained.validated_sha256
    holdout = trained.config.holdout if is_own else 0.0  # a part of other images means nothing
    pictures = open_pictures(replace(trained.config, data=data, holdout=holdout), trained.phase)
    check_classes(trained, dataset, f"--evaluate {data}", warn)
    if not is_own:
        warn(f"--evaluate {data}: not the dataset that the run was trained on; the card says so")
    subject, size = Subject(network, trained.config, trained.weights, trained.mean, trained.std), trained.phase.val_sz
    shapes = SHAPES if pictures.has_rectangles and takes_rectangles(subject, size) else SHAPES[:1]
    views = dict.fromkeys(("none", "flip", trained.config.tta))
    ways = [Way(size, shape, tta) for shape in shapes for tta in views]
    with open_env(replace(trained.config, device="cpu" if trained.config.device == "cpu" else "auto")) as env:
        where = f"{dataset.name} {dataset.sha256[:12]}, {env.device.type}"
        return [Remeasured(item.way.shape, item.seen, where) for item in measured([subject], pictures, ways, env, warn)]


def contents(format: str, trained: Trained, network: torch.nn.Module, images: torch.Tensor) -> tuple[bytes, str]:
    """The file, and how it was checked."""
    if format == "onnx":
        return onnx_bytes(network, images, metadata(trained))
    if format == "safetensors":
        return safetensors_bytes(network, metadata(trained)), "the file read back: the same bits"
    return torch_bytes(network), "the file read back: the same bits"


def metadata(trained: Trained) -> dict[str, str]:
    """For the header of the file: texts only."""
    start, row = trained.run.start, trained.row
    facts = {
        "model": short_name(trained.config.model),
        "blurpool": trained.config.blurpool,
        "width": trained.config.width,
        "classes": trained.classes,
        "recipe": start.recipe,
        "weights": trained.weights,
        "epoch": trained.counters["epoch"],
        "top1_percent": f"{row.validation.percent('top1'):.3f}" if row else "not measured",
        "top5_percent": f"{row.validation.percent('top5'):.3f}" if row else "not measured",
        "image_size": trained.phase.val_sz,
        "val_resize": trained.phase.val_resize or trained.config.val_resize,
        "val_interpolation": trained.config.val_interpolation,
        "mean_0_to_255": numbers(trained.mean),
        "std_0_to_255": numbers(trained.std),
        "dataset": start.dataset.get("name", "unknown"),
        "dataset_sha256": start.dataset.get("sha256", "unknown"),
        "commit": (start.commit or "unknown") + (" with changes" if start.dirty else ""),
        "run_id": start.run_id,
        "config_hash": start.config_hash,
    }
    return {name: str(value) for name, value in facts.items()}


def numbers(values: tuple[float, ...] | None) -> str:
    return " ".join(f"{value:.4f}" for value in values) if values else "unknown"


def write(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise ConfigError(f"{path}: cannot write there ({error.strerror}). Choose another --out") from error
