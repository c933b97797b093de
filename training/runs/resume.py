"""Going on with an interrupted run: which checkpoint, whether it is the same experiment, and what was lost."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from data_prep import load_manifest
from dawn import read_events
from phases import Schedule
from training.config.config import Config, config_hash, differences
from training.config.own_code import check_same_code, own_code
from training.distributed.env import Env
from training.distributed.process import age_seconds
from training.engine.checkpoint import generations, load
from training.engine.state import TrainState
from training.errors import ConfigError, Ended, Outcome
from training.logs.environment import device_name
from training.runs.folder import LOG, RESUMABLE, begun, ending, interrupted_folder


def identity_of(config: Config, env: Env, run_id: str, precision: str) -> dict[str, Any]:
    """What a checkpoint says about the run it belongs to."""
    fields = experiment_fields(config)
    return {
        "run_id": run_id,
        "fields": fields,
        "config_hash": config_hash(fields),
        "datasets": dataset_hashes(config),
        "precision": precision,
        "world_size": env.world_size,
    } | machine(env)


def experiment_fields(config: Config) -> dict[str, Any]:
    """The settings with the phase list as written; --epochs, --batch-size and --scale-lr are fields of their own."""
    schedule = Schedule.parse(config.phases)
    fields = config.training_fields(schedule.phases) | {"phases_world_size": schedule.world_size}
    own = own_code(config)
    names = {flag: facts["name"] for flag, facts in own.items()}  # an own file may lie elsewhere: its content counts
    return fields | names | ({"own_code": {flag: facts["sha256"] for flag, facts in own.items()}} if own else {})


def dataset_hashes(config: Config) -> dict[str, str]:
    """SHA-256 of the content of every folder that the phases name, by suffix."""
    suffixes = sorted({s for phase in Schedule.parse(config.phases).data for s in (phase.trndir, phase.valdir)})
    return {suffix: load_manifest(config.data.rstrip("/") + suffix).sha256 for suffix in suffixes}


def machine(env: Env) -> dict[str, Any]:
    """What may change the last bits of a result."""
    return {
        "device": device_name(env),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def load_checkpoint(config: Config, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """The checkpoint that --resume names; None when the run was killed before its first one. Raises: ConfigError."""
    place = Path(config.resume)
    if place.is_dir() and not generations(place / "checkpoints"):
        if config.evaluate:
            raise ConfigError(f"--resume {place}: no checkpoint there to evaluate. Train it first")
        warn(f"{place}: no checkpoint yet, starting from the beginning")
        return None
    return load(place, warn)


def check_identity(saved: dict[str, Any], config: Config, env: Env, warn: Callable[[str], None]) -> None:
    """Raises: ConfigError with the list of differences when going on would be another experiment."""
    check_same_code(saved["fields"].get("own_code", {}), config, f"--resume {config.resume}")
    changed = differences(saved["fields"], experiment_fields(config))
    for suffix, now in dataset_hashes(config).items():
        if saved["datasets"].get(suffix) != now:
            before = (saved["datasets"].get(suffix) or "none")[:12]
            changed.append(f"dataset{suffix}: {before} in the checkpoint, {now[:12]} now")
    if saved["world_size"] != env.world_size:
        change = f"world size: {saved['world_size']} in the checkpoint, {env.world_size} now"
        if config.allow_elastic:
            warn(f"{change}: the global batches stay the same, the bits of the result do not")
        else:
            changed.append(f"{change} (--allow-elastic goes on with the same global batch)")
    if changed:
        raise ConfigError(
            "--resume: not the same experiment: "
            + "; ".join(changed)
            + ". Resume without these changes, or start a new run"
        )
    for name, value in machine(env).items():
        if saved[name] != value:
            warn(
                f"{name} was {saved[name]} and is now {value}: "
                "the resumed run may differ from an undisturbed one in the last bits"
            )


def resumed_from(folder: Path, state: TrainState) -> dict[str, Any]:
    """The `resumed_from` of the new start line: position, clock, and the seconds that the kill cost."""
    events = read_events(folder / LOG)
    last = events[-1] if events else {}
    reached = reached_seconds(events)
    clock = state.clock.readings()
    gap = datetime.now(UTC) - datetime.fromisoformat(last["utc"]) if "utc" in last else None
    return {
        "epoch": state.epoch,
        "step": state.step,
        "images_seen": state.images_seen,
        "clock": clock,
        "lost_seconds": None if reached is None else max(0.0, reached - clock["total"]),
        "gap_seconds": None if gap is None else max(0.0, gap.total_seconds()),
    }


def resume_line(attempt: int, place: dict[str, Any]) -> str:
    lost = "an unknown number of" if place["lost_seconds"] is None else f"{place['lost_seconds']:.1f}"
    return (
        f"attempt {attempt + 1}: going on at epoch {place['epoch'] + 1}, step {place['step'] + 1}; "
        f"{lost} counted seconds of the attempt before are lost"
    )


def reached_seconds(events: list[dict[str, Any]]) -> float | None:
    """T_total in the last line of the last attempt that tells it: a killed attempt may have gone up to `print_freq`
    steps further."""
    attempt = [e for e in events if e["attempt"] == events[-1]["attempt"]]
    starts = [e["resumed_from"]["clock"] for e in attempt if e.get("resumed_from")]
    return max((clock["total"] for clock in [*starts, *(e["clock"] for e in attempt if "clock" in e)]), default=None)


def logged_run_id(folder: Path) -> str | None:
    """The id that the first attempt gave the run."""
    path = folder / LOG
    return next((e["run_id"] for e in read_events(path) if e["event"] == "start"), None) if path.exists() else None


def next_attempt(folder: Path, log: str = LOG) -> int:
    """0 for a new run, else one more than the attempts in its log."""
    path = folder / log
    return max((e["attempt"] for e in read_events(path)), default=-1) + 1 if path.exists() else 0


def gone_on(config: Config, restarts: int) -> Config:
    """When a launcher has started the same command again (torchrun --max-restarts, a requeued Slurm job), it goes on
    with the run that --resume or --logdir names, or with the newest run of its name, if that has begun. Raises: Ended
    for a run whose outcome another attempt would not change."""
    folder = folder_before(config) if restarts else None
    if folder is None:
        return config
    if outcome := final_outcome(folder):
        text = f"{folder}: that run has ended ({outcome.value}); there is nothing to go on with"
        raise Ended(text, outcome.exit_code)
    return config if config.resume else replace(config, resume=str(folder), logdir=str(folder))


def folder_before(config: Config) -> Path | None:
    name = config.recipe or "run"
    folder = Path(config.logdir) if config.logdir else interrupted_folder(Path("runs"), name) or ended_folder(name)
    return folder if folder and begun(folder) else None


def ended_folder(name: str) -> Path | None:
    """The newest run of this name, if it ended after this process's launcher began: it is the launcher's own, which
    starts it again because its exit code is not 0."""
    newest = max(Path("runs").glob(f"{name}-[0-9][0-9][0-9]"), default=None)
    age = age_seconds(os.getppid())
    if newest is None or age is None or not begun(newest):
        return None
    return newest if (newest / LOG).stat().st_mtime > time.time() - age else None


def final_outcome(folder: Path) -> Outcome | None:
    """How the run in `folder` ended, when there is nothing to go on with."""
    outcome = ending(folder)
    return Outcome(outcome) if outcome not in (*RESUMABLE, "") else None
