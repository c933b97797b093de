"""The loaders by name, and what each reads: the one table that the flag, the checks and the log's words come from.

A loader that draws pictures of an image tree is a file in training/data/renderers/ with the name that it has here.
"""

from typing import NamedTuple

UNKNOWN_CACHE = "unknown: only the sizes of the files were checked before the clock started"


class Reads(NamedTuple):
    """`form` of the dataset: files | packed tree | arrays | nothing. `page_cache`: the start event's word about it."""

    form: str
    page_cache: str = UNKNOWN_CACHE


LOADERS = {
    "dali": Reads("files"),
    "processes": Reads("files"),
    "threads": Reads("files"),
    "torchvision": Reads("files"),
    "packed": Reads("packed tree"),
    "memory": Reads("arrays"),
    "synthetic": Reads("nothing", "not used: random images"),
}
OWN_LOADER = Reads("what it likes", "unknown: the loader is the user's own")


def reads(loader: str) -> Reads:
    """What a loader reads, by the name of it that `loader_name` gives."""
    return LOADERS.get(loader, OWN_LOADER)


def reads_files(loader: str) -> bool:
    """Whether it decodes image files."""
    return reads(loader).form == "files"
