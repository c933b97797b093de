import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from picture_tree import jpeg, tree_hash
from PIL import Image
from process_groups import no_process_left
from small_disk import small_disk

from data_prep import DataError, load_manifest
from data_prep.__main__ import main
from data_prep.crops.layout import layout_of
from data_prep.crops.segments import open_segments
from data_prep.engines.local import Local
from data_prep.formats.image_index import check_images, open_index
from data_prep.formats.pictures import read_rgb
from data_prep.trees.adopt import adopt
from data_prep.trees.check import check_dataset
from data_prep.trees.index_crops import index_crops as index_in_processes
from data_prep.trees.index_crops import laid_out
from data_prep.trees.jpegtran import jpegtran_version, same_coefficients
from data_prep.trees.resize import resize_tree
from data_prep.trees.source_tree import copy_root

REPOSITORY = Path(__file__).parents[3]
FORMS = ("444", "422", "420", "440", "411")
index_crops = partial(index_in_processes, engine=Local(1))
needs_jpegtran = pytest.mark.skipif(not shutil.which("jpegtran"), reason="jpegtran (libjpeg-turbo-progs) is missing")


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height)))


def odd(kind: str) -> bytes:
    """A file that cannot be laid out."""
    image, buffer = Image.fromarray(noise(70, 90)), io.BytesIO()
    if kind == "damaged":
        data = simplejpeg.encode_jpeg(noise(70, 90))
        return data[:900] + bytes(200) + data[1100:]
    if kind == "CMYK":
        image = image.convert("CMYK")
    image.save(buffer, "PNG" if kind == "PNG" else "JPEG", **{"progressive": True} if kind == "progressive" else {})
    return buffer.getvalue()


def plant(root: Path, files: dict[str, bytes]) -> Path:
    """A tree of `files` (by the letter of their class and a name) in train/, and one more of each class; indexed."""
    for split in ("train", "validation"):
        for label in "ab":
            (root / split / label).mkdir(parents=True)
            (root / split / label / "0.JPEG").write_bytes(simplejpeg.encode_jpeg(noise(60, 80, ord(label))))
    for name, data in files.items():
        (root / "train" / name).write_bytes(data)
    adopt(root)
    return root


@pytest.fixture
def tree(tmp_path) -> Path:
    files = {f"a/{form}.JPEG": simplejpeg.encode_jpeg(noise(100, 150), colorsubsampling=form) for form in FORMS}
    grey = simplejpeg.encode_jpeg(noise(100, 150)[:, :, :1].copy(), colorspace="GRAY", colorsubsampling="Gray")
    odds = {f"b/{kind}.JPEG": odd(kind) for kind in ("progressive", "CMYK", "PNG", "damaged")}
    return plant(tmp_path / "photos", files | odds | {"a/grey.JPEG": grey})


@pytest.fixture
def sound(tree) -> Path:
    """Without the damaged file, which `check` would tell of."""
    (tree / "train/b/damaged.JPEG").unlink()
    adopt(tree, again=True)
    return tree


def crops(root: Path) -> Path:
    return root.with_name(f"{root.name}-crops")


@needs_jpegtran
def test_every_file_of_the_copy_is_the_same_picture(tree, capsys):
    manifest = index_crops(tree)
    told = capsys.readouterr().out
    assert "10 of 14 images can be cut" in told and load_manifest(crops(tree)) == manifest
    assert (
        "1 progressive" in told
        and "1 CMYK" in told
        and "1 not a JPEG file" in told
        and "1 damaged or irregular" in told
    )
    ours, theirs = open_index(crops(tree)), open_index(tree)
    for split, index in ours.items():
        for field in ("paths", "labels", "widths", "heights"):
            np.testing.assert_array_equal(getattr(index, field), getattr(theirs[split], field))
        check_images(crops(tree), index)
        for path in (Path(os.fsdecode(path)) for path in index.paths):
            assert np.array_equal(np.asarray(read_rgb(crops(tree) / path)), np.asarray(read_rgb(tree / path)))
            laid = "/b/" not in str(path) or path.stem == "0"
            before, after = (tree / path).read_bytes(), (crops(tree) / path).read_bytes()
            assert (before != after) == laid and (not laid or same_coefficients(before, after))


@needs_jpegtran
def test_every_window_is_cut_to_the_pixels_of_the_original(tree):
    index_crops(tree)
    index, generator = open_index(tree)["train"], random.Random(0)
    segments = open_segments(crops(tree))["train"]
    for row, path in enumerate(index.paths.tolist()):
        height, width = int(index.heights[row]), int(index.widths[row])
        top, left = generator.randrange(height), generator.randrange(width)
        window = top, left, generator.randint(1, height - top), generator.randint(1, width - left)
        piece = segments.piece(os.path.join(os.fsencode(crops(tree)), path), row, window)
        if piece is None:
            assert b"/b/" in path
            continue
        (y, x, height, width), whole = piece.window, simplejpeg.decode_jpeg((tree / os.fsdecode(path)).read_bytes())
        cut = simplejpeg.decode_jpeg(piece.data)[y : y + height, x : x + width]
        assert np.array_equal(cut, whole[top : top + height, left : left + width])


