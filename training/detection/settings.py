"""The settings of `python -m training detect` and its command line."""

import argparse
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from dawn.filekind import wrong_kind
from training.config.parser import Parser
from training.config.saved import CONFIG
from training.errors import ConfigError


class Preset(NamedTuple):
    optimizer: str  # adamw | sgd
    lr: float
    weight_decay: float
    help: str


PRESETS = {
    "adamw": Preset("adamw", 1e-4, 0.1, "what suits most classification backbones"),
    "sgd": Preset("sgd", 0.04, 1e-5, "momentum 0.9"),
    "rsb": Preset("adamw", 2e-4, 0.05, "for backbones of the ResNet Strikes Back recipes (arXiv:2110.00476)"),
}
# What may change in a resumed run; of data and weights the place, not the content (training/detection/command.py).
MACHINE = ("data", "weights", "device", "workers", "logdir", "resume", "checkpoint_minutes")
RANGES = (
    ("lr", 0, 100),
    ("weight_decay", -1, 100),
    ("epochs", 1, 10_000),
    ("steps", 0, 10**9),
    ("batch_size", 1, 4096),
    ("size", 32, 8192),
    ("max_size", 32, 16384),
    ("seed", 0, 2**63 - 1),
    ("eval_every", 1, 10_000),
    ("workers", 0, 256),
    ("checkpoint_minutes", 0, 10**6),
)


@dataclass(frozen=True)
class DetectSettings:
    """One fine-tuning. lr 0 and weight_decay -1: the preset's. steps 0: as many as the epochs have."""

    data: str = ""
    weights: str = ""
    model: str = ""
    preset: str = "adamw"
    lr: float = 0.0
    weight_decay: float = -1.0
    epochs: int = 12
    steps: int = 0
    batch_size: int = 16
    size: int = 800
    max_size: int = 1333
    frozen_bn: bool = False
    eval_every: int = 1
    precision: str = "fp32"
    seed: int = 0
    device: str = "auto"
    workers: int = 2
    checkpoint_minutes: float = 10.0
    logdir: str = ""
    resume: str = ""

    def __post_init__(self) -> None:
        for name, low, high in RANGES:
            value = getattr(self, name)
            if not low <= value <= high:  # NaN fails too
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must be from {low:g} to {high:g}")
        if self.max_size < self.size:
            raise ConfigError(f"--max-size {self.max_size}: must not be below --size {self.size}")

    @property
    def chosen(self) -> Preset:
        """The preset with --lr and --weight-decay on top."""
        preset = PRESETS[self.preset]
        decay = preset.weight_decay if self.weight_decay < 0 else self.weight_decay
        return preset._replace(lr=self.lr or preset.lr, weight_decay=decay)

    def experiment(self) -> dict[str, Any]:
        """What makes it another experiment when it changes."""
        return {name: value for name, value in asdict(self).items() if name not in MACHINE}


def detect_parser() -> argparse.ArgumentParser:
    """A flag that is not given leaves no trace, so that those of a run to be resumed show through."""
    parser = Parser(
        prog="python -m training detect",
        description="Fine-tune torchvision's Faster R-CNN with an FPN on the backbone of a run; report COCO's mAP.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("data", nargs="?", metavar="DATA", help="dataset in COCO's format")
    add = parser.add_argument
    add("--weights", metavar="WEIGHTS", help="folder of a run, file of an export, `random`, or torchvision's weights "
        "by name (ResNet50_Weights.IMAGENET1K_V2), which are downloaded")  # fmt: skip
    add("--model", metavar="NAME", help="ResNet of --weights random (default: resnet50) or of a file")
    presets = "; ".join(f"{n}: {p.optimizer} {p.lr:g}, weight decay {p.weight_decay:g}" for n, p in PRESETS.items())
    add("--preset", choices=tuple(PRESETS), help=f"default: adamw. {presets}")
    add("--lr", type=float, metavar="FLOAT", help="default: the preset's")
    add("--weight-decay", type=float, metavar="FLOAT", help="default: the preset's")
    add("--epochs", type=int, metavar="N", help="default: 12")
    add("--steps", type=int, metavar="N", help="end after so many steps; the learning rate is made for them")
    add("--batch-size", type=int, metavar="N", help="default: 16")
    add("--size", type=int, metavar="PIXELS", help="short side (default: 800)")
    add("--max-size", type=int, metavar="PIXELS", help="longest long side (default: 1333)")
    add("--frozen-bn", action="store_true", help="do not train the backbone's batch norms (default: trained)")
    add("--eval-every", type=int, metavar="N", help="epochs between evaluations (default: 1); always after the last")
    add("--precision", choices=("fp32", "bf16"), help="default: fp32")
    add("--seed", type=int, metavar="N", help="of new layers, order and mirroring (default: 0)")
    add("--device", choices=("auto", "cpu", "cuda"), help="default: auto")
    add("--workers", type=int, metavar="N", help="processes that read pictures (default: 2; 0: none)")
    add("--checkpoint-minutes", type=float, metavar="FLOAT", help="between checkpoints inside an epoch (default: 10)")
    add("--logdir", metavar="FOLDER", help="run folder (default: a new runs/detect-NNN)")
    add("--resume", metavar="RUN", help="go on with this run of detect")
    return parser


def detect_settings(arguments: list[str]) -> DetectSettings:
    """Raises: ConfigError for what is missing, out of range, or another experiment than the run to be resumed."""
    given = vars(detect_parser().parse_args(arguments))
    given = {name: value for name, value in given.items() if value is not None}
    if not given.get("resume"):
        for name, what in (("data", "DATA, a dataset in COCO's format"), ("weights", "--weights RUN, FILE or random")):
            if not given.get(name):
                raise ConfigError(f"give {what}. See python -m training detect --help")
        return DetectSettings(**given)
    saved = saved_settings(Path(given["resume"]))
    settings = DetectSettings(**{**saved, "logdir": given["resume"], **given})
    before = DetectSettings(**saved).experiment()
    changed = [f"{n}: {before[n]!r} then, {v!r} now" for n, v in settings.experiment().items() if v != before[n]]
    if changed:
        raise ConfigError(f"--resume {given['resume']}: not the same experiment: {'; '.join(changed)}. Leave it out")
    return settings


def saved_settings(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        saved = json.loads(path.read_text())
        known = {field.name for field in fields(DetectSettings)}
        if not isinstance(saved, dict) or not saved.keys() <= known:
            raise ValueError("not of a run of detect")
        DetectSettings(**saved)
        return saved
    except OSError as error:
        raise ConfigError(f"--resume {folder}: no run there ({path.name}: {error.strerror}). Name its folder") from None
    except (ValueError, TypeError, RecursionError) as error:
        reason = wrong_kind(path) or f"{error}. Start a new run instead"
        raise ConfigError(f"--resume {folder}: {path.name}: {reason}") from None
