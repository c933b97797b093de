"""How a run can end, and the exit code of each way (README, "Exit codes")."""

from enum import Enum


class Outcome(Enum):
    """Value = the word in run.jsonl."""

    TARGET_REACHED = "target_reached"
    FINISHED = "finished"  # the schedule ended and no target was set
    FINISHED_WITHOUT_TARGET = "finished_without_target"
    DIVERGED = "diverged"
    PREEMPTED = "preempted"  # SIGTERM or Ctrl-C: saved, start again with --resume
    CRASHED = "crashed"

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self]


INPUT_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_CODES = {
    Outcome.TARGET_REACHED: 0,
    Outcome.FINISHED: 0,
    Outcome.CRASHED: 1,
    Outcome.FINISHED_WITHOUT_TARGET: 3,
    Outcome.DIVERGED: 4,
    Outcome.PREEMPTED: 75,  # EX_TEMPFAIL of sysexits.h: "try again", what batch systems resubmit on
}


class ConfigError(ValueError):
    """Input of the user that cannot be run: one line that says where, which value, what to do instead."""


class PeerFailed(Exception):
    """Another process of this run ended with bad input or a fault; rank 0 says it in one line."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Preempted(Exception):
    """SIGTERM or SIGINT arrived and the state was saved."""


class Diverged(Exception):
    """The training loss became NaN or infinite."""
