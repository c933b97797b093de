"""The sub-commands of `python -m dawn`, one module a family."""

__all__ = ["board", "check", "command", "cost", "entry", "files", "import_logs", "mlperf", "report", "study"]
