"""Where the files of a tree lie that windows can be cut out of."""

from data_prep import load_manifest
from data_prep.crops.segments import has_segments
from data_prep.formats.manifest import CROPS


def cut_folder(folder: str) -> str:
    """The folder itself where `data_prep resize` has made it so, else the copy of `data_prep index-crops`."""
    return folder if has_segments(load_manifest(folder), ("train",)) else folder + CROPS