@needs_jpegtran
@pytest.mark.parametrize("size", [(8, 8), (1, 1), (500, 375), (333, 16), (16, 333), (40, 2000)])
@pytest.mark.parametrize(("sampling", "mcu"), [("420", (16, 16)), ("422", (8, 16)), ("444", (8, 8))])
def test_a_segment_is_one_mcu(size, sampling, mcu):
    layout = layout_of(laid_out(simplejpeg.encode_jpeg(noise(*size), colorsubsampling=sampling)))
    assert (layout.segment_height, layout.segment_width, layout.columns) == (*mcu, -(-size[1] // mcu[1]))


@needs_jpegtran
def test_a_second_call_changes_nothing_and_lost_files_come_back(tree, capsys):
    index_crops(tree)
    whole = tree_hash(crops(tree))
    files = [path for path in crops(tree).rglob("*") if path.is_file() and path.name != ".lock"]
    before = {path: path.stat().st_mtime_ns for path in files}
    index_crops(tree)
    assert before == {path: path.stat().st_mtime_ns for path in files}
    for lost in ("train/a/420.JPEG", "train.segments.npy", "validation.crops.npy"):
        (crops(tree) / lost).unlink()
        index_crops(tree)
        assert tree_hash(crops(tree)) == whole and f"{lost}" in capsys.readouterr().out
    data = bytearray((crops(tree) / "train.segments.npy").read_bytes())
    data[-1] ^= 1
    (crops(tree) / "train.segments.npy").write_bytes(data)
    index_crops(tree)
    assert tree_hash(crops(tree)) == whole


@needs_jpegtran
def test_an_image_left_out_of_the_copy_alone_comes_back(tree):
    """It was a traceback."""
    index_crops(tree)
    whole, path = tree_hash(crops(tree)), crops(tree) / "train/a/420.JPEG"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert check_dataset(crops(tree), write=True, skip_bad=True)
    index_crops(tree)
    assert tree_hash(crops(tree)) == whole


@needs_jpegtran
def test_files_for_cutting_are_no_source_of_others(tree):
    index_crops(tree)
    with pytest.raises(DataError, match=r"photos-crops: is laid out for cuts already"):
        index_crops(crops(tree))


@pytest.mark.slow
@needs_jpegtran
def test_the_bytes_do_not_depend_on_the_processes(tmp_path):
    files = {f"{'ab'[n % 2]}/{n + 1}.JPEG": jpeg(90 + n, 70, n) for n in range(40)}
    one, two = (plant(tmp_path / name / "photos", files) for name in ("one", "two"))
    index_crops(one)
    index_in_processes(two, engine=Local(2))
    assert tree_hash(crops(one)) == tree_hash(crops(two))


@needs_jpegtran
def test_another_source_and_a_changed_file_are_refused(tree):
    index_crops(tree)
    (tree / "train/a/420.JPEG").write_bytes(jpeg(80, 80, 7))
    shutil.rmtree(crops(tree))
    with pytest.raises(DataError, match=r"420\.JPEG has \d+ bytes, the index says .* check "):
        index_crops(tree)
    assert not (crops(tree) / "manifest.json").exists()
    adopt(tree, again=True)
    index_crops(tree)
    (tree / "train/a/420.JPEG").write_bytes(jpeg(90, 80, 7))
    adopt(tree, again=True)
    with pytest.raises(DataError, match="copies of another kind"):
        index_crops(tree)


@needs_jpegtran
def test_check_compares_the_copy_and_tells_of_damage(sound, capsys):
    index_crops(sound)
    resize_tree(sound, [32], Local(1))
    index_crops(copy_root(sound, 32))
    assert check_dataset(sound, engine=Local(1)) and "3 copies agree" in capsys.readouterr().out
    (sound / "train/a/440.JPEG").unlink()
    assert check_dataset(sound, write=True, skip_bad=True, engine=Local(1))
    for root in (sound, copy_root(sound, 32)):
        next(crops(root).rglob("440.*")).unlink()
        index_crops(root)  # they are copies of what is there now: segments are made again
    assert check_dataset(sound, engine=Local(1)) and "3 copies agree" in capsys.readouterr().out
    (crops(sound) / "train/a/420.JPEG").unlink()
    (crops(sound) / "train.segments.npy").write_bytes(b"")
    assert not check_dataset(sound, engine=Local(1))
    told = capsys.readouterr().out
    assert "420.JPEG" in told and "train.segments.npy" in told and "`index-crops` again" in told


@needs_jpegtran
def test_check_finds_a_changed_byte_that_decodes_and_the_advice_mends_it(sound, capsys):
    index_crops(sound)
    whole, path = tree_hash(crops(sound)), crops(sound) / "train/a/420.JPEG"
    data = bytearray(path.read_bytes())
    data[-40] ^= 4
    path.write_bytes(data)
    read_rgb(path)  # no decoder minds
    assert not check_dataset(sound, engine=Local(1))
    assert "a/420.JPEG: other bytes than when its segments were indexed" in capsys.readouterr().out
    path.unlink()
    index_crops(sound)
    assert tree_hash(crops(sound)) == whole and check_dataset(sound, engine=Local(1))


@needs_jpegtran
def test_check_that_writes_keeps_segments_that_still_fit(sound, capsys):
    index_crops(sound)
    resize_tree(sound, [32], Local(1))
    next(copy_root(sound, 32).rglob("420.*")).unlink()
    before = load_manifest(crops(sound))
    assert not check_dataset(sound, write=True, engine=Local(1)) and load_manifest(crops(sound)) == before
    assert "no longer fit" not in capsys.readouterr().out


@needs_jpegtran
@pytest.mark.parametrize(
    ("end", "words"),
    [("kill -9 $$", "jpegtran was ended by signal 9"), ("echo Insufficient memory >&2; exit 1", "too little memory")],
)
def test_a_jpegtran_that_was_ended_does_not_make_a_picture_damaged(tmp_path, tree, monkeypatch, capsys, end, words):
    stopped = tmp_path / "jpegtran"
    stopped.write_text(f"#!/bin/sh\ncase $1 in -version) exec {shutil.which('jpegtran')} -version;; *) {end};; esac\n")
    stopped.chmod(0o755)
    with monkeypatch.context() as here:
        here.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert main(["index-crops", str(tree), "--workers", "1"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert words in error and f"{tree}/train/" in error and not (crops(tree) / "manifest.json").exists()
    index_crops(tree)
    assert "10 of 14 images can be cut" in capsys.readouterr().out


def restarts_give(folder: Path, monkeypatch, data: bytes) -> None:
    """From now on jpegtran lays out `data`, whatever it is given; else it is the real one."""
    (folder / "other.JPEG").write_bytes(data)
    real, path = shutil.which("jpegtran"), folder / "jpegtran"
    path.write_text(
        f'#!/bin/sh\ncase "$*" in *-restart*) exec {real} "$@" < {folder}/other.JPEG;; *) exec {real} "$@";; esac\n'
    )
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@needs_jpegtran
def test_a_jpegtran_that_gives_another_picture_is_found(tmp_path, sound, monkeypatch, capsys):
    data = (sound / "train/a/420.JPEG").read_bytes()
    assert laid_out(data, sampled=False)
    restarts_give(tmp_path, monkeypatch, simplejpeg.encode_jpeg(noise(100, 150, 1), colorsubsampling="420"))
    assert laid_out(data, sampled=False) is None
    index_crops(sound)
    assert "0 of 13 images can be cut" in capsys.readouterr().out
    for path in sound.glob("*/*/*.JPEG"):
        assert (crops(sound) / path.relative_to(sound)).read_bytes() == path.read_bytes()


@needs_jpegtran
def test_a_jpegtran_that_changes_coefficients_alone_is_found(tmp_path, monkeypatch):
    """Of a grey area other steps of the quantisation give other numbers, and the same pixels."""
    grey = np.full((48, 64, 3), 136, np.uint8)
    data, other = (simplejpeg.encode_jpeg(grey, quality=quality) for quality in (100, 90))
    restarts_give(tmp_path, monkeypatch, other)
    assert laid_out(data, sampled=False)
    assert laid_out(data) is None and laid_out(other)


class OtherMachine(Local):
    """A worker whose machine has the jpegtran of `folder`."""

    def map(self, function, items, chunk=64):
        with pytest.MonkeyPatch.context() as there:
            there.setenv("PATH", f"{self.folder}:{os.environ['PATH']}")
            jpegtran_version.cache_clear()
            yield from super().map(function, items, chunk)


@needs_jpegtran
def test_a_machine_with_another_jpegtran_is_refused(tmp_path, tree):
    program(tmp_path, "libjpeg-turbo version 2.0.1 (build 1)")
    OtherMachine.folder, here = tmp_path, jpegtran_version()
    with pytest.raises(DataError, match=f"a machine has jpegtran 2.0.1, the first {here}. Install the same on all"):
        index_in_processes(tree, OtherMachine(1))
    jpegtran_version.cache_clear()
    assert not (crops(tree) / "manifest.json").exists()


@needs_jpegtran
def test_bytes_too_many_before_the_end_are_not_called_damage(tmp_path, capsys):
    """jpegtran only warns of them, and `resize` takes the file."""
    data = simplejpeg.encode_jpeg(noise(70, 90))
    tree = plant(tmp_path / "photos", {"a/strange.JPEG": data[:-2] + b"\x12\x34\x56" + data[-2:]})
    index_crops(tree)
    assert "4 of 5 images can be cut; copied as they are: 1 damaged or irregular" in capsys.readouterr().out
    strange = "train/a/strange.JPEG"
    assert (crops(tree) / strange).read_bytes() == (tree / strange).read_bytes()
    resize_tree(tree, [32], Local(1))


class WithThief(Local):
    """Another program removes a file of the copies at the end."""

    def map(self, function, items, chunk=64):
        yield from super().map(function, items, chunk)
        for copy in self.copies:
            (copy / "train/a/420.JPEG").unlink(missing_ok=True)


@needs_jpegtran
def test_a_copy_that_vanishes_before_all_are_counted_is_one_line(sound):
    WithThief.copies = crops(sound), copy_root(sound, 32)
    with pytest.raises(DataError, match="1 images are gone again"):
        index_in_processes(sound, WithThief(1))
    with pytest.raises(DataError, match="1 images are gone again"):
        resize_tree(sound, [32], WithThief(1))


@needs_jpegtran
def test_a_full_disk_is_one_line_and_a_rerun_goes_on(tmp_path, capsys):
    with small_disk(tmp_path / "disk", "800k") as place:
        root = plant(
            place / "photos", {f"a/{n + 1}.JPEG": simplejpeg.encode_jpeg(noise(120, 160, n)) for n in range(12)}
        )
        (place / "ballast").write_bytes(bytes(shutil.disk_usage(place).free - 80_000))
        assert main(["index-crops", str(root), "--workers", "1"]) == 2
        assert "disk full. Free some space and run the same command again" in capsys.readouterr().err.splitlines()[-1]
        assert not (crops(root) / "manifest.json").exists()
        (place / "ballast").unlink()
        assert main(["index-crops", str(root), "--workers", "1"]) == 0
        assert "photos is in place at" in capsys.readouterr().out


def program(folder: Path, text: str) -> None:
    """A jpegtran that says `text`."""
    path = folder / "jpegtran"
    path.write_text(f"#!/bin/sh\necho '{text}' >&2\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "jpegtran of libjpeg-turbo is needed (No such file or directory)"),
        ("libjpeg-turbo version 1.5.3 (build 20180101)", "libjpeg-turbo 1.5, 2.0 is needed"),
        ("mozjpeg version 4.1.1", "not that of libjpeg-turbo ('mozjpeg version 4.1.1')"),
    ],
)
def test_without_a_jpegtran_that_fits_the_command_to_install_it_is_told(
    tmp_path, tree, monkeypatch, capsys, text, words
):
    if text:
        program(tmp_path, text)
    monkeypatch.setenv("PATH", str(tmp_path) + (":/bin:/usr/bin" if text else ""))
    jpegtran_version.cache_clear()
    assert main(["index-crops", str(tree)]) == 2
    error = capsys.readouterr().err
    assert words in error and "sudo apt install libjpeg-turbo-progs" in error and error.count("\n") == 1
    assert not crops(tree).exists()
    jpegtran_version.cache_clear()


def start(root: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "data_prep", "index-crops", str(root), "--workers", "2"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=REPOSITORY, stderr=quiet, stdout=quiet, start_new_session=True)


@pytest.mark.slow
@needs_jpegtran
def test_kills_at_random_leave_the_tree_of_an_undisturbed_run(tmp_path):
    root = plant(tmp_path / "photos", {f"{'ab'[n % 2]}/{n + 1}.JPEG": jpeg(200 + n, 150, n) for n in range(160)})
    began = time.monotonic()
    assert start(root).wait() == 0
    seconds, undisturbed, killed = time.monotonic() - began, tree_hash(crops(root)), 0
    shutil.rmtree(crops(root))
    generator = random.Random(0)
    while killed < 4:
        process = start(root)
        try:
            process.wait(generator.uniform(0.2, 0.9) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        assert no_process_left(process.pid)
        if (crops(root) / "manifest.json").exists():
            assert tree_hash(crops(root)) == undisturbed
            shutil.rmtree(crops(root))
    assert start(root).wait() == 0 and tree_hash(crops(root)) == undisturbed
