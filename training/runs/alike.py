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
from training.distributed.launcher import named
from training.errors import ConfigError
from training.logs.environment import versions
from training.logs.machine import source_commit, source_digest
from training.runs.resume import dataset_hashes, experiment_fields

# Where things are, and how many hands a machine has, is its own affair; rank 0 alone writes.
OWN = {"data", "recipe", "phases", "workers", "threads", "dist_url", "logdir", "resume", "tensorboard", "chart"}
LONGEST = 60  # characters of a value in the message


def check_alike(config: Config, schedule: Schedule, env: Env) -> None:
    """All ranks call it. Raises: ConfigError, PeerFailed, naming what differs and on which rank."""
    if env.world_size > 1:
        compare(settings_facts(config, schedule, env) | code_facts(), env)


def compare(facts: dict[str, Any], env: Env) -> None:
    """`facts`: by name, in the order in which a difference is told; None: this rank does not know. Raises: as
    check_alike."""
    everyone = env.group.gather(facts)
    env.group.together(lambda: refuse_differences(everyone))


def settings_facts(config: Config, schedule: Schedule, env: Env) -> dict[str, Any]:
    """A dataset that is missing is told of later, as bad input."""
    fields = experiment_fields(config)  # where code of the user's own counts by its content: its file may lie elsewhere
    settings = {name: fields.get(name, value) for name, value in asdict(config).items() if name not in OWN}
    return {
        **flags(settings),
        "SHA-256 of your own code": fields.get("own_code", {}),
        "--resume": bool(config.resume),
        "number of schedule entries": len(schedule.phases),
        **{f"schedule entry {number}": entry for number, entry in enumerate(schedule.phases, 1)},
        **of_the_dataset(config, schedule),
        "device": env.device.type,
    }


def flags(settings: dict[str, Any]) -> dict[str, Any]:
    return {f"--{name.replace('_', '-')}": value for name, value in settings.items()}


def code_facts() -> dict[str, Any]:
    """The source files count, whether git is there to name their commit or not: a machine may have a copy."""
    commit, _ = source_commit()
    return {
        "commit of the code": commit and commit[:12],
        "SHA-256 of the source files": source_digest()[:12],
        **{f"version of {name}": version or "none" for name, version in versions().items()},
    }


def of_the_dataset(config: Config, schedule: Schedule) -> dict[str, Any]:
    try:
        hashes = {f"dataset DATA{suffix}": sha256[:12] for suffix, sha256 in dataset_hashes(config).items()}
        return hashes | {"loader": loader_name(config, schedule)}
    except (ConfigError, DataError):
        return {}


def refuse_differences(everyone: list[dict[str, Any]]) -> None:
    """`everyone`: the facts of each rank. Raises: ConfigError."""
    first = everyone[0]
    for rank, facts in enumerate(everyone):
        different = [name for name in first if differs(name, first, facts)]
        if different:
            name, more = different[0], len(different) - 1
            alike = [other for other, facts in enumerate(everyone) if differs(name, first, facts)]
            raise ConfigError(
                f"the ranks were not started alike: {name} is {short(facts.get(name), first.get(name))} on rank {rank} "
                f"and {short(first.get(name), facts.get(name))} on rank 0"
                + (f" (of {len(everyone)}, {named(alike)} differ)" if len(alike) > 1 else "")
                + (f" ({more} more differ: {', '.join(different[1:4])})" if more else "")
                + ". Start all with the same command, files and versions"
            )


def differs(name: str, first: dict[str, Any], facts: dict[str, Any]) -> bool:
    """Whether both ranks know it, and differently."""
    return None not in (first.get(name), facts.get(name)) and first[name] != facts[name]


def short(value: Any, other: Any) -> str:
    """Of two long values the part from where they begin to differ."""
    text, against = str(value), str(other)
    if len(text) <= LONGEST:
        return text
    common = next((i for i, (a, b) in enumerate(zip(text, against, strict=False)) if a != b), 0)
    begin = max(0, common - LONGEST // 2)
    return f"{'…' if begin else ''}{text[begin : begin + LONGEST]}…"
