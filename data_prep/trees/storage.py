"""What each form of an image tree costs on disk and what it brings, before any of it is made.

A form that is there has the size of its index. Others are made of a sample, in memory: bytes per byte of the original
for ROOT-crops, bytes per pixel for smaller copies. Packed pixels follow from the index alone.
"""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.crops.layout import NoCut
from data_prep.crops.segments import RECORD, entry_of, segment_names
from data_prep.errors import DataError
from data_prep.formats.file_names import printable
from data_prep.formats.image_index import open_index
from data_prep.formats.manifest import MANIFEST, Manifest, load_manifest
from data_prep.formats.packed_tree import offsets_of, packed_tree_names
from data_prep.progress import tracked
from data_prep.trees.index_crops import laid_out
from data_prep.trees.jpegtran import jpegtran_version
from data_prep.trees.making import Job, content
from data_prep.trees.resize import check_sizes
from data_prep.trees.shrink import Rule, shrink
from data_prep.trees.source_tree import Source, copy_root, crops_root

SHOWN = (128, 224)  # px, of the images that a loader makes
ORIGINALS, CROPS = "originals", "crops"
# Images a second, relative to originals at the same size: docs/datasets.md has the source.
SPEEDS = {(ORIGINALS, 128): 1.0, (CROPS, 128): 1.38, ("160", 128): 5.0, ("160 packed", 128): 13.7}
SPEEDS |= {(ORIGINALS, 224): 1.0, (CROPS, 224): 1.37, ("320", 224): 1.94}
SPEEDS |= {(f"{ORIGINALS} packed", 128): 9.0, (f"{ORIGINALS} packed", 224): 6.4}


class Form(NamedTuple):
    path: Path
    kind: str  # of SPEEDS
    bytes: int | None  # on disk; None: not known
    there: bool
    packed: bool = False  # the pixels beside its files


class Sample(NamedTuple):
    """Sums over the images of a sample."""

    original: int  # bytes
    crops: int  # bytes of ROOT-crops, 0 without jpegtran
    pixels: np.ndarray  # (sizes,) of the smaller copies
    copies: np.ndarray  # (sizes,) bytes


class Plan(NamedTuple):
    source: Source
    sampled: int  # images
    forms: list[Form]
    note: str


def plan_storage(root: str | Path, sizes: list[int], sample: int) -> Plan:
    """The forms of `root`: as it is, ROOT-crops, ROOT-sz/N for all `sizes`, and their packed pixels. Those that are not
    there are estimated from `sample` images.

    Raises: DataError when `root` is not indexed, or an image of the sample has changed or cannot be decoded.
    """
    check_sizes(sizes)
    if sample < 1:
        raise DataError(f"--sample {sample}: choose 1 image or more")
    source, sizes, note = Source.open(root), sorted(set(sizes)), ""
    try:
        jpegtran_version()
    except DataError as error:
        note = f"{crops_root(root)} is not known: {error}"
    count = min(sample, len(source.paths))
    return Plan(source, count, _forms(source, sizes, _sampled(source, sizes, count, not note)), note)


def print_plan(plan: Plan) -> None:
    root = plan.source.root
    counts = " + ".join(f"{split.images:,} {name}" for name, split in plan.source.manifest.splits.items())
    print(
        f"{root}: {counts} images, {_size(shutil.disk_usage(root).free)} are free; estimates are from {plan.sampled:,} "
        "images"
    )
    _print_table(plan.forms)
    print(f"128 px, 224 px: random crops a second, relative to {root}; see docs/datasets.md; -: not measured")
    if plan.note:
        print(plan.note)


def _forms(source: Source, sizes: list[int], sample: Sample) -> list[Form]:
    forms = [Form(source.root, ORIGINALS, int(source.bytes.sum()), True), _packed(source, source.root, ORIGINALS, None)]
    crops = crops_root(source.root)
    forms.append(_there(crops, CROPS) or Form(crops, CROPS, _crops_bytes(source, sample), False))
    for place, size in enumerate(sizes):
        copy, kind = copy_root(source.root, size), str(size)
        rate = sample.copies[place] / sample.pixels[place]
        forms.append(_there(copy, kind) or Form(copy, kind, round(rate * _pixels(source, size)), False))
        forms.append(_packed(source, copy, kind, size))
    return forms


