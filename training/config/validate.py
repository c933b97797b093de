"""What the values of a Config may be: a range for each number, and settings that only go with others."""

from dataclasses import fields
from typing import Any

from training.config.own_code import is_own
from training.errors import ConfigError

MIN_ALPHA = 0.01  # below it torch's Beta distribution draws halves: both of its gamma samples underflow to 0

RANGES = (
    ("width", 0.01, 64),
    ("seed", 0, 2**63 - 1),
    ("epochs", 0, 100_000),
    ("batch_size", 0, 10**9),
    ("size_factor", 0.01, 16),
    ("start_epoch", 0, 100_000),
    ("accumulate", 1, 10**6),
    ("loss_scale", 0, 2**24),
    ("timeout_minutes", 0.01, 10**5),
    ("momentum", 0, 0.9999),
    ("muon_momentum", 0, 0.9999),
    ("muon_steps", 1, 100),
    ("muon_rescale_every", 1, 10**6),
    ("muon_rescale_growth", 0, 10**6),
    ("beta2", 0, 0.999999),
    ("eps", 0, 1),
    ("trust_coefficient", 1e-9, 1e3),
    ("clip_grad", 0, 1e9),
    ("aux_weight", 0, 10),
    ("inspect_every", 1, 1_000_000),
    ("bce_threshold", 0, 0.99),
    ("drop_path", 0, 0.99),
    ("mixup", 0, 100),
    ("cutmix", 0, 100),
    ("mix_prob", 0, 1),
    ("mix_off_epoch", 0, 10**6),
    ("weight_decay", 0, 100),
    ("bias_lr", 0, 1e6),
    ("head_lr", 0, 1e6),
    ("label_smoothing", 0, 0.99),
    ("ema_decay", 0, 0.999999),
    ("ema_every", 1, 10**6),
    ("lookahead", 0, 0.999999),
    ("lookahead_every", 1, 10**6),
    ("lookahead_from", 0, 10**6),
    ("lookahead_power", 0, 100),
    ("shift", 0, 512),
    ("cutout", 0, 4096),
    ("brightness", 0, 10),
    ("contrast", 0, 1),
    ("policy_magnitude", 0, 30),
    ("policy_magnitude_std", 0, 30),
    ("policy_ops", 1, 4),
    ("random_erasing", 0, 1),
    ("repeated_augmentation", 1, 256),
    ("workers", -1, 1024),
    ("holdout", 0, 10**9),
    ("val_resize", 1, 4),
    ("whitening_epochs", 0, 10**6),
    ("eval_every", 1, 10**6),
    ("eval_from", 0, 10**6),
    ("threads", 0, 4096),
    ("checkpoint_every", 1, 10**6),
    ("checkpoint_minutes", 0, 1e6),
    ("print_freq", 1, 10**9),
)


def check_settings(config: Any) -> None:
    """Raises: ConfigError for a value out of its range, or one that the rest of the Config would pass over in
    silence."""
    for item in fields(config):
        check_value(item.name, getattr(config, item.name), **item.metadata)
    for name, low, high in RANGES:
        value = getattr(config, name)
        if not low <= value <= high:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: must be from {low:g} to {high:g}")
    if config.holdout >= 1 and config.holdout % 1:
        raise ConfigError(f"--holdout {config.holdout:.15g}: must be a share below 1 or a whole number of images")
    if config.whitening_epochs % 1 and not config.whitening_decay:
        raise ConfigError(
            f"--whitening-epochs {config.whitening_epochs:.15g}: a layer is frozen between two epochs. Use a whole "
            "number, or --whitening-decay, whose learning rate is 0 from there on"
        )
    check_optimizer(config)
    check_graphs(config)
    check_anomalies(config)
    if config.bce_threshold and config.loss != "bce":
        raise ConfigError(f"--bce-threshold {config.bce_threshold:g}: --loss {config.loss} has none; use --loss bce")
    for name in ("mixup", "cutmix"):
        if 0 < getattr(config, name) < MIN_ALPHA:
            raise ConfigError(f"--{name} {getattr(config, name):g}: must be 0 (off) or at least {MIN_ALPHA}")


WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}


def check_value(name: str, value: Any, kind: type, choices: tuple[str, ...], own: bool, **others: Any) -> None:
    """Raises: ConfigError for a value that the flag would not take either."""
    flag = f"--{name.replace('_', '-')}"
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (kind in (int, float) and isinstance(value, bool)):
        raise ConfigError(f"{flag} {value!r:.60}: must be {WORDS[kind]}")
    if choices and value not in choices and not (own and is_own(value)):
        more = ", or a function of yours as FILE.py:FUNCTION" if own else ""
        raise ConfigError(f"{flag} {value!r:.60}: choose from {', '.join(choices)}{more}")


def check_graphs(config: Any) -> None:
    """Raises: ConfigError for parts of a batch under CUDA graphs: the gradients that a part leaves lie in the graph's
    memory, where the next part overwrites them. torch may not even tell (pytorch#169545, #96693)."""
    if config.accumulate > 1 and config.compile and config.compile_mode == "reduce-overhead":
        raise ConfigError(
            f"--accumulate {config.accumulate}: CUDA graphs lose the gradients of all parts but the last. "
            "Use --compile-mode default, or --accumulate 1"
        )


def check_anomalies(config: Any) -> None:
    """Raises: ConfigError where torch's anomaly mode would say nothing, or end a run that is well."""
    if config.detect_anomaly and config.compile:
        raise ConfigError(
            "--detect-anomaly: a compiled network is one operation, so nothing inside it can be named. Use --no-compile"
        )
    if config.detect_anomaly and config.precision == "fp16":
        raise ConfigError(
            "--detect-anomaly: --precision fp16 begins with gradients that overflow until its loss scale fits, which "
            "would end the run. Use bf16 or fp32; `python -m training diagnose RUN` explains a run of fp16"
        )


def check_optimizer(config: Any) -> None:
    """Raises: ConfigError for a setting that the optimiser does not have."""
    name = config.optimizer
    if config.nesterov and name in ("adamw", "lamb"):
        raise ConfigError(
            f"--nesterov: --optimizer {name} has none; use --no-nesterov (a recipe may set it) or another optimizer"
        )
    if config.nesterov and not config.momentum:
        raise ConfigError("--nesterov: --momentum is 0; use a momentum above 0 or --no-nesterov")
    if config.trust_clip and name not in ("lamb", "lars") and not is_own(name):
        raise ConfigError(f"--trust-clip: --optimizer {name} has none; use lars or lamb, or --no-trust-clip")
    if name in ("lamb", "lars") and not config.weight_decay:
        raise ConfigError(f"--weight-decay 0: {name} adapts only weights that decay; use a tiny one such as 1e-12")
