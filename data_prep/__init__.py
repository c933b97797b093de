"""Datasets put in place before a training benchmark's clock starts: files on disk, a manifest, packed arrays.

Not here: anything that happens while training (that is `training`). No torch.
"""

from data_prep.errors import DataError
from data_prep.formats.manifest import Manifest, Split, load_manifest
from data_prep.formats.packed import Packed, open_packed

__all__ = ["DataError", "Manifest", "Packed", "Split", "load_manifest", "open_packed"]
