"""The one configuration of a run: a frozen dataclass whose fields are the flags, their defaults and their help texts.

Precedence: default of the field < recipe < command line. No configuration files and no environment variables.
"""

import argparse
import hashlib
import json
import re
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any

from training.config.loaders import LOADERS
from training.config.validate import check_settings
from training.errors import ConfigError


def option(
    default: Any,
    help: str,
    *flags: str,
    choices: tuple[str, ...] = (),
    training: bool = True,
    kind=None,
    own: bool = False,
) -> Any:
    """A field that becomes the flag --name. `training`: a change of it makes another experiment, so resume refuses
    it. `own`: beside its choices it may name a function of the user's (training/config/own_code.py)."""
    return field(
        default=default,
        metadata={
            "help": help,
            "flags": flags,
            "choices": choices,
            "training": training,
            "kind": kind or type(default),
            "own": own,
        },
    )


BACKENDS = ("auto", "nccl", "gloo")
INTERPOLATIONS = ("bilinear", "bicubic")
TTA = ("none", "flip", "flip-shift", "flip-shift-25")  # training/engine/views.py has them
SHORT_EPOCH = 11  # steps; the 2018 code left its loop after the eleventh batch


@dataclass(frozen=True)
class Config:
    """All settings of one run. Sizes, batch sizes and learning rates are in `phases`; `batch_size` there is per
    device."""

    # what
    data: str = option("", "dataset folder, as prepared by `python -m data_prep`", training=False)
    recipe: str = option("", "settings by name (see `python -m training recipes`) or FILE.py:FUNCTION", training=False)
    phases: str = option("", "phase schedule: preset name, JSON file, JSON or Python-literal text")
    model: str = option(
        "cifarnet",
        "cifarnet, cifarnet-95, cifarnet-96, cifarnet-fulcrum; a model of torchvision or timm by name, timm/NAME: "
        "timm's; or FILE.py:FUNCTION",
        own=True,
    )
    width: float = option(1.0, "width of cifarnet as a multiple of its channels, 64-256-256")
    whitening_epochs: float = option(3.0, "epochs that train cifarnet's whitening bias; later it is frozen")
    whitening_decay: bool = option(
        False, "the whitening bias's learning rate, relative to the schedule's, falls to 0 over --whitening-epochs"
    )
    target: str = option("", "stop criterion in percent, e.g. 94; empty: train the whole schedule", kind=str)
    metric: str = option("top1", "accuracy the target is about", choices=("top1", "top5"))
    seed: int = option(0, "seed of weights, order and augmentation")
    # schedule changes
    epochs: int = option(0, "compress the schedule proportionally to this many epochs; 0: as written")
    batch_size: int = option(0, "scale every phase's batch so that the first is this; 0: as written")
    size_factor: float = option(1.0, "scale every image size, to multiples of 8 and at least 32: for a trial")
    start_epoch: int = option(0, "epoch (from 0) to begin at: those before are skipped")
    short_epoch: bool = option(False, "end every epoch after 11 steps: for a trial, not for a result")
    scale_lr: bool = option(False, "scale learning rates with the global batch against the preset's own")
    # optimisation
    optimizer: str = option(
        "sgd",
        "torch's sgd and adamw, timm's lamb and lars; muon: timm's for convolutions, else sgd; or FILE.py:FUNCTION",
        choices=("sgd", "adamw", "lamb", "lars", "muon"),
        own=True,
    )
    momentum: float = option(0.9, "momentum where the schedule names none; of adamw and lamb: beta1")
    muon_momentum: float = option(0.6, "momentum of Muon's convolutions")
    muon_steps: int = option(3, "Newton-Schulz steps of Muon's updates")
    muon_coefficients: str = option(
        "original", "of Muon's Newton-Schulz steps", choices=("original", "quintic", "polar_express", "hiverge")
    )
    muon_precision: str = option(
        "bf16",
        "of Muon's Newton-Schulz steps; auto: as the run, bf16 for fp16",
        choices=("bf16", "fp32", "auto"),
    )
    muon_rescale_every: int = option(1, "steps between two rescalings of Muon's filters, at the beginning")
    muon_rescale_growth: int = option(0, "steps by which that number has grown at the end of the schedule")
    beta2: float = option(0.999, "adamw, lamb: decay of the squared gradients' average")
    eps: float = option(0.0, "added to a denominator; 0: the library's own (adamw, lars 1e-8, lamb 1e-6)")
    trust_coefficient: float = option(0.001, "lars: trust coefficient")
    trust_clip: bool = option(False, "lars: LARC, trust ratios cut off at the learning rate; lamb: cut off at 1")
    clip_grad: float = option(0.0, "largest norm of all gradients together; 0: off (lamb: 1, as timm has it)")
    nesterov: bool = option(False, "Nesterov momentum")
    weight_decay: float = option(5e-5, "weight decay (L2)", "--wd")
    no_bn_wd: bool = option(False, "no weight decay on norms and biases")
    init_bn0: bool = option(False, "zero-init the last BN weight of each residual block")
    bias_lr: float = option(1.0, "learning rate of norms and biases relative to the schedule's")
    head_lr: float = option(1.0, "learning rate of the last linear layer relative to the schedule's")
    loss: str = option("ce", "cross entropy, or binary cross entropy of each class", choices=("ce", "bce"))
    label_smoothing: float = option(0.0, "label smoothing of the training loss")
    bce_threshold: float = option(0.0, "bce: soft targets above it become 1, the others 0; 0: they stay soft")
    aux_weight: float = option(
        0.0, "weight of each auxiliary head's loss, such as 0.3 for googlenet and inception_v3; 0: without the heads"
    )
    accumulate: int = option(1, "parts that a device's batch is cut into, one after the other, to save memory")
    ema_decay: float = option(0.0, "evaluate an exponential moving average of the weights; 0: off")
    ema_every: int = option(5, "steps between two EMA updates")
    lookahead: float = option(
        0.0, "lookahead: weight of the slow weights in their average with the trained ones (1907.08610); 0: off"
    )
    lookahead_every: int = option(5, "steps from one such average, which becomes both, to the next")
    lookahead_from: float = option(0.0, "epoch of the schedule where lookahead begins; it may be a fraction")
    lookahead_power: float = option(
        0.0, "the weight is --lookahead times this power of the finished share of the schedule; 0: constant"
    )
    drop_path: float = option(0.0, "stochastic depth of timm's models: rate of the last block, from 0 at the first")
    blurpool: bool = option(False, "blur before every strided convolution of 16 and more channels (arXiv:1904.11486)")
    # data and augmentation
    loader: str = option(
        "auto",
        "data pipeline; auto: the fastest that the dataset and the installation allow; or FILE.py:FUNCTION",
        own=True,
        choices=("auto", *LOADERS),
    )
    workers: int = option(
        -1,
        "processes or threads that prepare image trees; -1: one per usable CPU core, 0: none (torchvision; else one)",
        "-j",
        training=False,
    )
    dali_output: str = option(
        "auto",
        "what DALI hands over: uint8, or normalised half (auto: on a GPU, but for fp32)",
        choices=("auto", "uint8", "half"),
    )
    packed_in: str = option(
        "map",
        "where packed trees live: memory map, RAM, or the device",
        choices=("map", "ram", "device"),
    )
    shift: int = option(0, "random shift with reflected borders, in pixels of the stored images (memory loader)")
    flip: str = option(
        "random",
        "horizontal flip; alternating: a random half first, then the other half in turn",
        choices=("none", "random", "alternating"),
    )
    cutout: int = option(0, "side of a square hole, in pixels of the stored images; 0: off (memory loader)")
    brightness: float = option(
        0.0, "largest random shift of an image's normalised values, up and down; 0: off (memory loader)"
    )
    contrast: float = option(
        0.0, "largest random change of the factor 1 that multiplies them then; 0: off (memory loader)"
    )
    policy: str = option(
        "none",
        "augmentation policy per image of a tree (arXiv:2103.10158, 1909.13719)",
        choices=("none", "trivialaugment", "randaugment", "autoaugment", "timm-randaugment"),
    )
    policy_magnitude: float = option(
        9.0, "strength of randaugment in torchvision's bins 0..30, of timm-randaugment in timm's levels 0..10"
    )
    policy_magnitude_std: float = option(0.0, "deviation of that strength from one operation to the next")
    policy_ops: int = option(2, "operations per image of randaugment and timm-randaugment")
    random_erasing: float = option(
        0.0, "share of the images that have a random box erased (torchvision's RandomErasing); 0: off"
    )
    repeated_augmentation: int = option(
        1, "times that an image comes in an epoch, each time augmented anew; the epoch stays as long as it is"
    )
    interpolation: str = option("bilinear", "resizing of training images", choices=INTERPOLATIONS)
    antialias: bool = option(True, "low-pass filter before training images are made smaller (memory loader)")
    mixup: float = option(0.0, "alpha of mixup (arXiv:1710.09412), on the device; 0: off")
    cutmix: float = option(0.0, "alpha of cutmix (arXiv:1905.04899); with mixup too: one of both at random per batch")
    mix_prob: float = option(1.0, "share of the batches that are mixed")
    mix_off_epoch: int = option(0, "epoch (from 0) from which nothing is mixed; 0: mix to the end")
    # validation
    holdout: float = option(
        0.0,
        "validate on a part split off the training images, the same share of each class: below 1 a share, else a "
        "number of images; 0: off, validate on the dataset's own validation images",
    )
    tta: str = option(
        "none",
        "test-time augmentation, the mean logits of: flip: the image and its mirror image; flip-shift: these and both "
        "shifted by a pixel, six views; flip-shift-25: the six for the least sure quarter of the images",
        choices=TTA,
    )
    val_resize: float = option(
        1.14, "image trees: short side before the centre crop, in validation sizes; a phase may say otherwise"
    )
    val_interpolation: str = option("bilinear", "resizing of validation images", choices=INTERPOLATIONS)
    rect_rule: str = option(
        "bucketed",
        "shapes of rectangular validation; 2018: of the imagenet18 code, where the batch size changes the result",
        choices=("bucketed", "2018"),
    )
    eval_every: int = option(1, "epochs between validations (the last epoch is always validated)")
    eval_from: int = option(0, "first epoch (0-based) that may be validated")
    stop_at_target: bool = option(False, "end the run when the target is reached")
    # machine
    device: str = option("auto", "where to train", choices=("auto", "cpu", "cuda"))
    precision: str = option(
        "auto",
        "auto: bf16 where a GPU has it, else fp16; on a CPU bf16 unless fp32 is clearly faster",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    loss_scale: float = option(0.0, "fp16: fixed scale of the loss; 0: dynamic")
    channels_last: bool = option(True, "NHWC memory layout")
    compile: bool = option(False, "torch.compile, warmed up before the clock starts")
    compile_mode: str = option(
        "default",
        "of --compile; reduce-overhead: CUDA graphs, for small batches and small images",
        choices=("default", "reduce-overhead", "max-autotune-no-cudagraphs"),
    )
    threads: int = option(0, "CPU threads; 0: torch's default, or the cores shared among the ranks", training=False)
    preflight: str = option(
        "auto",
        "try every size and batch once before the clock starts, largest first; auto: on a GPU or with --compile",
        choices=("auto", "on", "off"),
        training=False,
    )
    # several processes (torchrun, torch.distributed.launch, srun)
    sync_bn: bool = option(False, "batch norm over the batches of all devices (GPU)")
    dist_url: str = option("", "where the ranks meet: env:// (torchrun) or tcp://HOST:PORT", training=False)
    dist_backend: str = option("auto", "NCCL between GPUs, gloo between CPUs", choices=BACKENDS, training=False)
    timeout_minutes: float = option(10.0, "how long a rank waits for another before the run ends", training=False)
    allow_elastic: bool = option(
        False, "with --resume: go on with another number of devices, the global batch as it was", training=False
    )
    # run folder
    logdir: str = option("", "run folder; default: a new runs/RECIPE-NNN", training=False)
    resume: str = option("", "go on with this run folder or checkpoint (--resume alone: with --logdir)", training=False)
    checkpoint_every: int = option(1, "epochs between checkpoints (the last epoch is always saved)", training=False)
    checkpoint_minutes: float = option(10.0, "minutes between checkpoints inside an epoch", training=False)
    print_freq: int = option(10, "steps between log lines", "-p", training=False)
    tensorboard: bool = option(True, "write TensorBoard scalars", training=False)
    chart: bool = option(
        True, "draw accuracy.png at the end (`python -m dawn chart RUN` does it later)", training=False
    )
    inspect: str = option(
        "off",
        "look inside the run: what it confuses, its worst images; full: gradients, pictures and curves, too",
        choices=("off", "light", "full"),
        training=False,
    )
    inspect_every: int = option(50, "steps between two looks at the gradients, with --inspect full", training=False)
    detect_anomaly: bool = option(
        False, "torch's anomaly mode: a non-finite gradient ends the run with the operation's name", training=False
    )
    evaluate: bool = option(False, "only validate (a checkpoint with --resume)", "-e", training=False)
    dry_run: bool = option(False, "print the resolved configuration and schedule, and stop", training=False)
    inject_fault: str = option("", argparse.SUPPRESS, training=False)  # tests only: see training/engine/faults.py

    def __post_init__(self) -> None:
        check_settings(self)
        percentage(self.target)

    def steps_of(self, steps: int) -> int:
        """Steps of an epoch that has the images for `steps`."""
        return min(steps, SHORT_EPOCH) if self.short_epoch else steps

    def training_fields(self, phases: list[dict]) -> dict[str, Any]:
        """The fields that define the experiment, with the resolved phase list; their hash names it."""
        chosen = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata["training"]}
        return chosen | {"phases": phases}


