"""SIGTERM and Ctrl-C as a wish that the training loop reads between two steps."""

import signal
from types import FrameType


class StopSignal:
    """Context manager. `requested` becomes true at the first signal; further ones are ignored, so that a save is
    never cut off."""

    requested = False
    name = ""

    def __enter__(self) -> "StopSignal":
        self.before = {number: signal.signal(number, self.note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def note(self, number: int, frame: FrameType | None) -> None:
        self.requested, self.name = True, signal.Signals(number).name

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
