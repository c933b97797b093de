"""What a log says of its hosts: which they were, and what on them may have changed a time. Facts of a log are taken as
they are where they make sense and passed over where they do not: they decide no result."""

from collections.abc import Iterator
from typing import Any

from dawn.runlog.fields import is_number
from dawn.runlog.records import Start
from dawn.runlog.run import Run

IDLE_SECONDS = 5.0  # before the start: a chip that rested is cooler, and clocks higher
LOAD = 0.5  # of a core, by other programs
STOLEN = 0.01  # of the time of all cores
THROTTLED_SECONDS = 0.1


def host_ids(start: Start) -> tuple[str, ...]:
    """The random words of the hosts of an attempt; empty where one of them is not known."""
    ids = [host.get("id") for host in start.hosts]
    return tuple(sorted(ids)) if ids and all(isinstance(word, str) and word for word in ids) else ()


def host_notes(run: Run) -> list[str]:
    """A line for everything that may have made the hosts faster or slower than they are."""
    notes = []
    for start in run.attempts:
        where = f"attempt {start.attempt + 1}: " if len(run.attempts) > 1 else ""
        for number, host in enumerate(start.hosts, 1):
            name = f"{where}host {number}: " if len(start.hosts) > 1 else where
            notes += [name + note for note in start_notes(host)]
    if run.stop and run.latest.hosts and run.stop.host:
        notes += run_notes(run.latest.hosts[0], run.stop.host)
    return notes


def start_notes(host: dict[str, Any]) -> Iterator[str]:
    """What was so when the clock started."""
    idle, load = number(host, "idle_seconds"), number(host, "others_load")
    if idle is not None and idle > IDLE_SECONDS:
        yield (
            f"idle for {idle:.1f} s before the clock started (a pause, or waiting for a disk or other processes): a "
            "chip that rested is faster at first"
        )
    if load is not None and load > LOAD:
        yield f"other programs kept {load:.0%} of each core busy before the clock started: times may be too long"
    for place, gpu in enumerate(gpus(host)):
        limit, default = number(gpu, "power_limit_watts"), number(gpu, "default_power_limit_watts")
        if limit is not None and default is not None and limit != default:
            yield f"GPU {place}: power limit {limit:g} W, {default:g} W is its default"


def run_notes(first: dict[str, Any], last: dict[str, Any]) -> Iterator[str]:
    """What happened between the start and the end of the last attempt, on the machine of rank 0."""
    passed, stolen = (grown(first, last, "cpu_seconds", name) for name in ("passed", "stolen"))
    if passed and stolen and stolen / passed > STOLEN:
        yield f"{stolen / passed:.1%} of the processor's time was taken by other guests of the same machine (steal)"
    held = grown(first, last, "quota_throttled_seconds")
    if held and held > THROTTLED_SECONDS:
        yield f"throttled: threads were held back for {held:.1f} s by the CPU quota of the container"
    if events := grown(first, last, "cpu_thermal_events"):
        yield f"throttled: cores were slowed down because they were hot, {events:.0f} times in all"
    for place, (before, after) in enumerate(zip(gpus(first), gpus(last), strict=False)):
        for name, words in (
            ("thermal_slowdown_seconds", "because it was hot"),
            ("power_cap_seconds", "by its power limit"),
        ):
            seconds = grown(before, after, name)
            if seconds and seconds > THROTTLED_SECONDS:
                yield f"throttled: GPU {place} was slowed down for {seconds:.1f} s {words}"
        told = after.get("slowed_by")
        reasons = [str(reason)[:30] for reason in told if reason != "power cap"] if isinstance(told, list) else []
        if reasons:
            yield f"throttled: GPU {place} was slowed down when the run ended ({', '.join(reasons)})"


def gpus(host: dict[str, Any]) -> list[dict[str, Any]]:
    found = host.get("gpus")
    return [gpu for gpu in found if isinstance(gpu, dict)] if isinstance(found, list) else []


def grown(first: dict[str, Any], last: dict[str, Any], *names: str) -> float | None:
    """By how much a counter grew; None where a side does not have it, or it fell (the machine was started again)."""
    before, after = number(first, *names), number(last, *names)
    return after - before if before is not None and after is not None and after >= before else None


def number(facts: Any, *names: str) -> float | None:
    """The finite number at this place, None where there is none."""
    for name in names:
        facts = facts.get(name) if isinstance(facts, dict) else None
    return facts if is_number(facts) else None
