"""The end of the page: what was checked, as the rules see it, and what the runs ran with, what was chosen first."""

from dataclasses import dataclass
from typing import Any

from dawn.dawnbench.entry import draft_reasons
from dawn.dawnbench.tasks import TASKS
from dawn.page.data import Shown, ledger
from dawn.page.html import details, facts, note, outcome_text, section, table, value_text, words_of
from dawn.page.sections import grouped
from dawn.runlog.clock import RUN_LABELS
from dawn.runlog.host import host_notes
from dawn.runlog.records import Start, hardware_name
from dawn.runlog.run import Run

LONGEST_SETTING = 40  # characters of a value in the table of differences
PHASE_WORDS = {  # keys of a schedule
    "sz": "size (px)", "bs": "batch", "lr": "learning rate", "mom": "momentum", "val_sz": "validation size (px)",
    "val_bs": "validation batch", "aug": "augmentation", "min_scale": "smallest crop", "rect_val": "rectangles",
    "trndir": "training folder", "valdir": "validation folder",
}  # fmt: skip
FIRST_KEYS = ("sz", "bs", "lr", "mom")  # seen on a phone without scrolling
OTHER_SHARE = 0.01  # of T_total without a name, above which the ledger explains too little


def setup_section(shown: list[Shown]) -> str:
    inside = _differences(shown) if len(shown) > 1 else ""
    for item in shown:
        inside += details(f"Set-up of {item.name}", _setup(item.run), len(shown) == 1)
    return section("setup", "Set-up", inside)


def _setup(run: Run) -> str:
    start, latest = run.start, run.latest
    general = {
        "started": start.utc, "model": start.model, "seed": start.seed, "precision": start.precision,
        "commit": latest.commit, "run": start.run_id, "settings": start.config_hash,
        "page cache": start.page_cache, "compile cache": start.compile_cache,
    }  # fmt: skip
    parts = [facts(_pairs(general)), *_settings(start), "<h4>Phases</h4>", _phases(start.phases)]
    parts += ["<h4>Parameter groups</h4>", _groups(start.optimizer)]
    parts += [
        f"<h4>{name}</h4>{facts(_pairs(values))}"
        for name, values in (
            ("Dataset", start.dataset),
            ("Hardware", _hardware(latest.hardware)),
            ("Versions", _versions(latest.versions)),
        )
    ]
    return "".join(parts) + details("Clocks of this log", facts([("definition", start.clock_definition)]))


def _pairs(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(words_of(str(name)), value_text(value)) for name, value in values.items()]


def _settings(start: Start) -> list[str]:
    """What a recipe or a flag chose, open; the rest, closed. An older log does not tell which is which."""
    shown_elsewhere = ("phases", "seed", "model")
    settings = {name: value for name, value in start.config.items() if name not in shown_elsewhere}
    if start.changed is None:
        return [details("All settings", facts(_pairs(settings)))]
    chosen = {name: value for name, value in settings.items() if name in start.changed}
    others = {name: value for name, value in settings.items() if name not in start.changed}
    head = f"<h4>Settings that differ from the defaults</h4>{facts(_pairs(chosen))}" if chosen else ""
    return [head, details("Settings at their defaults", facts(_pairs(others)))]


def _phases(phases: list[Any]) -> str:
    """The schedule as it was given: a line for each entry, a column for each key that says something."""
    entries = [entry for entry in phases if isinstance(entry, dict)]
    keys = [key for key in dict.fromkeys(key for entry in entries for key in entry) if key != "ep"]
    told = [key for key in keys if any(entry.get(key) not in ("", None, False) for entry in entries)]
    told.sort(key=lambda key: FIRST_KEYS.index(key) if key in FIRST_KEYS else len(FIRST_KEYS))
    rows = [
        [_span(entry.get("ep")), *(_ramp(entry[key]) if key in entry else None for key in told)] for entry in entries
    ]
    header = ("epochs", *(PHASE_WORDS.get(str(key), words_of(str(key))) for key in told))
    return table(header, [("", rows)], "Phases of the schedule")


def _span(epochs: Any) -> str:
    """As in `from 0`, `0 to 6`; epochs of a schedule count from 0."""
    return _ramp(epochs) if isinstance(epochs, list | tuple) else f"from {value_text(epochs)}"


def _ramp(value: Any) -> str:
    pair = isinstance(value, list | tuple) and len(value) == 2
    return " to ".join(map(value_text, value)) if pair else value_text(value)


def _groups(optimizer: dict[str, Any]) -> str:
    """Of older logs and hostile ones: the fields as they are."""
    groups = optimizer.get("groups")
    if not (isinstance(groups, list) and groups and all(isinstance(group, dict) for group in groups)):
        return facts(_pairs(optimizer))
    keys = list(dict.fromkeys(key for group in groups for key in group))
    rows = [[value_text(group[key]) if key in group else None for key in keys] for group in groups]
    return table([words_of(str(key)) for key in keys], [("", rows)], "Parameter groups of the optimizer")


def _hardware(hardware: dict[str, Any]) -> dict[str, Any]:
    """With units, and without what is not there."""
    told = {name: value for name, value in hardware.items() if name not in ("name", "memory_gib", "count")}
    memory = {"memory": f"{value_text(hardware['memory_gib'])} GiB"} if "memory_gib" in hardware else {}
    return {"name": hardware_name(hardware)} | told | memory


