"""Runs and entries in order, beside DAWNBench's historical results."""

__all__ = ["board", "entry", "read"]
