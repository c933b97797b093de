"""Cutting a window out of a JPEG file without decoding it: where its restart segments lie, the cut, the index of the
segments of a tree, and the program that puts them into files."""

__all__ = ["cutting", "jpegtran", "layout", "segments"]
