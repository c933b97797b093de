"""Logs of other training codes as comparable curves."""

__all__ = ["curve", "options", "prepare_dawn", "read"]
