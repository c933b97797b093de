"""Logs of other training codes as comparable curves."""

__all__ = ["curve", "prepare_dawn", "read"]
