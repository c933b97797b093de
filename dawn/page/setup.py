"""The end of the page: what was checked, as the rules see it, and what the runs ran with."""

from dataclasses import dataclass

from dawn.dawnbench.entry import draft_reasons
from dawn.dawnbench.tasks import TASKS
from dawn.page.data import Shown, ledger
from dawn.page.html import details, facts, note, section, table
from dawn.page.sections import grouped
from dawn.runlog.clock import RUN_LABELS
from dawn.runlog.run import Run

LONGEST_SETTING = 40  # characters of a value in the table of differences
OTHER_SHARE = 0.01  # of T_total without a name, above which the ledger explains too little


def setup_section(shown: list[Shown]) -> str:
    inside = _differences(shown) if len(shown) > 1 else ""
    for item in shown:
        start, latest = item.run.start, item.run.latest
        parts = [
            ("Hardware", latest.hardware), ("Versions", latest.versions), ("Dataset", start.dataset),
            ("Optimizer", start.optimizer), ("Configuration", start.config),
        ]  # fmt: skip
        words = "".join(f"<h4>{name}</h4>{facts(values.items())}" for name, values in parts)
        general = {
            "started": start.utc, "run id": start.run_id, "config hash": start.config_hash, "commit": latest.commit,
            "precision": start.precision, "processes": start.world_size, "page cache": start.page_cache,
            "compile cache": start.compile_cache, "attempts": len(item.run.attempts), "clocks": start.clock_definition,
        }  # fmt: skip
        inside += details(f"Set-up of {item.name}", facts(general.items()) + words, len(shown) == 1)
    return section("setup", "Set-up", inside)


def _differences(shown: list[Shown]) -> str:
    """Settings that are not the same in all runs."""
    configs = [item.run.start.config for item in shown]
    names = sorted({name for config in configs for name in config})
    unequal = [name for name in names if any(config.get(name) != configs[0].get(name) for config in configs)]
    if not unequal:
        return note("All runs have the same configuration.")
    columns = [_short([str(config.get(name, "-")) for config in configs]) for name in unequal]
    rows = [[item.name, *(column[i] for column in columns)] for i, item in enumerate(shown)]
    words = "Settings in which the runs differ (long values are numbered and stand in full below):"
    return note(words) + table(("run", *unequal), [("", rows)], "Settings that differ")


def _short(values: list[str]) -> list[str]:
    """Long values, such as schedules, differ where a table does not show it: their numbers, equal for equal ones."""
    kinds = list(dict.fromkeys(values))
    long = max(map(len, values)) > LONGEST_SETTING
    return [f"no. {kinds.index(value) + 1}" if long else value for value in values]


def checks_section(shown: list[Shown]) -> str:
    marks = {True: "✓ passed", False: "✗ failed", None: "• note"}
    found = {item.name: checks_of(item.run) for item in shown}
    rows = grouped(shown, lambda item: [[marks[check.passed], check.words] for check in found[item.name]])
    inside = table(("result", "what"), rows, "Checks of each run", wrapped=1)
    if len(shown) > 1:
        wrong = [[name, c.words] for name, checks in found.items() for c in checks if not c.passed]
        some = note(f"{sum(len(checks) for checks in found.values()) - len(wrong)} checks passed, the others are:")
        list_of_wrong = some + table(("run", "what"), [("", wrong)], "Checks that did not pass", wrapped=1)
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
    return [Check(True, read), *_log(run), *_ledger(run), *_attempts(run), *_code(run), *_entry(run)]


def _log(run: Run) -> list[Check]:
    ended = Check(False, "the log has no stop line: the run goes on or has crashed")
    if run.stop:
        ended = Check(run.stop.outcome not in ("diverged", "crashed", "preempted"), f"outcome: {run.stop.outcome}")
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
    return [Check(not dirty, f"commit {run.latest.commit[:12]}" + (", with uncommitted changes" if dirty else ""))]


def _entry(run: Run) -> list[Check]:
    if run.start.task not in TASKS or not any(row.validation for row in run.rows):
        return []
    reasons = draft_reasons(run, "someone", "someone")  # who wrote it is asked when an entry is made
    found = "; ".join(reasons) or "it could be submitted to DAWNBench"
    return [Check(not reasons, f"as an entry: {found}")]
