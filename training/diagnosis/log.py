"""What the log of a diverged run says about its end, and the checkpoint from which it can be replayed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dawn import read_events
from dawn.commandline import quoted
from training.config.config import Config
from training.config.own_code import check_same_code
from training.config.saved import read_config
from training.distributed.launcher import start_words
from training.engine.checkpoint import generations, load
from training.engine.state import leaves
from training.errors import ConfigError, Outcome
from training.logs.machine import source_commit
from training.runs.folder import LOG, ending
from training.runs.resume import dataset_hashes


class Logged(NamedTuple):
    """A training step in the log; both counted from 0."""

    epoch: int
    step: int
    loss: float


class Ended(NamedTuple):
    """A diverged run. `epoch`, `step`: the position of its state when it noticed, which may be up to --print-freq steps
    after the bad step."""

    folder: Path
    config: Config
    start: dict[str, Any]  # of its last attempt
    epoch: int
    step: int
    detail: str
    logged: list[Logged]  # of its last attempt: the steps of one before may have been trained again
    fault: dict[str, Any]  # that was injected into its last attempt; empty: none


def read_ended(folder: Path, world_size: int = 1) -> Ended:
    """`world_size`: of the processes that ask. Raises: ConfigError for a run that did not diverge, that had another
    number of processes, or whose code has changed; RunError for a log that cannot be read."""
    config = read_config(folder)
    outcome = ending(folder)
    if outcome != Outcome.DIVERGED.value:
        how = f"ended as {outcome}" if outcome else "still runs, or was cut off"
        raise ConfigError(f"{folder}: that run did not diverge, it {how}. Give a run that ended with exit code 4")
    events = read_events(folder / LOG)
    start = next(event for event in reversed(events) if event["event"] == "start")
    check_as_many(folder, start["world_size"], world_size)
    check_same_code({flag: facts["sha256"] for flag, facts in start.get("own_code", {}).items()}, config, str(folder))
    stop = events[-1]
    faults = [e["fault"] for e in fault_lines(folder, events) if e["attempt"] == start["attempt"]]
    lines = [e for e in events if e["event"] == "step" and e["attempt"] == start["attempt"]]
    logged = [Logged(line["epoch"], line["step"] - 1, line["losses/xent"]) for line in lines]
    place = stop["epoch"], stop["step"], stop.get("detail", "")
    return Ended(folder, config, start, *place, logged, faults[-1] if faults else {})


def fault_lines(folder: Path, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of all ranks; those above 0 have logs of their own."""
    others = [event for path in sorted(folder.glob("rank*.jsonl")) for event in read_events(path)]
    return [event for event in [*events, *others] if event["event"] == "fault"]


def check_as_many(folder: Path, before: int, now: int) -> None:
    """Raises: ConfigError. The gradients of a step are the mean over the ranks, in their order."""
    if before != now:
        more = ", on several machines as the run was" if before > 1 else ""
        raise ConfigError(
            f"{folder}: a run of {before} process{'es' * (before > 1)}, which as many replay, and this is {now}. "
            f"Start `{start_words(before)} training diagnose {quoted(folder)}`{more}"
        )


def check_same_dataset(ended: Ended) -> None:
    """Raises: ConfigError where the dataset is another one than the run's; DataError where there is none."""
    found = list(dataset_hashes(ended.config).values())
    before = ended.start["dataset"]["sha256"]
    if before not in found:
        change = f"{before[:12]} then, {found[0][:12]} now"
        raise ConfigError(
            f"{ended.folder}: {ended.config.data} is another dataset than the run's ({change}). Restore it"
        )


def good_checkpoint(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose weights are finite; None: the run has to be replayed from its first step. A
    checkpoint at the end of an epoch may hold the damage of that epoch's last update, which no loss has shown yet."""
    place = folder / "checkpoints"
    for generation in generations(place, warn):
        path = place / generation["file"]
        try:
            state = load(path, warn)["state"]
        except ConfigError:
            continue
        tensors = (leaf for _, leaf in leaves(state["model"]) if isinstance(leaf, torch.Tensor))
        if all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            return path
    return None


def injected(ended: Ended) -> str:
    """For training.engine.faults."""
    return json.dumps(ended.fault) if ended.fault.get("kind") == "nan" else ""


def warn_of_other_code(ended: Ended, warn: Callable[[str], None]) -> None:
    now, before = source_commit()[0], ended.start.get("commit")
    if now and before and now != before:
        warn(f"the run was made with commit {before[:12]}, this is {now[:12]}: the replay may differ")