def _versions(versions: dict[str, Any]) -> dict[str, Any]:
    """Of what is installed."""
    return {name: version for name, version in versions.items() if version is not None}


def _differences(shown: list[Shown]) -> str:
    """Settings that are not the same in all runs."""
    configs = [item.run.start.config for item in shown]
    names = sorted({name for config in configs for name in config})
    unequal = [name for name in names if any(config.get(name) != configs[0].get(name) for config in configs)]
    if not unequal:
        return note("All runs have the same configuration.")
    columns = [_short([_exact(config.get(name, "-")) for config in configs]) for name in unequal]
    rows = [[item.name, *(column[i] for column in columns)] for i, item in enumerate(shown)]
    words = "Settings in which the runs differ (long values are numbered and stand in full below):"
    return note(words) + table(("run", *map(words_of, unequal)), [("", rows)], "Settings that differ")


def _exact(value: Any) -> str:
    """Every digit, because the runs may differ in the last; lists and objects, such as schedules, are for _short."""
    return value_text(value) if isinstance(value, bool | str | None) else repr(value)


def _short(values: list[str]) -> list[str]:
    """Long values differ where a table does not show it: their numbers instead, equal for equal ones."""
    kinds = list(dict.fromkeys(values))
    long = max(map(len, values)) > LONGEST_SETTING
    return [f"no. {kinds.index(value) + 1}" if long else value for value in values]


def checks_section(shown: list[Shown]) -> str:
    marks = {True: "✓ passed", False: "✗ failed", None: "• note"}
    found = {item.name: checks_of(item.run) for item in shown}
    rows = grouped(shown, lambda item: [[marks[check.passed], check.words] for check in found[item.name]])
    inside = table(("result", "what"), rows, "Checks of each run", wrapped=1)
    if len(shown) > 1:
        wrong = [[name, marks[c.passed], c.words] for name, checks in found.items() for c in checks if not c.passed]
        passed = sum(len(checks) for checks in found.values()) - len(wrong)
        some = note(f"{passed} checks passed. What did not pass, and what else is worth knowing:")
        list_of_wrong = some + table(("run", "result", "what"), [("", wrong)], "Checks that did not pass", wrapped=2)
        inside = (list_of_wrong if wrong else note("All checks passed.")) + details("All checks of every run", inside)
    return section("checks", "Checks", inside)


@dataclass(frozen=True)
class Check:
    """passed: True, False, or None for something the reader should know that is no fault."""

    passed: bool | None
    words: str


def checks_of(run: Run) -> list[Check]:
    """For a run that could be read at all: its lines, clocks and counts have been checked one by one by then."""
    read = "every line of the log is whole, in order, and no clock goes back or contradicts another"
    trial = [Check(None, f"a trial, no result: {reason}") for reason in run.start.trials]
    return [
        Check(True, read),
        *trial,
        *_log(run),
        *_ledger(run),
        *_attempts(run),
        *_code(run),
        *_hosts(run),
        *_entry(run),
    ]


def _log(run: Run) -> list[Check]:
    ended = Check(None, "the log has no stop line: the run goes on, or was killed")
    if run.stop:
        ended = Check(run.stop.outcome not in ("diverged", "crashed", "preempted"), f"outcome: {outcome_text(run)}")
    return [ended] + [Check(False, "the last line of the log is torn off")] * run.torn


def _ledger(run: Run) -> list[Check]:
    if not run.rows:
        return []
    total = sum(seconds for row in run.rows for seconds in row.seconds.values())
    clock = run.rows[-1].clock["total"]
    agrees = abs(total - clock) <= 1e-6 * max(1.0, clock)
    named = ledger(run)
    share = named["other"] / (sum(named[label] for label in RUN_LABELS) or 1)
    return [
        Check(agrees, f"the ledger of all epochs adds up to T_total ({total:.3f} s and {clock:.3f} s)"),
        Check(share < OTHER_SHARE, f"{share:.2%} of the time has no name (label other; less than 1 % expected)"),
    ]


def _attempts(run: Run) -> list[Check]:
    same = len({attempt.config_hash for attempt in run.attempts}) == 1
    many = f"one configuration in all {len(run.attempts)} attempts" if len(run.attempts) > 1 else "one attempt"
    return [Check(same, many if same else "the attempts ran with different configurations")]


def _code(run: Run) -> list[Check]:
    dirty = run.latest.dirty
    if run.latest.commit is None or dirty is None:
        return [Check(None, "the version of the code is not known")]
    changed = ", with uncommitted changes: nobody else has this code" if dirty else ""
    return [Check(None if dirty else True, f"commit {run.latest.commit[:12]}{changed}")]


def _hosts(run: Run) -> list[Check]:
    return [Check(None, words) for words in host_notes(run)]


def _entry(run: Run) -> list[Check]:
    if run.start.task not in TASKS or not any(row.validation for row in run.rows):
        return []
    reasons = draft_reasons(run, "someone", "someone")  # who wrote it is asked when an entry is made
    if not reasons:
        return [Check(True, "it could be submitted to DAWNBench")]
    return [Check(None, f"no entry for DAWNBench: {'; '.join(reasons)}")]
