import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from picture_tree import jpeg
from segmented_jpeg import SAMPLINGS, index_segments, known_segments, random_one, segmented

from data_prep import DataError, load_manifest
from data_prep.crops import segments
from data_prep.crops.cutting import Window
from data_prep.crops.segments import Entry, SegmentIndex, entry_of, open_segments, segment_names, write_segments
from data_prep.formats.manifest import describe_files, save_manifest
from data_prep.trees.adopt import adopt

WINDOW = (30, 40, 50, 60)
DAMAGES = ("bits", "bytes", "zeros", "moved", "lost", "added", "cut", "another file", "markers")


@pytest.fixture
def tree(tmp_path) -> Path:
    """Four images of 100 x 120 pixels a split, the second of them without restart markers."""
    root = tmp_path / "photos"
    for split in ("train", "validation"):
        for number in range(4):
            path = root / split / "ab"[number // 2] / f"{number}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(120, 100) if number == 1 else segmented(100, 120, "4:2:0", 2, seed=number))
    adopt(root)
    index_segments(root)
    return root


def place(root: Path, row: int) -> bytes:
    return os.fsencode(root / "train" / "ab"[row // 2] / f"{row}.JPEG")


def test_an_indexed_file_is_cut_to_the_pixels_of_the_whole(tree):
    index = open_segments(tree)["train"]
    top, left, height, width = WINDOW
    for row in (0, 2, 3):
        piece = index.piece(place(tree, row), row, WINDOW)
        whole = simplejpeg.decode_jpeg(Path(os.fsdecode(place(tree, row))).read_bytes())
        y, x = piece.window[:2]
        cut = simplejpeg.decode_jpeg(piece.data)[y : y + height, x : x + width]
        assert np.array_equal(cut, whole[top : top + height, left : left + width])
    assert index.piece(place(tree, 1), 1, WINDOW) is None and index.piece(place(tree, 0), 0, None) is None


def parts_read(monkeypatch, index: SegmentIndex, path: bytes, window: Window) -> list[tuple[int, int]]:
    """Offsets and lengths of what a cut reads of picture 0."""
    asked, pread = [], os.pread

    def counted(file: int, length: int, offset: int) -> bytes:
        asked.append((offset, length))
        return pread(file, length, offset)

    with monkeypatch.context() as counting:
        counting.setattr(os, "pread", counted)
        index.piece(path, 0, window)
    return asked


def test_only_the_head_and_the_rows_of_the_window_are_read(tree, monkeypatch):
    index, path = open_segments(tree)["train"], place(tree, 0)
    size = os.stat(path).st_size
    ((start, length),) = parts_read(monkeypatch, index, path, (0, 0, 30, 20))  # few bytes apart: in one call
    assert start == 0 and length < size * 4 / 7
    monkeypatch.setattr(segments, "NEAR", 0)
    (start, head), (first, length) = parts_read(monkeypatch, index, path, (40, 0, 20, 20))
    assert start == 0 and head < first and length < size * 3 / 7


def test_a_tree_without_the_index_is_refused(tree):
    manifest = load_manifest(tree)
    bare = {
        split: replace(facts, files={name: entry for name, entry in facts.files.items() if "index" in name})
        for split, facts in manifest.splits.items()
    }
    save_manifest(tree, replace(manifest, splits=bare))
    with pytest.raises(DataError, match=r"photos: no index of segments \(train.crops.npy\)"):
        open_segments(tree)


def test_a_file_that_was_exchanged_is_named(tree):
    index, path = open_segments(tree)["train"], Path(os.fsdecode(place(tree, 2)))
    path.write_bytes(segmented(100, 120, "4:2:0", 2, seed=9))
    with pytest.raises(DataError, match=r"2\.JPEG: \d+ bytes, the index of its segments says \d+\. .* check "):
        index.piece(place(tree, 2), 2, WINDOW)
    path.unlink()
    with pytest.raises(DataError, match=r"2\.JPEG: No such file"):
        index.piece(place(tree, 2), 2, WINDOW)


@pytest.mark.parametrize(("row", "window"), [(1, WINDOW), (2, None)], ids=["cannot be cut", "shown whole"])
def test_an_exchanged_file_that_is_not_cut_is_named(tree, row, window):
    """It was shown in silence."""
    path = Path(os.fsdecode(place(tree, row)))
    path.write_bytes(jpeg(120, 100, seed=7))
    with pytest.raises(DataError, match=rf"{row}\.JPEG: \d+ bytes, the index of its segments says \d+\. .* check "):
        open_segments(tree)["train"].piece(place(tree, row), row, window)


@pytest.mark.parametrize("window", [WINDOW, None], ids=["cut", "whole"])
def test_a_head_of_another_file_of_the_same_length_is_named(tree, window):
    path = Path(os.fsdecode(place(tree, 2)))
    data = bytearray(path.read_bytes())
    data[data.index(b"\xff\xdb") + 9] ^= 1  # a step of the quantisation: another picture, no decoder could tell
    path.write_bytes(data)
    with pytest.raises(DataError, match="another head"):
        open_segments(tree)["train"].piece(place(tree, 2), 2, window)


def test_a_changed_pixel_that_no_decoder_could_notice_is_named(tree):
    path = Path(os.fsdecode(place(tree, 2)))
    original = path.read_bytes()
    whole, changed = simplejpeg.decode_jpeg(original), 0
    for offset in range(len(original) * 3 // 5, len(original) * 3 // 5 + 40):
        data = bytearray(original)
        data[offset] ^= 1
        try:
            silent = not np.array_equal(simplejpeg.decode_jpeg(data), whole)
        except ValueError:
            silent = False
        changed += silent
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"other pixels|restart markers"):
            open_segments(tree)["train"].piece(place(tree, 2), 2, (0, 0, 100, 120))
    assert changed


@pytest.mark.parametrize("name", ["train.crops.npy", "train.segments.npy"])
@pytest.mark.parametrize("damage", ["lost", "short", "other"])
def test_a_damaged_index_of_segments_is_named(tree, name, damage):
    path = tree / name
    data = bytearray(path.read_bytes())
    data[-40] ^= 0x55
    path.unlink()
    if damage != "lost":
        path.write_bytes(data if damage == "other" else data[:-7])
    with pytest.raises(DataError, match=name if damage != "other" or "crops" in name else r"0\.JPEG|2\.JPEG|3\.JPEG"):
        index = open_segments(tree)["train"]
        for row in (0, 2, 3):
            index.piece(place(tree, row), row, (0, 0, 100, 120))


def test_the_index_of_another_tree_is_refused(tree, tmp_path):
    names = segment_names("train")
    write_segments(tmp_path, "train", 3, [(Entry(10), b"")] * 3)
    for name in names:
        os.replace(tmp_path / name, tree / name)
    manifest = load_manifest(tree)
    train = manifest.splits["train"]
    train = replace(train, files=train.files | describe_files(tree, names))
    save_manifest(tree, replace(manifest, splits=manifest.splits | {"train": train}))
    with pytest.raises(DataError, match="does not fit the manifest"):
        open_segments(tree)


def damaged(data: bytes, generator: random.Random) -> bytes:
    """One kind of damage, anywhere in a file."""
    out, kind = bytearray(data), generator.choice(DAMAGES)
    place, length = generator.randrange(len(out)), generator.choice((1, 2, 16, 200, 4096))
    if kind == "bits":
        for _ in range(generator.randint(1, 3)):
            out[generator.randrange(len(out))] ^= 1 << generator.randrange(8)
    elif kind == "bytes":
        out[place : place + length] = generator.randbytes(len(out[place : place + length]))
    elif kind == "zeros":
        out[place : place + length] = bytes(len(out[place : place + length]))
    elif kind == "moved":
        part = out[place : place + length]
        del out[place : place + length]
        other = generator.randrange(len(out) + 1)
        out[other:other] = part
    elif kind == "lost":
        del out[place : place + length]
    elif kind == "added":
        out[place:place] = generator.randbytes(length)
    elif kind == "cut":
        del out[place:]
    elif kind == "another file":
        out = bytearray(random_one(generator, generator.choice(list(SAMPLINGS))).data)
    else:
        out[place : place + 2] = bytes((0xFF, generator.choice((0, 0xD0, 0xD5, 0xD9, 0xDA, 0xC0, 0xFF))))
    return bytes(out)


def check_damaged(folder: Path, count: int, seed: int) -> tuple[int, int]:
    """Damage indexed files; whatever comes out of one has the right pixels. Returns how many were refused, and cut."""
    generator, refused, cut = random.Random(seed), 0, 0
    path = folder / "a.jpg"
    for _ in range(count):
        one = random_one(generator, generator.choice(list(SAMPLINGS)))
        facts, words = entry_of(one.data)
        records = np.zeros(1, [("first", "<i8"), *((name, "<i8") for name in Entry._fields)])
        records[0] = (0, *facts)
        index = SegmentIndex(folder, records, np.frombuffer(words, np.uint16))
        path.write_bytes(damaged(one.data, generator))
        known_segments(path.read_bytes())  # nothing but a layout or a reason why there is none
        try:
            piece = index.piece(os.fsencode(path), 0, one.window)
        except DataError:
            refused += 1
            continue
        (top, left, height, width), (y, x, *_) = one.window, piece.window
        pixels = simplejpeg.decode_jpeg(piece.data)[y : y + height, x : x + width]
        assert np.array_equal(pixels, simplejpeg.decode_jpeg(one.data)[top : top + height, left : left + width])
        cut += 1
    return refused, cut


def test_no_damaged_file_is_shown(tmp_path):
    refused, cut = check_damaged(tmp_path, 120, seed=1)
    assert refused > 60 and cut > 5  # those with damage beside the window


@pytest.mark.slow
def test_of_twenty_thousand_damaged_files_none_is_shown(tmp_path):
    refused, cut = check_damaged(tmp_path, 20_000, seed=2)
    assert refused > 10_000 and cut > 1_000
