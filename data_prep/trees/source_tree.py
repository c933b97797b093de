"""The tree that copies are made of, and where the copies lie: ROOT, ROOT-sz/160 and ROOT-crops."""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.formats.image_index import ImageIndex, open_index
from data_prep.formats.manifest import COPIES, CROPS, Manifest, load_manifest
from data_prep.stores import Remote, beside, names_in, place
from data_prep.trees.adopt import foreign_files, one_writer_of, publish_index


@dataclass(frozen=True)
class Source:
    """The tree that copies are made of, opened once."""

    root: Path | Remote
    manifest: Manifest
    indices: dict[str, ImageIndex]

    @classmethod
    def open(cls, root: str | Path | Remote, wait: bool = False) -> "Source":
        """`wait`: for another shard, which may be leaving out images now. Raises: DataError."""
        root = place(root)
        with one_writer_of(root, wait=True) if wait else nullcontext(), beside(root) as folder:
            return cls(root, load_manifest(folder), open_index(folder))

    def leave_out(self, bad: set[bytes]) -> None:
        """Take these images out of the index (their files stay). Open the source again then. Raises: DataError."""
        if foreign_files(self.manifest):
            raise DataError(f"{self.root}: holds packed images that belong to its index, so none can be left out.")
        with one_writer_of(self.root, wait=True), beside(self.root) as folder:  # another shard may do the same now
            now = Source.open(self.root)  # another shard may have left out others
            keep = {split: ~np.isin(index.paths, list(bad)) for split, index in now.indices.items()}
            indices = {
                split: ImageIndex(*(array[keep[split]] for array in vars(index).values()))
                for split, index in now.indices.items()
            }
            facts = now.manifest
            for split, index in indices.items():
                if len(np.unique(index.labels)) < len(facts.classes):
                    raise DataError(f"{self.root}: without its bad images a class of '{split}' would be empty.")
            publish_index(folder, facts.name, facts.source, facts.classes, indices)

    @cached_property
    def paths(self) -> np.ndarray:  # (N,) bytes, of both splits
        return np.concatenate([index.paths for index in self.indices.values()])

    @cached_property
    def bytes(self) -> np.ndarray:  # (N,) int64
        return np.concatenate([index.bytes for index in self.indices.values()])


def copy_root(root: str | Path | Remote, size: int) -> Path | Remote:
    """ROOT and 160 -> ROOT-sz/160, the folder that `trndir: -sz/160` of a phase names. Raises: DataError for a
    whole bucket and an address that no store has."""
    return _beside(root, COPIES) / str(size)


def crops_root(root: str | Path | Remote) -> Path | Remote:
    """ROOT -> ROOT-crops. Raises: DataError as copy_root."""
    return _beside(root, CROPS)


def copies_of(root: Path | Remote) -> list[Path | Remote]:
    """Those of ROOT-sz/N, ROOT-sz/N-crops and ROOT-crops that are there."""
    if isinstance(root, Remote) and root.is_bucket:
        return []
    folder = _beside(root, COPIES)
    smaller = sorted(name for name in names_in(folder) if name.removesuffix(CROPS).isdigit())
    return [copy for copy in (*(folder / name for name in smaller), crops_root(root)) if copy.is_dir()]


def _beside(root: str | Path | Remote, suffix: str) -> Path | Remote:
    root = place(root)
    if not isinstance(root, Remote):
        root = root if root.name not in ("", "..") else root.resolve()  # "." has no name to add to
        if not root.name:
            raise DataError(f"{root}: copies would lie beside this folder, and nothing does. Give a folder of it")
        return root.with_name(root.name + suffix)
    if root.is_bucket:
        raise DataError(
            f"{root}: copies would lie in another bucket. Put the images into a folder of it, or make smaller copies "
            f"elsewhere: resize --to {root}/FOLDER makes FOLDER-sz/N"
        )
    return Remote(root.url + suffix)


def source_root(copy: Path) -> Path:
    """ROOT-sz/160 -> ROOT"""
    folder = copy.absolute().parent
    if not folder.name.endswith(COPIES):
        raise DataError(f"{copy}: not a folder like ROOT-sz/160, so its source is not known.")
    return folder.with_name(folder.name.removesuffix(COPIES))
