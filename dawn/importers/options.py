"""What a user says about a log that the log itself does not: its columns, and the hours of an epoch."""

import math
from dataclasses import dataclass, field

from dawn.runlog.writer import RunError

ROLES = ("epoch", "hours", "seconds", "top1", "top5")


@dataclass(frozen=True)
class Options:
    columns: dict[str, str] = field(default_factory=dict)  # role -> name of the column in the log
    hours_per_epoch: float | None = None

    def hours_at(self, epoch: float, where: str) -> float:
        """Of a log without times. epoch: epochs trained by then. RunError where the user did not tell."""
        if self.hours_per_epoch is None:
            raise RunError(
                f"{where}: the log holds no times, so no hours. Give --hours-per-epoch HOURS, or for a table the "
                "column that has them: --columns hours=NAME or seconds=NAME."
            )
        return epoch * self.hours_per_epoch

    @property
    def clock(self) -> str:
        """What the hours of such a log count."""
        return f"not told by the log: {self.hours_per_epoch:.10g} hours an epoch, as given by --hours-per-epoch"


def options_of(columns: str, hours_per_epoch: float | None) -> Options:
    """From the text of --columns, `epoch=NAME,hours=NAME,...`, and the number of --hours-per-epoch. RunError."""
    if hours_per_epoch is not None and not (math.isfinite(hours_per_epoch) and hours_per_epoch > 0):
        raise RunError(f"--hours-per-epoch {hours_per_epoch}: must be hours above 0.")
    found: dict[str, str] = {}
    for part in filter(None, columns.split(",")):
        role, equals, name = part.partition("=")
        role = role.strip()
        if not (equals and role in ROLES and name.strip()):
            raise RunError(f"--columns: {part!r:.60} is not ROLE=NAME. A role is one of {', '.join(ROLES)}.")
        if role in found:
            raise RunError(f"--columns: {role!r} is given twice. Give it once.")
        found[role] = name.strip()
    if found and not {"top1", "top5"} & found.keys():
        raise RunError("--columns: no accuracy. Add top1=NAME or top5=NAME.")
    if {"hours", "seconds"} <= found.keys():
        raise RunError("--columns: both hours and seconds. Give one of them.")
    return Options(found, hours_per_epoch)
