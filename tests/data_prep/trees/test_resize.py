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

import fsspec
import numpy as np
import pytest
from picture_tree import jpeg, make_tree, tree_hash
from PIL import Image, ImageOps
from process_groups import no_process_left
from refusals import refused
from small_disk import small_disk

from data_prep import DataError, load_manifest
from data_prep.__main__ import main
from data_prep.engines.local import Local
from data_prep.files import PARTIAL
from data_prep.formats.image_index import check_images, index_digest, open_index
from data_prep.trees import journal, making
from data_prep.trees.adopt import adopt
from data_prep.trees.check import check_dataset
from data_prep.trees.resize import resize_tree as resize_in_processes
from data_prep.trees.shrink import Rule, decode, resample, shrink, target

REPOSITORY = Path(__file__).parents[3]
resize_tree = partial(resize_in_processes, engine=Local(1))


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Structure at every scale, as photographs have it."""
    generator, pixels = np.random.default_rng(seed), np.zeros((height, width, 3))
    for cells in (3, 8, 24, 64):
        noise = generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        pixels += np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)) / np.sqrt(cells)
    return Image.fromarray((255 * (pixels - pixels.min()) / np.ptp(pixels)).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(opened(data).convert("RGB")).astype(float)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(((a - b) ** 2).mean(), 1e-9))


def one(data: bytes, size: int, **rule):
    (copy,) = shrink(data, "x", (size,), Rule(**rule))
    return copy


@pytest.fixture
def tree(tmp_path):
    """24 images of 3 classes, an eighth of them smaller than 16 px, indexed."""
    root = make_tree(tmp_path / "photos", train=6, validation=2, folders=("train", "val"))
    for number, path in enumerate(sorted(root.glob("*/*/*.JPEG"))):
        path.write_bytes(encoded(photo(*((12, 14) if number % 8 == 0 else (50 + number, 40)), number)))
    adopt(root)
    return root


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (333, 334), (162, 161), (1000, 170), (200, 3000)])
def test_short_side_and_aspect(size):
    width, height = size
    copy = one(encoded(photo(width, height)), 160)
    assert (copy.width, copy.height) == target(width, height, 160) == opened(copy.data).size
    assert min(copy.width, copy.height) == 160 and copy.kind == 0
    assert abs(copy.width / copy.height * height / width - 1) < 0.5 / 160 * 1.01


def test_quality_is_that_of_pillow_with_lanczos():
    """Within 0.5 dB of Pillow's own copy, against Pillow's LANCZOS before coding."""
    for seed in range(4):
        source = encoded(photo(500, 375, seed), quality=95)
        for size in (160, 320):
            exact = opened(source).resize(target(500, 375, size), Image.Resampling.LANCZOS)
            theirs, reference = pixels(encoded(exact, quality=90)), np.asarray(exact).astype(float)
            assert psnr(pixels(one(source, size).data), reference) > psnr(theirs, reference) - 0.5


@pytest.mark.parametrize("name", ["lanczos", "bicubic", "bilinear", "box"])
def test_every_filter_is_pillows(name):
    image = photo(400, 300)
    exact = np.asarray(image.resize((133, 100), Image.Resampling[name.upper()])).astype(float)
    assert psnr(resample(np.asarray(image), (133, 100), name), exact) > 45


def test_a_large_jpeg_is_decoded_at_a_fraction_with_the_same_picture():
    image = photo(1350, 1300)
    source = encoded(image, quality=95)
    copy = one(source, 80)
    exact = opened(source).resize((copy.width, copy.height), Image.Resampling.LANCZOS)
    reference = np.asarray(exact).astype(float)
    assert psnr(pixels(copy.data), reference) > psnr(pixels(encoded(exact, quality=90)), reference) - 0.5


@pytest.mark.slow
@pytest.mark.parametrize("side", [100, 500, 2600])
def test_bytes_do_not_depend_on_the_other_sizes(side):
    source = encoded(photo(side + 100, side))
    together = shrink(source, "x", (96, 128, 320, 700), Rule())
    assert [one(source, size) for size in (96, 128, 320, 700)] == together


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_baked_in_and_metadata_dropped(orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, "a description"
    for width, height in ((90, 60), (30, 20)):  # made smaller, and coded at its own size
        source = encoded(photo(width, height), exif=exif, quality=95)
        copy = one(source, 40)
        seen = ImageOps.exif_transpose(opened(source))
        assert (copy.width, copy.height) == target(*seen.size, 40)
        reference = np.asarray(seen.resize((copy.width, copy.height), Image.Resampling.LANCZOS)).astype(float)
        assert psnr(pixels(copy.data), reference) > 30
        if orientation > 1 or width > 40:
            assert not opened(copy.data).getexif() and copy.kind == (0 if width > 40 else 2)


def test_a_broken_exif_block_is_informational():
    source = encoded(photo(90, 60), exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(40))
    assert one(source, 40).width == 60


ODD = {
    "CMYK": lambda: encoded(photo(90, 60).convert("CMYK")),
    "grey": lambda: encoded(photo(90, 60).convert("L")),
    "PNG": lambda: encoded(photo(90, 60), "PNG"),
    "palette with transparency": lambda: encoded(photo(90, 60).quantize(64), "PNG", transparency=3),
    "16 bit": lambda: encoded(Image.fromarray(np.arange(5400).reshape(60, 90).astype(np.uint16) * 12), "PNG"),
    "GIF": lambda: encoded(photo(90, 60), "GIF"),
    "WebP": lambda: encoded(photo(90, 60), "WEBP"),
    "progressive": lambda: encoded(photo(90, 60), progressive=True),
    "4:4:4": lambda: encoded(photo(90, 60), subsampling=0),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("size", [40, 200])
def test_odd_files_become_baseline_rgb(kind, size):
    source = ODD[kind]()
    copy = one(source, size)
    image = opened(copy.data)
    assert (image.format, image.size) == ("JPEG", target(90, 60, size)) and "progressive" not in image.info
    clean = kind in ("grey", "4:4:4") and size == 200
    assert image.mode == ("L" if kind == "grey" and clean else "RGB")
    assert copy.kind == (0 if size == 40 else 1 if clean else 2) and (not clean or copy.data == source)
    reference = Image.fromarray(decode(source, "x")).resize(image.size, Image.Resampling.LANCZOS)
    assert psnr(pixels(copy.data), np.asarray(reference).astype(float)) > 25


def test_extraneous_bytes_are_no_damage():
    source = encoded(photo(90, 60))
    strange = source[:-2] + b"\x12\x34\x56" + source[-2:]
    assert one(strange, 40).width == 60 and one(strange, 70).kind == 1


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.99])
def test_a_cut_file_is_refused(share):
    source = encoded(photo(200, 160))
    for size in (40, 400):
        with pytest.raises(DataError, match=r"^x: "):
            one(source[: int(share * len(source))], size)


def test_copies_hold_the_same_images_in_the_same_order(tree, capsys):
    manifests = resize_tree(f"{tree}/", [32, 16])
    for size in (16, 32):
        copy = Path(f"{tree}-sz/{size}")
        assert load_manifest(copy) == manifests[size]
        ours, theirs = open_index(copy), open_index(tree)
        for split, index in ours.items():
            np.testing.assert_array_equal(index.paths, theirs[split].paths)
            np.testing.assert_array_equal(index.labels, theirs[split].labels)
            check_images(copy, index)
            for path, width, height in zip(index.paths, index.widths, index.heights, strict=True):
                assert opened((copy / path.decode()).read_bytes()).size == (width, height)
                assert min(width, height) in (size, 12)
        facts = manifests[size]
        assert (facts.name, facts.task, facts.classes) == ("photos", "photos", load_manifest(tree).classes)
        assert facts.sha256 == index_digest(ours) and f"short side {size} px" in facts.source
        assert sorted(os.listdir(copy)) == [
            ".lock",
            "manifest.json",
            "train",
            "train.index.npz",
            "val",
            "validation.index.npz",
        ]
    assert "21 made smaller; 3 copied as they are" in capsys.readouterr().out


def test_small_files_are_copied_byte_for_byte(tree):
    resize_tree(tree, [16])
    small = min(tree.glob("train/*/*.JPEG"), key=lambda path: path.stat().st_size)
    assert (Path(f"{tree}-sz/16") / small.relative_to(tree)).read_bytes() == small.read_bytes()


def test_workers_and_a_second_call_change_nothing(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "other/photos")
    resize_tree(tree, [16, 32])
    resize_tree(tmp_path / "other/photos", [32])
    resize_in_processes(tmp_path / "other/photos", [16, 32], engine=Local(2))
    assert tree_hash(Path(f"{tree}-sz")) == tree_hash(tmp_path / "other/photos-sz")
    files = [path for path in Path(f"{tree}-sz").rglob("*") if path.is_file() and path.name != ".lock"]
    before = {path: path.stat().st_mtime_ns for path in files}
    resize_tree(tree, [32, 16])
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_lost_copy_is_made_again_alone(tree, capsys):
    resize_tree(tree, [16])
    copy = Path(f"{tree}-sz/16")
    whole, (lost, kept, *_) = tree_hash(copy), sorted(copy.glob("train/*/*.JPEG"))
    changed = kept.stat().st_mtime_ns
    lost.unlink()
    resize_tree(tree, [16])
    assert "is missing" in capsys.readouterr().out
    assert tree_hash(copy) == whole and kept.stat().st_mtime_ns == changed


def test_an_image_left_out_of_the_copy_alone_comes_back(tree, capsys):
    """The copy was said to be in place."""
    resize_tree(tree, [16])
    copy = Path(f"{tree}-sz/16")
    whole, bad = tree_hash(copy), sorted(copy.glob("train/*/*.JPEG"))[1]
    bad.write_bytes(bad.read_bytes()[:-200])
    assert check_dataset(copy, write=True, skip_bad=True)
    resize_tree(tree, [16])
    assert f"{copy}: its 17 train images are not the 18 of {tree}" in capsys.readouterr().out
    assert tree_hash(copy) == whole


@pytest.mark.slow
def test_other_rules_and_other_sources_are_refused(tree):
    resize_tree(tree, [16])
    with pytest.raises(DataError, match=r"quality 90; now .*quality 80"):
        resize_tree(tree, [16], rule=Rule(quality=80))
    path = next(tree.glob("train/*/*.JPEG"))
    path.write_bytes(jpeg(40, 40, 7))
    with pytest.raises(DataError, match=r"has \d+ bytes, the index says .* check "):
        resize_tree(tree, [20])
    adopt(tree, again=True)
    with pytest.raises(DataError, match="copies of another kind"):
        resize_tree(tree, [16])


@pytest.mark.slow
def test_a_foreign_file_between_the_copies_is_refused(tree):
    resize_tree(tree, [16])
    copy = Path(f"{tree}-sz/16")
    (copy / "manifest.json").unlink()
    stray = copy / "train/ant/stray.JPEG"
    stray.write_bytes(b"x")
    with pytest.raises(DataError, match=r"stray\.JPEG: does not belong to these copies\. Delete it"):
        resize_tree(tree, [16])
    other = Path(shutil.copy(stray, copy / "train/bee/other.JPEG"))
    with pytest.raises(DataError, match=r"stray\.JPEG: does not .*2 files do not, all listed in .*bad_files\.tsv"):
        resize_tree(tree, [16])
    assert "train/bee/other.JPEG" in (copy / "bad_files.tsv").read_text()
    stray.unlink()
    other.unlink()
    resize_tree(tree, [16])


def test_names_that_are_not_text(tmp_path):
    root = make_tree(tmp_path / "photos")
    os.rename(os.fsencode(root / "train/ant/0.JPEG"), os.path.join(os.fsencode(root), b"train/ant/caf\xe9 .JPEG"))
    adopt(root)
    resize_tree(root, [8])
    assert os.path.isfile(os.path.join(os.fsencode(f"{root}-sz/8"), b"train/ant/caf\xe9 .JPEG"))


def test_names_that_are_not_text_do_not_go_into_a_store(tmp_path, capsys):
    """s3fs failed at the first of them in the middle of the work, and AWS_ENDPOINT_URL was blamed."""
    root = make_tree(tmp_path / "photos")
    os.rename(os.fsencode(root / "train/ant/0.JPEG"), os.path.join(os.fsencode(root), b"train/ant/caf\xe9.JPEG"))
    adopt(root)
    capsys.readouterr()
    line = refused(capsys, main, ["resize", str(root), "--sizes", "8", "--to", "memory://names/photos"])
    assert f"{root}: 1 names of files are not UTF-8" in line and "train/ant/caf\\xe9.JPEG. Rename" in line
    assert not fsspec.filesystem("memory").exists("memory://names/photos-sz")


class Watched(Local):
    """Tells after each image which are recorded."""

    def map(self, function, items, chunk=64):
        for result in super().map(function, items, chunk):
            yield result
            self.look()


def test_no_image_is_recorded_before_its_file_is_on_the_disk(tree, monkeypatch):
    """After a power cut a record was trusted whose file had the right size and lacked its bytes."""
    copy, flushed, counts = Path(f"{tree}-sz/16"), [], []

    def flush() -> None:
        flushed.extend(os.fsencode(path.relative_to(copy)) for path in copy.glob("*/*/*.JPEG"))

    def look() -> None:
        recorded = journal.read(copy / PARTIAL)["path"]
        assert set(recorded.tolist()) <= set(journal.path_hashes(flushed.copy()).tolist())
        counts.append(len(recorded))
        time.sleep(0.02)

    monkeypatch.setattr(os, "sync", flush)
    monkeypatch.setattr(making, "SECONDS", 0.05)
    Watched.look = staticmethod(look)
    resize_tree(tree, [16], engine=Watched(1))
    assert 0 < counts[-1] <= 24 and len(set(counts)) > 3


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-60])


def test_a_corrupt_image_is_named_and_nothing_looks_whole(tree, capsys):
    bad = sorted(tree.glob("train/bee/*.JPEG"))[2]
    cut(bad)
    adopt(tree, again=True)
    assert main(["resize", str(tree), "--sizes", "16", "32", "--workers", "1"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "1 of 24 images" in error and "train/bee/2.JPEG" in error and "--skip-bad" in error
    for size in (16, 32):
        copy = Path(f"{tree}-sz/{size}")
        assert "train/bee/2.JPEG\t" in (copy / "bad_files.tsv").read_text()
        assert not (copy / "manifest.json").exists() and len(list(copy.glob("*/*/*.JPEG"))) == 23


@pytest.mark.slow
def test_a_replaced_image_completes_the_copies(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "whole/photos")
    resize_tree(tmp_path / "whole/photos", [16])
    bad = sorted(tree.glob("train/bee/*.JPEG"))[2]
    good = bad.read_bytes()
    cut(bad)
    adopt(tree, again=True)
    with pytest.raises(DataError, match="cannot be decoded"):
        resize_tree(tree, [16])
    kept = Path(f"{tree}-sz/16/train/ant/1.JPEG").stat().st_mtime_ns
    bad.write_bytes(good)
    adopt(tree, again=True)
    resize_tree(tree, [16])
    assert Path(f"{tree}-sz/16/train/ant/1.JPEG").stat().st_mtime_ns == kept
    assert tree_hash(Path(f"{tree}-sz/16")) == tree_hash(tmp_path / "whole/photos-sz/16")


def test_skip_bad_leaves_the_image_out_of_the_source_too(tree):
    bad = sorted(tree.glob("train/bee/*.JPEG"))[2]
    cut(bad)
    adopt(tree, again=True)
    manifests = resize_tree(tree, [16, 32], skip_bad=True)
    for root in (tree, Path(f"{tree}-sz/16"), Path(f"{tree}-sz/32")):
        index = open_index(root)["train"]
        assert len(index.paths) == 17 and b"train/bee/2.JPEG" not in index.paths.tolist()
        assert load_manifest(root).splits["train"].per_class == (6, 5, 6)
    assert "train/bee/2.JPEG" in (tree / "bad_files.tsv").read_text()
    assert bad.exists() and manifests[16].splits["train"].images == 17
    assert not Path(f"{tree}-sz/16/train/bee/2.JPEG").exists()


@pytest.mark.slow
def test_toy_copies_and_one_line_errors(toy, tmp_path, capsys):
    root = tmp_path / "toy"
    shutil.copytree(toy, root)
    assert main(["resize", str(root), "--sizes", "48"]) == 0
    assert "toy is in place at" in capsys.readouterr().out
    for arguments, words in (
        (["--sizes", "0"], "--sizes 0"),
        (["--sizes", "16", "--quality", "0"], "--quality 0"),
        (["--sizes", "16", "--filter", "nearest"], "--filter nearest"),
        ([], "--sizes"),
        (["--sizes", "16", "--shard", "0/4"], "--shard 0/4"),
        (["--sizes", "x"], "--sizes"),
        (["--sizes", "16", "--to", "/"], "/: copies would lie beside this folder"),
    ):
        assert main(["resize", str(root), *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1, error
    make_tree(tmp_path / "bare")
    assert main(["resize", str(tmp_path / "bare"), "--sizes", "16"]) == 2
    assert f"adopt {tmp_path / 'bare'}" in capsys.readouterr().err


def test_a_full_disk_is_one_line_and_a_rerun_goes_on(tmp_path, capsys):
    with small_disk(tmp_path / "disk", "800k") as place:
        root = make_tree(place / "photos")
        for number, path in enumerate(root.glob("*/*/*.JPEG")):
            path.write_bytes(encoded(photo(160, 120, number)))
        adopt(root)
        (place / "ballast").write_bytes(bytes(shutil.disk_usage(place).free - 80_000))
        assert main(["resize", str(root), "--sizes", "100", "--workers", "1"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert "disk full. Free some space and run the same command again" in error
        assert not Path(f"{root}-sz/100/manifest.json").exists()
        (place / "ballast").unlink()
        assert main(["resize", str(root), "--sizes", "100", "--workers", "1"]) == 0
        shutil.copytree(root, tmp_path / "photos")
        resize_tree(tmp_path / "photos", [100])
        assert tree_hash(Path(f"{root}-sz")) == tree_hash(tmp_path / "photos-sz")


def start(root: Path, *arguments: str) -> subprocess.Popen:
    """A resize in its own process group."""
    command = [sys.executable, "-m", "data_prep", "resize", str(root), "--sizes", "16", "48", "--workers", "2"]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill_often(tmp_path: Path, kills: int, images: int) -> list[int]:
    """Kill a resize at random moments, go on each time, and compare with one that was left alone.

    Returns how many copies were there at each kill.
    """
    root, generator, there = tmp_path / "photos", random.Random(0), []
    make_tree(root, train=images, validation=5)
    for number, path in enumerate(root.glob("*/*/*.JPEG")):
        path.write_bytes(encoded(photo(160 + number, 120, number)))
    adopt(root)
    began = time.monotonic()
    assert start(root).wait() == 0
    seconds, copies = time.monotonic() - began, Path(f"{root}-sz")
    undisturbed = tree_hash(copies)
    shutil.rmtree(copies)
    while len(there) < kills:
        process = start(root)
        moment = time.monotonic() + generator.uniform(0.2 * seconds, seconds)
        while time.monotonic() < moment and process.poll() is None:
            time.sleep(0.001)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            there.append(len(list(copies.glob("*/*/*/*.JPEG"))))
        else:  # it was done before: all over again
            assert process.returncode == 0 and tree_hash(copies) == undisturbed
            shutil.rmtree(copies)
        assert no_process_left(process.pid)
        for manifest in copies.glob("*/manifest.json"):
            for index in open_index(manifest.parent).values():
                check_images(manifest.parent, index)
    assert start(root).wait() == 0
    assert tree_hash(copies) == undisturbed
    return there


@pytest.mark.slow
def test_kills_at_random_leave_the_tree_of_an_undisturbed_run(tmp_path):
    kill_often(tmp_path, 3, 25)


@pytest.mark.slow
def test_twenty_kills_at_random(tmp_path):
    there = kill_often(tmp_path, 20, 400)
    assert len({count for count in there if 0 < count < 2 * 3 * 405}) > 4, there  # most hit it in the middle