def _there(path: Path, kind: str) -> Form | None:
    """The form at `path` when it is whole. Raises: DataError for an index that cannot be read."""
    if not (path / MANIFEST).exists():
        return None
    manifest, indices = load_manifest(path), open_index(path)
    files = (path / name for split in indices for name in segment_names(split) if name in manifest.splits[split].files)
    return Form(path, kind, sum(int(index.bytes.sum()) for index in indices.values()) + _on_disk(files), True)


def _on_disk(files) -> int:
    return sum(file.stat().st_size for file in files if file.exists())


def _packed(source: Source, path: Path, kind: str, size: int | None) -> Form:
    there = (path / MANIFEST).exists() and _is_packed(load_manifest(path))
    return Form(path, f"{kind} packed", 3 * _pixels(source, size), there, packed=True)


def _is_packed(manifest: Manifest) -> bool:
    return all(set(packed_tree_names(split)) <= set(facts.files) for split, facts in manifest.splits.items())


def _crops_bytes(source: Source, sample: Sample) -> int | None:
    return round(sample.crops / sample.original * int(source.bytes.sum())) if sample.crops else None


def _pixels(source: Source, size: int | None) -> int:
    """Of all images with a short side of `size`, never enlarged; None: as they are."""
    return sum(offsets_of(*_scaled(index.heights, index.widths, size))[1] // 3 for index in source.indices.values())


def _scaled(heights: np.ndarray, widths: np.ndarray, size: int | None) -> tuple[np.ndarray, np.ndarray]:
    short = np.minimum(heights, widths)
    scale = np.minimum(1, (size or short) / short)
    return np.maximum(1, np.rint(heights * scale)), np.maximum(1, np.rint(widths * scale))


def _sampled(source: Source, sizes: list[int], count: int, with_crops: bool) -> Sample:
    rows = np.linspace(0, len(source.paths) - 1, count).astype(np.int64)
    job = Job(source.root, (), (), ())
    made = (_made(job, source.paths[row], int(source.bytes[row]), tuple(sizes), with_crops) for row in rows)
    original, crops, pixels, copies = zip(*tracked(made, "making a sample", len(rows)), strict=True)
    return Sample(sum(original), sum(crops), np.sum(pixels, axis=0), np.sum(copies, axis=0))


def _made(job: Job, path: bytes, length: int, sizes: tuple[int, ...], with_crops: bool) -> tuple:
    """Of one image: bytes, bytes in ROOT-crops, pixels and bytes of the smaller copies."""
    data = content(job, path, length)
    copies = shrink(data, printable(os.path.join(os.fsencode(job.root), path)), sizes, Rule())
    crops = _laid_out_bytes(data) if with_crops else 0
    return length, crops, [copy.width * copy.height for copy in copies], [len(copy.data) for copy in copies]


def _laid_out_bytes(data: bytes) -> int:
    """A file of ROOT-crops, with its part of the index of segments."""
    made = laid_out(data, sampled=False)
    try:
        return len(made or data) + RECORD.itemsize + (len(entry_of(made)[1]) if made else 0)
    except NoCut:
        return len(made) + RECORD.itemsize


def _print_table(forms: list[Form]) -> None:
    rows = [("form", "on disk", "", *(f"{size} px" for size in SHOWN))]
    for form in forms:
        speeds = (SPEEDS.get((form.kind, size)) for size in SHOWN)
        name = f"{printable(os.fsencode(form.path))}{', packed' if form.packed else ''}"
        cells = (f"{speed:.2f}" if speed else "-" for speed in speeds)
        rows.append((name, "not known" if form.bytes is None else _size(form.bytes), _state(form), *cells))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))
        print(f"{row[0]:{widths[0]}}  {'  '.join(cells)}".rstrip())


def _state(form: Form) -> str:
    if form.there or form.bytes is None:
        return "there" if form.there else ""
    return "computed" if form.packed else "estimated"


def _size(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"
