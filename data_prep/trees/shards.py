"""Where a copy of an image tree stands, and how it becomes whole: ROOT-sz/160 from the records of every shard.

While work goes on, ROOT-sz/160/.partial holds rule.json (how the copies are made) and a folder for each shard
("2-of-4") with its lock and its journal. Shards write no file that others write, so they may run on several machines
over one file system. Whoever finds every image recorded verifies the files and writes the index and, last, the
manifest.
"""

import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import numpy as np

from data_prep.engines.base import Engine
from data_prep.engines.local import LOCAL
from data_prep.errors import DataError
from data_prep.files import LOCK, PARTIAL, disk_errors, one_writer, write_atomically
from data_prep.formats.file_names import printable
from data_prep.formats.image_index import ImageIndex, check_images, index_digest, index_name, open_index
from data_prep.formats.manifest import MANIFEST, Manifest, check_files, load_manifest, tool_versions
from data_prep.stores import RULE, Remote, file_sizes
from data_prep.trees import journal
from data_prep.trees.adopt import BAD_FILES, Problem, publish_index, write_problems
from data_prep.trees.shrink import Rule
from data_prep.trees.source_tree import Source, source_root


class Making(Protocol):
    """How the files of a copy are made; a frozen dataclass."""

    made_with: str  # versions of the tools that decide its bytes
    kinds: tuple[str, ...]  # what the "kind" of a record says; (): nothing

    def to_json(self) -> bytes:
        """Its fields."""

    def words(self, copy: Path) -> str:
        """For Manifest.source."""

    def write_beside(
        self, copy: Path, pictures: Path | Remote, indices: dict[str, ImageIndex], engine: Engine
    ) -> dict[str, list[str]]:
        """Write what lies beside the index, into `copy`; the names of the files, by split."""

    def check_beside(self, copy: Path, manifest: Manifest) -> None:
        """Raises: DataError when that is missing or damaged."""


def parse_shard(text: str) -> tuple[int, int]:
    """ "2/4" -> (2, 4), the second of four."""
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts) <= 10_000):
        raise DataError(f"--shard {printable(text)}: the first of four is 1/4, the last 4/4")
    return int(part), int(parts)


def begin(
    copy: Path,
    source: Source,
    rule: Making,
    shard: tuple[int, int],
    locks: ExitStack,
    pictures: Path | Remote | None = None,
) -> Manifest | Path:
    """The manifest of a copy that is whole; else the folder of the shard, locked, with the rule recorded.

    `pictures`, here and below: where they lie, if not in `copy`.

    Raises: DataError for a folder that holds something else, or a copy of another kind.
    """
    _nothing_foreign(copy)
    with one_writer(copy, wait=True):  # other shards may begin or end now
        manifest = _finished(copy, source, rule, pictures or copy)
        if manifest:
            return manifest
        place = copy / PARTIAL / f"{shard[0]}-of-{shard[1]}"
        locks.enter_context(one_writer(place))
        if not (copy / PARTIAL / RULE).exists():
            write_atomically(copy / PARTIAL / RULE, rule.to_json())
        for left in place.glob("*.tmp"):  # of a killed process
            left.unlink()
        return place


def _nothing_foreign(copy: Path) -> None:
    if not copy.is_dir() or (copy / MANIFEST).exists() or (copy / PARTIAL).exists():
        return
    names = {entry.name for entry in os.scandir(copy)}
    others = sorted(names - {LOCK, BAD_FILES})
    if others and index_name("train") not in names:  # a copy whose manifest was deleted is made whole again
        raise DataError(
            f"{copy}: is there already and is no copy that was begun here (it holds {printable(others[0])}). Delete or "
            "rename the folder."
        )


def standing(copy: Path, source: Source, hashes: np.ndarray, pictures: Path | Remote | None = None) -> np.ndarray:
    """The record of every image of the source; those not finished have "bytes" -1.  (N,) journal.RECORD"""
    records = journal.read(copy / PARTIAL)
    found = journal.lookup(records, hashes, source.bytes)
    state = np.zeros(len(found), journal.RECORD)
    state["bytes"] = -1
    state[found >= 0] = records[found[found >= 0]]
    there = file_sizes(pictures or copy, folders_of(source.paths)) if len(records) else {}
    for row in np.flatnonzero(found >= 0):
        if there.get(source.paths[row]) != state["bytes"][row]:
            state["bytes"][row] = -1
    return state


