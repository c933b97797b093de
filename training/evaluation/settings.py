"""The command line of `python -m training evaluate`."""

import argparse
from typing import Any

from training.config.config import TTA, Config
from training.config.loaders import LOADERS
from training.config.own_code import is_own
from training.config.parser import Parser
from training.errors import ConfigError

DESCRIPTION = """Measure finished weights in every way of validation: image sizes, shapes, mirror images.

  python -m training evaluate RUN --sizes 128 160 --tta none flip     the weights of a run
  python -m training evaluate --model timm/resnet50.a1_in1k --data DATA
                                                                      published weights, downloaded
  python -m training evaluate --model resnet50 --weights-file FILE --data DATA
                                                                      weights from a file"""
LOADER_NAMES = tuple(name for name in LOADERS if name != "synthetic")
MAX_SIZE = 4096


def evaluate_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m training evaluate",
        description=DESCRIPTION,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run", metavar="RUN", nargs="?", default="", help="folder of the run; or --model")
    add("--model", default="", metavar="NAME", help="published weights: [torchvision/ or timm/]NAME[.TAG]")
    add("--weights-file", default="", metavar="FILE", help="weights of --model, .pt, .pth or .safetensors")
    add("--data", default="", metavar="DATA", help="dataset folder; default: the run's own")
    add("--holdout", type=float, metavar="N", help="0: the dataset's own validation images; default: the run's")
    add("--sizes", type=int, nargs="+", default=[], metavar="PX", help="default: the run's, or the published one")
    add("--square", action="store_true", help="square images only; default: square and, of image trees, rectangular")
    add("--rect", action="store_true", help="rectangular images only; with --square: both")
    add("--tta", nargs="+", default=[], choices=TTA, help="default: none, flip, the run's own")
    add("--weights", nargs="+", default=[], choices=("model", "ema"), help="of a run; default: those it evaluates")
    add("--val-batch", type=int, metavar="N", help="images a batch; default: the run's, or 128")
    add("--resize", type=float, metavar="X", help="short side before the crop, in sizes")
    add("--loader", default="", metavar=f"{{auto,{','.join(LOADER_NAMES)}}}", help="default: the run's")
    add("--workers", "-j", type=int, default=-1, metavar="N", help="as in training")
    add(
        "--device",
        default="",
        choices=("auto", "cpu", "cuda"),
        help="default: auto, or the CPU of a run's --device cpu",
    )
    add("--csv", action="store_true", help="the table as CSV, everything else to the error output")
    return parser


def evaluate_settings(arguments: list[str]) -> argparse.Namespace:
    """Raises: ConfigError for values and combinations that mean nothing."""
    options = evaluate_parser().parse_args(arguments)
    check_subject(options)
    for size in options.sizes:
        if not 1 <= size <= MAX_SIZE:
            raise ConfigError(f"--sizes {size}: must be from 1 to {MAX_SIZE} pixels")
    if options.val_batch is not None and not 1 <= options.val_batch <= 10**6:
        raise ConfigError(f"--val-batch {options.val_batch}: must be from 1 to {10**6}")
    if options.resize is not None and not 1 <= options.resize <= 4:  # NaN fails too
        raise ConfigError(f"--resize {options.resize:g}: must be from 1 to 4 sizes")
    if options.loader not in ("", "auto", *LOADER_NAMES) and not is_own(options.loader):
        raise ConfigError(f"--loader {options.loader}: choose from auto, {', '.join(LOADER_NAMES)}")
    return options


def check_subject(options: argparse.Namespace) -> None:
    """Raises: ConfigError unless just one thing is to be measured."""
    published = options.model or options.weights_file
    if options.run and published:
        flag = "--model" if options.model else "--weights-file"
        raise ConfigError(f"{flag} {published}: a run was given too ({options.run}). Give one of both")
    if not options.run and not published:
        raise ConfigError("nothing to evaluate: give the folder of a run, or --model NAME. See --help")
    if published and not options.data:
        raise ConfigError(f"{published}: on which images? Give --data DATA, a dataset folder")
    if published and options.weights:
        raise ConfigError(f"--weights {' '.join(options.weights)}: only a run has two. Leave it out")


def changed(config: Config, options: argparse.Namespace) -> dict[str, Any]:
    """Fields of `config` that these flags give another value: this machine's part, and the dataset."""
    device = options.device or ("cpu" if config.device == "cpu" else "auto")
    found = {"workers": options.workers, "device": device, "threads": 0, "sync_bn": False}
    asked = {"data": options.data.rstrip("/"), "loader": options.loader}
    if options.holdout is not None:
        found["holdout"] = options.holdout
    return found | {name: value for name, value in asked.items() if value}
