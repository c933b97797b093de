"""What can be said from a run log about how far its numbers can be trusted."""

from dataclasses import dataclass

from dawn.clock import RUN_LABELS
from dawn.entry import draft_reasons
from dawn.page_data import ledger
from dawn.run import Run
from dawn.tasks import TASKS

OTHER_SHARE = 0.01  # of T_total without a name, above which the ledger explains too little


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
