"""Cutting a window out of a JPEG file without decoding it: where its restart segments lie, the cut, and the index of
the segments of a tree."""

__all__ = ["cutting", "layout", "segments"]