def folders_of(paths: np.ndarray) -> set[bytes]:
    return {os.path.dirname(path) for path in paths.tolist()}


def join(root: str | Path) -> Manifest:
    """Make ROOT-sz/160 whole from its shards' records; the manifest as it is when that is done already.

    DataError when images are still to come, or another process works on it.
    """
    copy = Path(root)
    if (copy / MANIFEST).exists():
        return load_manifest(copy)
    if not (copy / PARTIAL / RULE).exists():
        raise DataError(f"{copy}: no copy and no shards of one. Make it: python -m data_prep resize ROOT --sizes N")
    source, rule = Source.open(source_root(copy)), _recorded_rule(copy, Rule)
    manifest, missing = complete(copy, source, rule)
    if manifest is None:
        raise DataError(
            f"{copy}: {missing:,} of {len(source.paths):,} images are not made yet ({_shards(copy)}). Run "
            "the resize command, or that of every shard, to its end."
        )
    return manifest


def complete(
    copy: Path, source: Source, rule: Making, engine: Engine = LOCAL, pictures: Path | Remote | None = None
) -> tuple[Manifest | None, int]:
    """The manifest of a copy, written now when every image is recorded, else None; and how many are missing.

    Shards that end at the same time wait for each other here.
    """
    with disk_errors(copy), one_writer(copy, wait=True):
        if (copy / MANIFEST).exists():
            return load_manifest(copy), 0
        state = standing(copy, source, journal.path_hashes(source.paths), pictures)
        missing = int((state["bytes"] < 0).sum())
        return (None, missing) if missing else (_commit(copy, source, rule, state, engine, pictures or copy), 0)


def lost_again(pictures: Path | Remote, missing: int) -> DataError:
    """Images that were made and recorded are not there when all are counted."""
    return DataError(
        f"{pictures}: {missing:,} images are gone again, have another size than when they were made, or came into the "
        "source meanwhile. Let no other program write there, use a disk that tells A.JPEG from a.JPEG, and run the "
        "same command again."
    )


def _commit(
    copy: Path, source: Source, rule: Making, state: np.ndarray, engine: Engine, pictures: Path | Remote
) -> Manifest:
    """Verify that there is nothing else, write the index and, last, the manifest."""
    _nothing_else(copy, pictures, source.paths)
    first, indices = 0, {}
    for split, index in source.indices.items():
        part = state[first : first + len(index.paths)]
        first += len(part)
        indices[split] = ImageIndex(index.paths, index.labels, part["width"], part["height"], part["bytes"])
    os.sync()  # the files were not flushed one by one
    if rule.kinds:
        counts = zip(rule.kinds, np.bincount(state["kind"], minlength=len(rule.kinds)), strict=True)
        print(f"{pictures}: {'; '.join(f'{count:,} {kind}' for kind, count in counts if count)}")
    beside = rule.write_beside(copy, pictures, indices, engine)
    (copy / BAD_FILES).unlink(missing_ok=True)
    facts = source.manifest
    created_by = f"{tool_versions()}, {rule.made_with}"
    manifest = publish_index(copy, facts.name, _origin(source, copy, rule), facts.classes, indices, created_by, beside)
    shutil.rmtree(copy / PARTIAL, ignore_errors=True)
    return manifest


def _finished(copy: Path, source: Source, rule: Making, pictures: Path | Remote) -> Manifest | None:
    """The manifest of a copy that is whole and made of this very source by this rule, None when there is work to do.

    A copy that lost files gets its records back, so only the lost ones are made again. DataError for another copy.
    """
    if not (copy / MANIFEST).exists():
        _same_rule(copy, rule)
        return None
    manifest = load_manifest(copy)
    if manifest.source != _origin(source, copy, rule):
        raise DataError(
            f"{copy}: holds copies of another kind, or the source was indexed anew since ({manifest.source}; now "
            f"{_origin(source, copy, rule)}). Delete the folder to make them again."
        )
    try:
        check_files(copy, manifest, hashes=False)
        indices = open_index(copy)
        _same_images(copy, indices, source)
        for index in indices.values():
            check_images(copy, index) if isinstance(pictures, Path) else _check_remote(pictures, index)
        rule.check_beside(copy, manifest)
    except DataError as error:
        print(f"making the missing copies again: {str(error).replace(str(copy), str(pictures))}", flush=True)
        _reopen(copy, source, rule)
        return None
    shutil.rmtree(copy / PARTIAL, ignore_errors=True)  # left when a run was killed right after the manifest
    return manifest


