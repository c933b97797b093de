import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from picture_tree import jpeg, make_tree, tree_hash
from PIL import Image
from small_disk import small_disk

from data_prep import DataError, load_manifest
from data_prep.__main__ import main
from data_prep.engines.local import Local
from data_prep.formats.image_index import open_index
from data_prep.formats.packed_tree import open_packed_tree
from data_prep.formats.pictures import read_rgb
from data_prep.trees import pack
from data_prep.trees.adopt import adopt
from data_prep.trees.pack import pack_tree

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def tree(tmp_path):
    root = make_tree(tmp_path / "photos", train=5, folders=("train", "val"))
    adopt(root)
    return root


def contents(root: Path) -> dict[str, int]:
    """When each file was last written; not of the lock, which every command opens."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in files}


def test_every_picture_is_there_in_index_order(tree):
    odd = io.BytesIO()
    Image.fromarray(np.arange(600).reshape(20, 30).astype(np.uint16) * 100).save(odd, "PNG")
    (tree / "train/bee/1.JPEG").write_bytes(odd.getvalue())
    with Image.open(io.BytesIO(jpeg(33, 21))) as image:
        image.convert("CMYK").save(tree / "train/cow/1.JPEG", "JPEG")
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(tree / "train/cow/2.JPEG", "JPEG", exif=exif)  # packed as stored
    adopt(tree, again=True)
    pack_tree(tree)
    indices, packed = open_index(tree), open_packed_tree(tree, verify=True)
    for split, index in indices.items():
        here = packed[split]
        np.testing.assert_array_equal(here.labels, index.labels)
        assert here.pixels.flags.writeable is False and here.pixels.dtype == np.uint8
        assert len(here.pixels) == 3 * int((index.heights.astype(int) * index.widths).sum())
        for row, path in enumerate(index.paths):
            np.testing.assert_array_equal(here.image(row), np.asarray(read_rgb(tree / path.decode())))
            assert here.image(row).base is not None  # a view


def test_the_manifest_names_the_files_and_a_second_call_does_nothing(tree):
    before = load_manifest(tree)
    manifest = pack_tree(tree)
    assert manifest == load_manifest(tree)
    assert set(manifest.splits["train"].files) == {"train.index.npz", "train.pixels.bin", "train.pixels.npz"}
    assert manifest.sha256 == before.sha256 and manifest.classes == before.classes
    assert not (tree / ".partial").exists()
    state = contents(tree)
    assert pack_tree(tree, engine=Local(2)) == manifest and contents(tree) == state
    adopt(tree)
    open_index(tree)


def test_processes_give_the_same_bytes(tmp_path):
    for workers in (1, 2):
        root = make_tree(tmp_path / str(workers) / "photos", train=20)
        adopt(root)
        pack_tree(root, Local(workers))
    assert tree_hash(tmp_path / "1") == tree_hash(tmp_path / "2")


def test_a_lost_or_cut_file_is_packed_again(tree, capsys):
    pack_tree(tree)
    state = (tree / "train.pixels.bin").read_bytes()
    (tree / "train.pixels.bin").write_bytes(state[:-1])
    with pytest.raises(DataError, match=r"train\.pixels\.bin: \d+ bytes"):
        open_packed_tree(tree)
    pack_tree(tree)
    assert "packing again" in capsys.readouterr().out and (tree / "train.pixels.bin").read_bytes() == state


def test_changed_files_are_refused(tree):
    with pytest.raises(DataError, match=f"not packed.* pack {tree}"):
        open_packed_tree(tree)
    pack_tree(tree)
    path = tree / "train.pixels.bin"
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    open_packed_tree(tree)  # sizes only
    with pytest.raises(DataError, match="SHA-256"):
        open_packed_tree(tree, verify=True)
    shutil.copy(tree / "validation.pixels.npz", tree / "train.pixels.npz")
    with pytest.raises(DataError, match=r"train\.pixels\.npz"):
        open_packed_tree(tree)


@pytest.mark.parametrize("change", ["offset", "height", "label", "dtype", "missing", "text"])
def test_places_out_of_the_file_are_refused(tree, change):
    """Even when a manifest covers them: the file may come from elsewhere."""
    pack_tree(tree)
    path = tree / "train.pixels.npz"
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    if change == "missing":
        del arrays["widths"]
    elif change == "dtype":
        arrays["heights"] = arrays["heights"].astype(np.int64)
    else:
        name, value = {
            "offset": ("offsets", 1),
            "height": ("heights", 2**31 - 1),
            "label": ("labels", -1),
            "text": ("labels", 0),
        }[change]
        arrays[name][3] = value
    np.savez(path, **arrays)
    if change == "text":
        path.write_bytes(b"no archive")
    text, entry = (tree / "manifest.json").read_text(), load_manifest(tree).splits["train"].files[path.name]
    text = text.replace(f'"bytes": {entry["bytes"]}', f'"bytes": {path.stat().st_size}')
    (tree / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="Pack it again"):
        open_packed_tree(tree)


def test_a_bad_picture_is_named_and_the_tree_is_as_before(tree):
    path = tree / "train/bee/3.JPEG"
    path.write_bytes(path.read_bytes()[:-60])
    adopt(tree, again=True)
    state = contents(tree)
    with pytest.raises(DataError, match=r"train/bee/3\.JPEG: "):
        pack_tree(tree)
    assert contents(tree) == state and not (tree / ".partial").exists()


def test_a_picture_of_another_shape_than_indexed(tree):
    path = tree / "train/bee/3.JPEG"
    path.write_bytes(jpeg(60, 50))
    with pytest.raises(DataError, match=r"3\.JPEG: 60 x 50 pixels, the index says 26 x 17"):
        pack_tree(tree)


def test_a_disk_that_is_too_small_is_known_before(tree, monkeypatch):
    monkeypatch.setattr(pack, "SPARE", 2**62)
    with pytest.raises(DataError, match="do not fit on the disk"):
        pack_tree(tree)
    assert not (tree / ".partial").exists()


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, monkeypatch):
    with small_disk(tmp_path / "disk", "600k") as place:
        root = make_tree(place / "photos", train=2, validation=1)
        for label, name in enumerate(("ant", "bee", "cow")):
            (root / f"train/{name}/0.JPEG").write_bytes(jpeg(300, 250 + label))
        adopt(root)
        state = contents(root)
        monkeypatch.setattr(pack, "SPARE", -(2**40))
        with pytest.raises(DataError, match="disk full"):
            pack_tree(root)
        assert contents(root) == state and not (root / ".partial").exists()


def test_command(tree, tmp_path, capsys):
    other = make_tree(tmp_path / "others")
    assert main(["pack", str(tree), str(other)]) == 2
    out, err = capsys.readouterr()
    assert f"{tree} is packed" in out and "GB are free" in out and f"adopt {other}" in err
    assert main(["pack"]) == 2 and main(["pack", str(tmp_path / "none")]) == 2


@pytest.mark.slow
def test_a_kill_leaves_the_tree_and_a_rerun_completes(tmp_path):
    root = make_tree(tmp_path / "photos", train=60)
    adopt(root)
    shutil.copytree(root, tmp_path / "other/photos")
    pack_tree(tmp_path / "other/photos")
    for sign in (".partial/pack/train.pixels.bin", ".partial/pack/validation.pixels.npz", "train.pixels.bin"):
        process = subprocess.Popen(
            [sys.executable, "-m", "data_prep", "pack", str(root)],
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not (root / sign).exists() and process.poll() is None:
            time.sleep(0.0002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        open_index(root)  # still a whole tree
        if not set(os.listdir(root)) >= {"train.pixels.bin", "validation.pixels.npz"}:
            with pytest.raises(DataError, match="not packed"):
                open_packed_tree(root)
    pack_tree(root)
    open_packed_tree(root, verify=True)
    assert tree_hash(root) == tree_hash(tmp_path / "other/photos")
