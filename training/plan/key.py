"""What a measurement depends on beside the sizes and batches of a schedule: settings, data, hardware, software. No
torch, so that a plan from the cache is there at once."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from data_prep import Manifest
from data_prep.workers import default_workers
from phases import Schedule
from training.config.config import Config
from training.config.own_code import own_code
from training.data.dataset import loader_name
from training.logs.machine import cpu_name, gpu_names, package_version, source_digest

# Settings that change what is computed, not how long it takes, or that a schedule or a point holds. A new one counts
# until it stands here.
INDIFFERENT = {
    "phases", "whitening_epochs", "whitening_decay", "target", "metric", "seed", "epochs", "batch_size",
    "size_factor", "start_epoch", "short_epoch", "scale_lr", "momentum", "muon_momentum", "lookahead_from",
    "lookahead_power", "beta2", "eps", "trust_coefficient", "weight_decay",
    "bias_lr", "head_lr", "label_smoothing", "bce_threshold", "mix_off_epoch", "tta", "val_resize", "eval_every",
    "eval_from", "stop_at_target", "loader", "loss_scale", "policy_magnitude", "policy_magnitude_std",
}  # fmt: skip
MACHINE = ("workers", "threads", "inspect", "detect_anomaly")  # no part of the experiment, and yet of its speed
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg", "nvidia-dali-cuda130")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


def key_of(config: Config, schedule: Schedule, dataset: Manifest) -> dict[str, Any]:
    """Ready for JSON."""
    return {
        "settings": settings_of(config),
        "loader": loader_name(config, schedule),
        "data": {"sha256": dataset.sha256, "classes": len(dataset.classes)},
        "hardware": hardware_facts(config),
        "own_code": {flag: facts["sha256"] for flag, facts in own_code(config).items()},
        "software": {"code": source_digest()} | {name: package_version(name) for name in PACKAGES},
    }


def settings_of(config: Config) -> dict[str, Any]:
    """Those that a time depends on."""
    wanted = [f.name for f in fields(Config) if f.metadata["training"] and f.name not in INDIFFERENT]
    return {name: getattr(config, name) for name in [*wanted, *MACHINE]}


def hardware_facts(config: Config) -> dict[str, Any]:
    return {
        "cpu": cpu_name(),
        "cores": default_workers(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": [] if config.device == "cpu" else gpu_names(),
        "environment": {name: os.environ.get(name) for name in THREADS},
    }


def digest_of(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
