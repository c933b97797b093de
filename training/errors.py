"""How a run can end, and the exit code of each way (docs/exit-codes.md)."""

from enum import Enum

from data_prep import DataError
from dawn import RunError
from dawn.commandline import file_code, is_about_files
from phases import PhaseError


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
    """Another process of this run ended with bad input or a fault; rank 0 says it in one line, or all do when it may be
    rank 0 that is gone."""

    def __init__(self, text: str, exit_code: int, said_by_all: bool = False) -> None:
        super().__init__(text)
        self.exit_code, self.said_by_all = exit_code, said_by_all


class WorkerLost(Exception):
    """A process that made images for this rank was killed, or ended: one line, exit code 1."""


class Ended(ConfigError):
    """A run that is to go on has come to its own end already: nothing is left to do."""

    def __init__(self, text: str, exit_code: int = INPUT_ERROR) -> None:
        super().__init__(text)  # pickle calls it with the text alone, on the way to the other ranks, and sets the code
        self.exit_code = exit_code


class Preempted(Exception):
    """SIGTERM or SIGINT arrived and the state was saved."""


class Diverged(Exception):
    """The training loss became NaN or infinite."""


def is_bad_input(error: BaseException) -> bool:
    return isinstance(error, ConfigError | DataError | PhaseError | RunError)


def error_code(error: BaseException) -> int:
    """The exit code of a run that ends with this error: of bad input also when it turns bad after the start."""
    if isinstance(error, PeerFailed | Ended):
        return error.exit_code
    if isinstance(error, OSError) and is_about_files(error):
        return file_code(error)
    return INPUT_ERROR if is_bad_input(error) else Outcome.CRASHED.exit_code


def summary(error: BaseException) -> str:
    """One line: bad input says what to do, of a crash the class counts."""
    if is_bad_input(error) or isinstance(error, WorkerLost):
        return str(error)
    return f"{type(error).__name__}: {error}".splitlines()[0].strip()