def _same_images(copy: Path, indices: dict[str, ImageIndex], source: Source) -> None:
    """Raises: DataError for a copy whose index has lost images, as by `check --write --skip-bad`, or their order."""
    for split, index in source.indices.items():
        ours, theirs = indices[split].paths, index.paths
        if not np.array_equal(ours, theirs):
            raise DataError(
                f"{copy}: its {len(ours):,} {split} images are not the {len(theirs):,} of {source.root}, or in another "
                "order"
            )


def _origin(source: Source, copy: Path, rule: Making) -> str:
    digest = index_digest(source.indices)[:16]
    return f"{source.manifest.source} ({digest}), {rule.words(copy)}"


def _same_rule(copy: Path, rule: Making) -> None:
    path = copy / PARTIAL / RULE
    if path.exists() and path.read_bytes() != rule.to_json():
        before = _recorded_rule(copy, type(rule))
        raise DataError(f"{copy}: was begun with {before}, now {rule}. Use the same, or delete the folder.")


def _recorded_rule(copy: Path, kind: type[Making]) -> Making:
    path = copy / PARTIAL / RULE
    try:
        return kind(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path}: not readable ({error}). Delete the folder {copy} and make the copies again."
        ) from error


def _reopen(copy: Path, source: Source, rule: Making) -> None:
    """Turn the index of a copy back into a journal and take its manifest away."""
    place = copy / PARTIAL / "1-of-1"
    place.mkdir(parents=True, exist_ok=True)
    write_atomically(copy / PARTIAL / RULE, rule.to_json())
    try:
        indices, lengths = open_index(copy), dict(zip(source.paths.tolist(), source.bytes.tolist(), strict=True))
        paths = [path for split in source.indices for path in indices[split].paths.tolist()]
        records = np.zeros(len(paths), journal.RECORD)
        records["path"], records["source"] = journal.path_hashes(paths), [lengths.get(path, -1) for path in paths]
        for field, name in (("width", "widths"), ("height", "heights"), ("bytes", "bytes")):
            records[field] = np.concatenate([getattr(indices[split], name) for split in source.indices])
        with journal.opened(place) as file:
            file.write(records.tobytes())
    except DataError:  # the index itself is damaged: all over again
        pass
    (copy / MANIFEST).unlink()


def _check_remote(pictures: Remote, index: ImageIndex) -> None:
    """Raises: DataError for an object that is missing or has another size."""
    there = file_sizes(pictures, folders_of(index.paths))
    for path, size in zip(index.paths.tolist(), index.bytes.tolist(), strict=True):
        if there.get(path) != size:
            raise DataError(f"{pictures}/{printable(path)} is missing or has not {size} bytes")


def _nothing_else(copy: Path, pictures: Path | Remote, paths: np.ndarray) -> None:
    """DataError for files between the copies that are none of them: counts of trees must agree."""
    strangers = sorted(file_sizes(pictures, folders_of(paths)).keys() - set(paths.tolist()))
    if strangers:
        write_problems(copy, [Problem(path, "does not belong to these copies") for path in strangers])
        more = f"{len(strangers):,} files do not, all listed in {pictures}/{BAD_FILES}. " if strangers[1:] else ""
        them = "them" if strangers[1:] else "it"
        raise DataError(
            f"{pictures}/{printable(strangers[0])}: does not belong to these copies. {more}Delete {them} and run the "
            "same command again."
        )


def _shards(copy: Path) -> str:
    names = sorted(path.name.replace("-of-", "/") for path in (copy / PARTIAL).glob("*-of-*"))
    return f"shards begun: {', '.join(names) or 'none'}"
