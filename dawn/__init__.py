"""Time and results of a training run: the clock, the run log, and every report made from the log. No torch."""

from dawn.runlog.clock import Clock, process_start_ns
from dawn.runlog.run import Run, read_run
from dawn.runlog.writer import RunError, RunLog, read_events

__all__ = ["Clock", "Run", "RunError", "RunLog", "process_start_ns", "read_events", "read_run"]
