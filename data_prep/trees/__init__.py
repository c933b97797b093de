"""Work on image trees: scan, adopt, check, resize, pack, shards."""

__all__ = [
    "adopt",
    "check",
    "index_crops",
    "names",
    "pack",
    "resize",
    "scan",
    "shards",
    "shrink",
    "source_tree",
    "storage",
]
