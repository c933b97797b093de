"""Weights for others: formats, model card, and the check of what was written."""

__all__ = ["command", "formats", "networks"]
