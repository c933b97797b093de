"""The first line of an attempt in run.jsonl: everything a report needs to know about a run."""

from typing import Any

from data_prep import Manifest
from dawn.runlog.clock import DEFINITION
from phases import Schedule
from training.config.config import Config, changed_settings
from training.config.loaders import reads
from training.config.own_code import own_code, short_name
from training.distributed.env import Env
from training.engine.optimizers import momentum_of
from training.engine.state import TrainState
from training.logs.environment import hardware, versions
from training.logs.host import Hosts
from training.logs.machine import source_commit
from training.models.layouts import LAYOUTS

GROUP_FACTS = ("beta2", "eps", "trust_coeff", "trust_clip", "max_grad_norm")  # where the optimiser has them


def start_fields(
    config: Config,
    schedule: Schedule,
    dataset: Manifest,
    loader: str,
    env: Env,
    state: TrainState,
    identity: dict[str, Any],
    resumed: dict[str, Any] | None,
    hosts: Hosts,
) -> dict[str, Any]:
    """Fields of the "start" event but for event, attempt and utc."""
    commit, dirty = source_commit()
    train, validation = dataset.splits["train"].images, dataset.splits["validation"].images
    return {
        "run_id": identity["run_id"],
        "task": dataset.task,
        "metric": config.metric,
        "target": float(config.target) if config.target else None,
        "recipe": config.recipe,
        "model": model_name(config),
        "seed": config.seed,
        "precision": state.precision.name,
        "world_size": env.world_size,
        "config": identity["fields"],
        "config_hash": identity["config_hash"],
        "changed": changed_settings(config),
        "phases": identity["fields"]["phases"],
        "total_epochs": schedule.total_epochs,
        "optimizer": optimizer_facts(config, state),
        "dataset": {
            "name": dataset.name,
            "sha256": dataset.sha256,
            "train_images": train,
            "validation_images": validation,
            "classes": len(dataset.classes),
        },
        "hardware": hardware(env, hosts.devices, len(hosts.facts)),
        "hosts": hosts.facts,
        "versions": versions(),
        "commit": commit,
        "dirty": dirty,
        "loader": short_name(loader),
        "page_cache": reads(loader).page_cache,
        "compile_cache": "unknown" if config.compile else "not used",
        "clock_definition": DEFINITION,
        "setup_seconds": state.clock.setup_seconds(),
        "resumed_from": resumed,
    } | ({"own_code": own} if (own := own_code(config)) else {})


def optimizer_facts(config: Config, state: TrainState) -> dict[str, Any]:
    return {
        "name": short_name(config.optimizer),
        "momentum": config.momentum,
        "weight_decay": config.weight_decay,
        "nesterov": config.nesterov,
        "clip_grad": config.clip_grad,
        "groups": group_facts(state),
    }


def group_facts(state: TrainState) -> list[dict[str, Any]]:
    """What each parameter group trains with: its learning rate is the schedule's times `lr_factor`. `momentum` is
    Adam's beta1 where there is one."""
    return [
        {
            "optimizer": type(optimizer).__name__,
            "parameters": sum(p.numel() for p in group["params"]),
            "lr_factor": group["lr_factor"],
            "momentum": momentum_of(group),
            "weight_decay": group["weight_decay"],
        }
        | own_facts(group)
        for optimizer in state.optimizers
        for group in optimizer.param_groups
    ]


def own_facts(group: dict[str, Any]) -> dict[str, Any]:
    """Of AdamW, LAMB and LARS what they have beside SGD's."""
    if "momentum" not in group and "betas" in group:
        group = group | {"beta2": group["betas"][1]}
    return {name: group[name] for name in GROUP_FACTS if name in group}


def model_name(config: Config) -> str:
    return (
        f"{config.model}-x{config.width:g}"
        if config.model in LAYOUTS and config.width != 1
        else short_name(config.model)
    )
