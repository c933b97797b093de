"""Settings by name: functions that return a Config, in files by family."""

__all__ = ["registry"]
