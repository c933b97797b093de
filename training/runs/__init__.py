"""The life of a run: its folder, start, end, resume, and what is run around it (seeds, probe, demo, dry run)."""

__all__ = ["alike", "api", "demo", "dry_run", "finish", "folder", "probe", "resume", "seeds", "session"]