def changed_settings(config: Config) -> list[str]:
    """Names of the training fields that are not at their defaults, by a recipe or a flag."""
    return [f.name for f in fields(Config) if f.metadata["training"] and getattr(config, f.name) != f.default]


def percentage(target: str) -> Fraction | None:
    """The exact value of --target; None for ''. Raises: ConfigError for anything but a percentage in (0, 100]."""
    if not target:
        return None
    percent = Fraction(target) if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,9})?", target) else Fraction(0)
    if not 0 < percent <= 100:
        raise ConfigError(f"--target {target!r}: must be a percentage above 0 and up to 100, such as 94")
    return percent


def config_hash(training_fields: dict[str, Any]) -> str:
    """SHA-256 of the experiment: equal hashes are the same experiment."""
    return hashlib.sha256(json.dumps(training_fields, sort_keys=True).encode()).hexdigest()


def differences(saved: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """One text per training field that is not the same: 'seed: 0 in the checkpoint, 1 now'. A setting that the
    checkpoint's code did not know yet was at its default, which does what was done before."""
    before = {f.name: f.default for f in fields(Config) if f.name in current} | saved
    return [
        f"{name}: {before.get(name)!r} in the checkpoint, {current.get(name)!r} now"
        for name in sorted(before.keys() | current.keys())
        if before.get(name) != current.get(name)
    ]


def with_values(config: Config, values: dict[str, Any]) -> Config:
    """`config` with some fields replaced. Raises: ConfigError for a name that is no field."""
    unknown = values.keys() - {f.name for f in fields(Config)}
    if unknown:
        raise ConfigError(f"unknown setting {sorted(unknown)[0]!r} in the saved configuration")
    return replace(config, **values)
