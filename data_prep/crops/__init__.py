"""Cutting a window out of a JPEG file without decoding it: where its restart segments lie, and the cut."""

__all__ = ["cutting", "layout"]
