"""Decode an image tree once, into one file of pixels for each split (packed_tree.py says what is in it).

Every picture's place is known from the index beforehand, so the processes write straight into one file of the final
size, and memory holds a picture each. Built in ROOT/.partial; the manifest names the files last. A killed pack leaves
the tree as it was, and starts anew.
"""

import io
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from data_prep.engines.base import Engine, Rows
from data_prep.engines.local import LOCAL
from data_prep.errors import DataError
from data_prep.files import PARTIAL, disk_errors, flush_to_disk, one_writer, sync_folder, write_atomically
from data_prep.formats.file_names import printable
from data_prep.formats.image_index import ImageIndex, open_index
from data_prep.formats.manifest import Manifest, check_files, describe_files, load_manifest, save_manifest
from data_prep.formats.packed_tree import DTYPES, offsets_of, packed_tree_names
from data_prep.progress import tracked, waiting
from data_prep.trees.shrink import decode
from dawn.commandline import quoted

CHUNK = 32  # pictures a process takes at a time
SPARE = 64 << 20  # bytes of the disk to leave free


def pack_tree(root: str | Path, engine: Engine = LOCAL) -> Manifest:
    """Write ROOT/train.pixels.bin ... and name them in the manifest; nothing to do when they are there.

    DataError when a picture cannot be decoded or the disk is too small; then the tree is as before.
    """
    root = Path(root)
    load_manifest(root)  # nothing is written into a folder that is no dataset
    with one_writer(root), disk_errors(root):
        manifest, indices = load_manifest(root), open_index(root)
        if _is_packed(root, manifest):
            return manifest
        work = root / PARTIAL / "pack"
        shutil.rmtree(work, ignore_errors=True)
        _check_space(root, indices)
        work.mkdir(parents=True)
        try:
            for split, index in indices.items():
                _pack_split(root, work, split, index, engine)
            return _publish(root, work, manifest)
        finally:  # also what a full disk has left
            shutil.rmtree(work, ignore_errors=True)
            _remove_empty(work.parent)


def _is_packed(root: Path, manifest: Manifest) -> bool:
    names = {name for split in manifest.splits for name in packed_tree_names(split)}
    if not names <= {name for facts in manifest.splits.values() for name in facts.files}:
        return False
    try:
        check_files(root, manifest, hashes=False, only=names)
    except DataError as error:
        print(f"packing again: {error}", flush=True)
        return False
    return True


def _check_space(root: Path, indices: dict[str, ImageIndex]) -> None:
    """Say what will be written. DataError when it does not fit on the disk."""
    needed = sum(offsets_of(index.heights, index.widths)[1] for index in indices.values())
    free, images = shutil.disk_usage(root).free, sum(len(index.paths) for index in indices.values())
    print(f"{root}: {images:,} images, {needed / 1e9:,.2f} GB of pixels ({free / 1e9:,.1f} GB are free)", flush=True)
    if needed + SPARE > free:
        raise DataError(
            f"{root}: {needed / 1e9:,.2f} GB of pixels do not fit on the disk ({free / 1e9:,.2f} GB free). "
            "Free some space, or pack a smaller copy."
        )


def _pack_split(root: Path, work: Path, split: str, index: ImageIndex, engine: Engine) -> None:
    pixels, places = (work / name for name in packed_tree_names(split))
    offsets, length = offsets_of(index.heights, index.widths)
    with open(pixels, "wb") as handle:
        os.posix_fallocate(handle.fileno(), 0, length)  # a full disk shows now, not half-way
        pictures = Rows(index.paths, index.heights, index.widths, offsets)
        done = engine.map(partial(_place, root, pixels), pictures, CHUNK)
        for _ in tracked(done, f"packing {split}", len(index.paths), rate="images"):
            pass
        flush_to_disk(handle)
    buffer = io.BytesIO()
    arrays = {"offsets": offsets, "heights": index.heights, "widths": index.widths, "labels": index.labels}
    np.savez(buffer, **{name: arrays[name].astype(dtype) for name, dtype in DTYPES.items()})
    write_atomically(places, buffer.getvalue())


def _place(root: Path, pixels: Path, picture: tuple[bytes, int, int, int]) -> None:
    """In a worker: decode a picture (path, height, width, offset) to its place in the file."""
    path, height, width, offset = picture
    file = os.path.join(os.fsencode(root), path)
    with open(file, "rb") as handle:
        image = decode(handle.read(), printable(file))
    if image.shape != (height, width, 3):
        raise DataError(
            f"{printable(file)}: {image.shape[1]} x {image.shape[0]} pixels, the index says {width} x "
            f"{height}. See what else differs: python -m data_prep check {quoted(root)}"
        )
    descriptor = os.open(pixels, os.O_WRONLY)
    try:
        data = memoryview(np.ascontiguousarray(image)).cast("B")
        while data:
            written = os.pwrite(descriptor, data, offset)
            data, offset = data[written:], offset + written
    finally:
        os.close(descriptor)


def _publish(root: Path, work: Path, manifest: Manifest) -> Manifest:
    """Move the files into place. The manifest speaks of them only when they are all there."""
    with waiting("hashing the pixels"):
        found = {split: describe_files(work, packed_tree_names(split)) for split in manifest.splits}
    bare = {}
    for split, facts in manifest.splits.items():
        others = {name: entry for name, entry in facts.files.items() if name not in found[split]}
        bare[split] = replace(facts, files=others)
    save_manifest(root, replace(manifest, splits=bare))
    for split in manifest.splits:
        for name in packed_tree_names(split):
            os.replace(work / name, root / name)
    sync_folder(root)
    packed = {split: replace(facts, files={**facts.files, **found[split]}) for split, facts in bare.items()}
    manifest = replace(manifest, splits=packed)
    save_manifest(root, manifest)
    return manifest


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
