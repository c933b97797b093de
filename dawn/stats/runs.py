"""The runs of one recipe, and each of them as a trial: did it reach the target, when, and how good was it at the
end?"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dawn.runlog.host import host_ids
from dawn.runlog.records import Validation
from dawn.runlog.run import LOG_NAME, Run, read_run
from dawn.runlog.writer import RunError
from dawn.stats.survival import Times
from dawn.tables import plain

HIT, MISS, DIVERGED, CENSORED = "hit", "miss", "diverged", "cut off"
MOST_DIFFERENCES = 5  # named when two runs are not of one recipe
SAME: dict[str, Callable[[Run], Any]] = {
    "task": lambda run: run.start.task,
    "metric": lambda run: run.start.metric,
    "target": lambda run: run.start.target,
    "dataset": lambda run: run.start.dataset.get("sha256"),
    "precision": lambda run: run.start.precision,
    "world size": lambda run: run.start.world_size,
}
NOTED: dict[str, Callable[[Run], Any]] = {
    "hardware": lambda run: run.latest.hardware["name"],
    "threads": lambda run: run.latest.hardware.get("threads"),
    "PyTorch": lambda run: run.latest.versions["torch"],
    "commit": lambda run: run.latest.commit,
    "page cache": lambda run: run.start.page_cache,
}


@dataclass(frozen=True)
class Trial:
    """seconds: to the target; infinity for a miss or a divergence; for a run cut off, how far it had come."""

    name: str
    seed: int
    outcome: str
    seconds: float
    duration: float  # seconds on the same clock to the end of the run
    epochs: float | None  # trained up to the target
    final: Validation | None  # the last evaluation, of a run that was trained to the end of its schedule
    evaluations: int  # looks at the target
    reached_at_end: bool | None  # does `final` reach the target?
    host: str = ""  # the random word of the host (of several: all), where all attempts ran on the same; else empty


def trial(run: Run, clock: str = "total") -> Trial:
    """The run must have a target. A run that reached it counts as a hit whatever happened later."""
    hit, start = run.hit(), run.start
    outcome = _outcome(run)
    duration = run.stop.clock[clock] if run.stop else run.rows[-1].clock[clock] if run.rows else 0.0
    evaluated = [row.validation for row in run.rows if row.validation]
    final = evaluated[-1] if evaluated and len(run.rows) == start.epochs else None
    return Trial(
        name=run.path.parent.name or run.path.parent.resolve().name,
        seed=start.seed,
        outcome=outcome,
        seconds=hit.clock[clock] if hit else duration if outcome == CENSORED else math.inf,
        duration=duration,
        epochs=hit.until if hit else None,
        final=final,
        evaluations=len(evaluated),
        reached_at_end=final.reaches(start.metric, start.target) if final else None,
        host=host_of(run),
    )


def host_of(run: Run) -> str:
    hosts = {plain("+".join(host_ids(attempt))) for attempt in run.attempts}
    return hosts.pop() if len(hosts) == 1 else ""


def by_host(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """The trials of each host, where every run tells its own and there are several; else empty."""
    hosts = sorted({trial.host for trial in trials})
    several = len(hosts) > 1 and all(hosts)
    return {host: [trial for trial in trials if trial.host == host] for host in hosts if several}


def _outcome(run: Run) -> str:
    """Preempted, crashed and running runs are cut off, unless all of the schedule had been trained before."""
    if run.hit():
        return HIT
    if run.stop and run.stop.outcome == "diverged":
        return DIVERGED
    ended = run.stop and run.stop.outcome in ("finished", "finished_without_target")
    return MISS if ended or len(run.rows) == run.start.epochs else CENSORED


def times_of(trials: list[Trial]) -> Times:
    return Times(
        tuple(t.seconds for t in trials if t.outcome == HIT),
        sum(t.outcome in (MISS, DIVERGED) for t in trials),
        tuple(t.seconds for t in trials if t.outcome == CENSORED),
    )


def run_paths(path: str | os.PathLike[str]) -> list[Path]:
    """The run itself, or in a folder that is no run the runs in its subfolders, by name."""
    place = Path(path)
    if not place.is_dir() or (place / LOG_NAME).exists():
        return [place]
    try:
        found = sorted(child for child in place.iterdir() if (child / LOG_NAME).exists())
    except OSError as error:
        raise RunError(f"{place}: {error.strerror}. Give run folders or a folder that holds them.") from None
    if not found:
        raise RunError(f"{place}: no {LOG_NAME} in it or in its folders. Give run folders or a folder that holds them.")
    return found


def read_recipe(paths: Sequence[str | os.PathLike[str]]) -> list[Run]:
    """Runs of one recipe in the order of their seeds.

    RunError where two differ in more than the seed, where a seed occurs twice, or without a target.
    """
    runs = [read_run(found) for path in paths for found in run_paths(path)]
    for run in runs:
        if run.start.target is None:
            raise RunError(f"{run.path}: the run has no target. Time to target needs runs with --target.")
        if len({attempt.config_hash for attempt in run.attempts}) > 1:
            raise RunError(f"{run.path}: its attempts ran with different settings. Leave this run out.")
        _check_same(runs[0], run)
    return _by_seed(runs)


def _check_same(first: Run, run: Run) -> None:
    changed = changed_settings(first, run)
    names = [name for name, _, _ in changed]
    changed += [(name, f"{get(first)!r:.40}", f"{get(run)!r:.40}") for name, get in SAME.items()
                if get(first) != get(run) and name not in names]  # fmt: skip
    if changed:
        texts = [f"{name} {there} there, {here} here" for name, there, here in changed]
        raise RunError(
            f"{run.path}: not the same recipe as {first.path}: {some_of(texts)}. "
            "Give runs that differ in the seed only; `compare` sets two recipes side by side."
        )


def _by_seed(runs: list[Run]) -> list[Run]:
    seen: dict[int, Run] = {}
    for run in runs:
        other = seen.setdefault(run.start.seed, run)
        if other is not run:
            raise RunError(f"{run.path}: seed {run.start.seed} again, as in {other.path}. Give one run for each seed.")
    return [seen[seed] for seed in sorted(seen)]


def recipe_settings(run: Run) -> dict[str, Any]:
    """The logged settings without the seed."""
    return {name: value for name, value in run.start.config.items() if name != "seed"}


def changed_settings(one: Run, other: Run) -> list[tuple[str, str, str]]:
    """(name, its value there, its value here), shortened, of each setting but the seed in which two runs differ."""
    a, b = recipe_settings(one), recipe_settings(other)
    names = [name for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]
    return [(name, f"{a.get(name)!r:.40}", f"{b.get(name)!r:.40}") for name in names]


def some_of(texts: Sequence[str]) -> str:
    """The first of them in a line."""
    more = f"; and {len(texts) - MOST_DIFFERENCES} more" if len(texts) > MOST_DIFFERENCES else ""
    return f"{'; '.join(texts[:MOST_DIFFERENCES])}{more}"


def recipe_hash(run: Run) -> str:
    """SHA-256 of the settings without the seed: equal for the runs of a recipe."""
    return hashlib.sha256(json.dumps(recipe_settings(run), sort_keys=True).encode()).hexdigest()


def recipe_key(run: Run) -> tuple[str, ...]:
    """Equal for runs that read_recipe would take together, and unequal for others."""
    return recipe_hash(run), run.start.recipe, run.start.model, *(str(get(run)) for get in SAME.values())


def circumstances(runs: Sequence[Run]) -> list[str]:
    """What makes them trials, what differs between them and may change times, which were interrupted; a line each."""
    notes = [f"a trial, no result: {reason}" for reason in runs[0].start.trials]  # the settings are those of all
    for name, get in NOTED.items():
        values = sorted({str(get(run)) for run in runs})
        if len(values) > 1:
            notes.append(f"the runs differ in {name}: {', '.join(values)}")
    if resumed := [str(run.start.seed) for run in runs if run.resumes]:
        notes.append(f"resumed after an interruption: seed {', '.join(resumed)}")
    if dirty := [str(run.start.seed) for run in runs if run.latest.dirty]:
        notes.append(f"code with uncommitted changes: seed {', '.join(dirty)}")
    return notes
