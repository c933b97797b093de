"""run.jsonl: the clock behind it, how it is written, what its lines mean, and a run read back."""

__all__ = ["clock", "evaluations", "fields", "host", "records", "run", "steps", "writer"]
