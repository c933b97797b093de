"""Before the first step: whether all ranks were started with the same command, schedule, dataset, code and libraries.

Two machines whose `my.json` differs would otherwise train together: each rank shows the network images of another size,
and the log knows rank 0's alone; or they wait for each other when the numbers of steps differ.
"""

from dataclasses import asdict
from typing import Any

from data_prep import DataError
from phases import Schedule
from training.config.config import Config
from training.data.dataset import loader_name
from training.distributed.env import Env
from training.errors import ConfigError
from training.logs.environment import source_commit, source_digest, versions
from training.runs.resume import dataset_hashes, experiment_fields

# Where things are, and how many hands a machine has, is its own affair; rank 0 alone writes.
OWN = {"data", "recipe", "phases", "workers", "threads", "dist_url", "logdir", "resume", "tensorboard", "chart"}
LONGEST = 60  # characters of a value in the message


def check_alike(config: Config, schedule: Schedule, env: Env) -> None:
    """All ranks call it. Raises: ConfigError, PeerFailed, naming what differs and on which rank."""
    if env.world_size == 1:
        return
    everyone = env.group.gather(facts_of(config, schedule, env))
    env.group.together(lambda: refuse_differences(everyone))


def facts_of(config: Config, schedule: Schedule, env: Env) -> dict[str, Any]:
    """By name, in the order in which a difference is told. A dataset that is missing is told of later, as bad input."""
    commit, dirty = source_commit()
    settings = {name: value for name, value in asdict(config).items() if name not in OWN}
    return {
        **{f"--{name.replace('_', '-')}": value for name, value in (settings | own_names(config)).items()},
        "--resume": bool(config.resume),
        "number of schedule entries": len(schedule.phases),
        **{f"schedule entry {number}": entry for number, entry in enumerate(schedule.phases, 1)},
        **of_the_dataset(config, schedule),
        "device": env.device.type,
        "code": source_digest()[:12] + (f", commit {commit[:12]}{' with changes' if dirty else ''}" if commit else ""),
        **{f"version of {name}": version for name, version in versions().items()},
    }


def of_the_dataset(config: Config, schedule: Schedule) -> dict[str, Any]:
    try:
        hashes = {f"dataset DATA{suffix}": sha256[:12] for suffix, sha256 in dataset_hashes(config).items()}
        return hashes | {"loader": loader_name(config, schedule)}
    except (ConfigError, DataError):
        return {}


def own_names(config: Config) -> dict[str, Any]:
    """Code of the user's own counts by its content; its file may lie elsewhere."""
    fields = experiment_fields(config)
    return {name: fields[name] for name in ("model", "loader", "optimizer", "own_code") if name in fields}


def refuse_differences(everyone: list[dict[str, Any]]) -> None:
    first = everyone[0]
    for rank, facts in enumerate(everyone):
        different = [name for name in first if name in facts and first[name] != facts[name]]
        if different:
            name, more = different[0], len(different) - 1
            raise ConfigError(
                f"the ranks were not started alike: {name} is {short(facts.get(name), first.get(name))} on rank {rank} "
                f"and {short(first.get(name), facts.get(name))} on rank 0"
                + (f" ({more} more differ: {', '.join(different[1:4])})" if more else "")
                + ". Start all with the same command, files and versions"
            )


def short(value: Any, other: Any) -> str:
    """Of two long values the part from where they begin to differ."""
    text, against = str(value), str(other)
    if len(text) <= LONGEST:
        return text
    common = next((i for i, (a, b) in enumerate(zip(text, against, strict=False)) if a != b), 0)
    begin = max(0, common - LONGEST // 2)
    return f"{'…' if begin else ''}{text[begin : begin + LONGEST]}…"
