"""DAWNBench's own formats and rules: tasks, TSV, entry, submission, and their check."""

__all__ = ["check", "entry", "entry_files", "hours", "tasks", "tsv"]
