"""ImageNet's archives, tiny ones of the same kind: every image in its class, hostile ones refused, kills survived."""

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from picture_tree import jpeg

from data_prep import DataError, load_manifest
from data_prep.__main__ import main
from data_prep.engines.local import Local
from data_prep.formats.image_index import check_images, open_index
from data_prep.sources.imagenet import MD5, OTHER, arrange_imagenet, validation_labels

REPOSITORY = Path(__file__).parents[3]
NUMBERS = (1, 2, 3, 4)  # validation images; their classes are the classes of the training archive


def tar_of(members: dict[str, bytes] | list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    pairs = members if isinstance(members, list) else [(tarfile.TarInfo(name), data) for name, data in members.items()]
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, data in pairs:
            info.size = info.size or len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def classes_of(numbers=NUMBERS) -> list[str]:
    wnids, labels = validation_labels()
    return sorted({wnids[labels[number - 1]] for number in numbers})


def train_members(images: int = 3) -> dict[str, bytes]:
    return {
        f"{wnid}.tar": tar_of({f"{wnid}_{10 * n}.JPEG": jpeg(20 + n, 16 + label) for n in range(images)})
        for label, wnid in enumerate(classes_of())
    }


@pytest.fixture
def archives(tmp_path):
    (tmp_path / "train.tar").write_bytes(tar_of(train_members()))
    members = {f"ILSVRC2012_val_{number:08d}.JPEG": jpeg(30, 20 + number) for number in NUMBERS}
    (tmp_path / "val.tar").write_bytes(tar_of(members))
    return tmp_path / "train.tar", tmp_path / "val.tar"


def refused(archives, root, *words: str, **options) -> None:
    with pytest.raises(DataError) as error:
        arrange_imagenet(*archives, root, **{"any_archive": True, "engine": Local(1)} | options)
    text = str(error.value)
    assert text.isprintable() and all(word in text for word in words), text


def test_labels_of_the_validation_images():
    """Four that everyone can look up: the first is a sea snake, the known PNG's class is a Shetland sheepdog's."""
    wnids, labels = validation_labels()
    assert len(wnids) == 1000 and wnids == sorted(wnids) and len(set(wnids)) == 1000
    assert labels.shape == (50_000,) and (np.bincount(labels) == 50).all()
    assert [wnids[label] for label in labels[:3]] == ["n01751748", "n09193705", "n02105855"]
    assert labels[:3].tolist() == [65, 970, 230]
    assert all(wnids[labels[number - 1]] == "n01440764" for number in (293, 2138, 3014, 6697, 7197))  # in Imagenette


def test_both_archives_become_a_tree(tmp_path, archives, capsys):
    root = tmp_path / "root"
    manifest = arrange_imagenet(*archives, root, any_archive=True, engine=Local(1))
    assert (manifest.name, manifest.task, manifest.source) == ("imagenet", "ImageNet", OTHER)
    assert manifest.classes == tuple(classes_of()) and manifest == load_manifest(root)
    assert (manifest.splits["train"].images, manifest.splits["validation"].images) == (3 * len(classes_of()), 4)
    wnids, labels = validation_labels()
    for number in NUMBERS:
        path = root / "validation" / wnids[labels[number - 1]] / f"ILSVRC2012_val_{number:08d}.JPEG"
        assert path.read_bytes() == jpeg(30, 20 + number)
    for index in open_index(root).values():
        check_images(root, index)
    assert not (root / ".partial").exists() and "GB are free" in capsys.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.name != ".lock"}
    assert main(["imagenet", *map(str, archives), str(root), "--any-archive"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.name != ".lock"}


@pytest.mark.slow
def test_processes_give_the_same_as_one(tmp_path, archives):
    one = arrange_imagenet(*archives, tmp_path / "one", any_archive=True, engine=Local(1))
    assert arrange_imagenet(*archives, tmp_path / "two", any_archive=True, engine=Local(2)) == one


def test_only_the_official_archives_without_the_flag(tmp_path, archives, monkeypatch):
    refused(archives, tmp_path / "root", "members", "has 1,000", "--any-archive", any_archive=False)
    assert not (tmp_path / "root").exists()
    monkeypatch.setattr("data_prep.sources.imagenet.MEMBERS", {"train": len(classes_of()), "validation": 4})
    refused(archives, tmp_path / "root", "MD5 is", MD5["train"], "--any-archive", any_archive=False)
    assert not (tmp_path / "root").exists()


def test_verified_archives_are_not_read_again(tmp_path, archives, monkeypatch):
    """A resumed run of 150 GB does not compute the checksums anew, unless a file has changed since."""
    import hashlib

    import data_prep.sources.imagenet as module

    md5 = {split: hashlib.md5(path.read_bytes()).hexdigest() for split, path in zip(MD5, archives, strict=True)}
    monkeypatch.setattr(module, "MD5", md5)
    known = dict(zip(MD5, archives, strict=True))
    module._verify(known, tmp_path)
    monkeypatch.setattr(module, "MD5", {split: "0" * 32 for split in MD5})
    module._verify(known, tmp_path)
    later = archives[1].stat().st_mtime_ns + 1
    os.utime(archives[1], ns=(later, later))
    with pytest.raises(DataError, match=r"val\.tar: MD5 is"):
        module._verify(known, tmp_path)


def test_swapped_archives_are_told(tmp_path, archives):
    refused(archives[::-1], tmp_path / "root", "val.tar", "not the train archive", "TRAIN_TAR VAL_TAR")


@pytest.mark.parametrize(
    "content", [b"", b"<html>no</html>" * 100, bytes(10240), None], ids=["empty", "html", "no members", "missing"]
)
def test_what_is_no_archive(tmp_path, archives, content):
    archives[0].unlink() if content is None else archives[0].write_bytes(content)
    refused(archives, tmp_path / "root", "train.tar")
    assert not (tmp_path / "root").exists()


def test_classes_must_agree(tmp_path, archives):
    members = train_members()
    members.pop(next(iter(members)))
    archives[0].write_bytes(tar_of(members))
    refused(archives, tmp_path / "root", "class folders differ")


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


@pytest.mark.parametrize(
    "members",
    [
        [(member("../../x.JPEG"), b"x")],
        [(member("/tmp/x.JPEG"), b"x")],
        [(member("a/b.JPEG"), b"x")],
        [(member("link.JPEG", tarfile.SYMTYPE, "../.."), b""), (member("link.JPEG/x.JPEG"), b"x")],
        [(member("hard.JPEG", tarfile.LNKTYPE, "../../../secret"), b"")],
        [(member("pipe.JPEG", tarfile.FIFOTYPE), b"")],
        [(member("device.JPEG", tarfile.CHRTYPE), b"")],
        [(member("folder.JPEG", tarfile.DIRTYPE), b"")],
        [(member("twice.JPEG"), b"1"), (member("twice.JPEG"), b"2")],
        [(member("two\nlines.JPEG"), b"x")],
        [(member("run.sh"), b"x")],
        [],
    ],
    ids=[
        "dots",
        "absolute",
        "folder",
        "symlink",
        "hard link",
        "pipe",
        "device",
        "directory",
        "twice",
        "newline",
        "suffix",
        "nothing",
    ],
)
def test_hostile_members_of_a_class(tmp_path, archives, members):
    (tmp_path / "secret").write_bytes(b"s")
    hostile = train_members()
    hostile[next(iter(hostile))] = tar_of(members)
    archives[0].write_bytes(tar_of(hostile))
    before = sorted(tmp_path.iterdir())
    refused(archives, tmp_path / "root", "train.tar")
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "root"] == before
    assert not (tmp_path / "root" / "manifest.json").exists()


@pytest.mark.parametrize(
    "split, name",
    [
        (0, "../n01440764.tar"),
        (0, "n01440764.tgz"),
        (0, "n1.tar"),
        (1, "../ILSVRC2012_val_00000001.JPEG"),
        (1, "ILSVRC2012_val_00050001.JPEG"),
        (1, "ILSVRC2012_val_00000000.JPEG"),
    ],
)
def test_hostile_names_in_the_archives_themselves(tmp_path, archives, split, name):
    archives[split].write_bytes(tar_of({name: b"x"}))
    refused(archives, tmp_path / "root", "ILSVRC2012")
    assert not (tmp_path / "root").exists()


def test_a_sparse_terabyte_is_refused(tmp_path, archives):
    header = bytearray(tarfile.TarInfo("ILSVRC2012_val_00000001.JPEG").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[483:495] = b"\x80" + (2**40).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    archives[1].write_bytes(bytes(header) + bytes(1024))
    refused(archives, tmp_path / "root", "val.tar")
    huge = member("ILSVRC2012_val_00000001.JPEG", size=2**40).tobuf(tarfile.GNU_FORMAT)
    archives[1].write_bytes(huge + bytes(1024))
    refused(archives, tmp_path / "root", "val.tar")
    assert not (tmp_path / "root").exists()


def test_countless_members_are_refused(tmp_path, archives, monkeypatch):
    monkeypatch.setattr("data_prep.sources.imagenet.MAX_IMAGES", 2)
    refused(archives, tmp_path / "root", "no image of ImageNet")
    monkeypatch.setattr("data_prep.sources.imagenet.MEMBERS", {"train": 2, "validation": 4})
    refused(archives, tmp_path / "root", "not the train archive")


@pytest.mark.parametrize("percent", [3, 30, 60])
def test_a_cut_archive_is_refused(tmp_path, archives, percent):
    data = archives[0].read_bytes()
    archives[0].write_bytes(data[: len(data) * percent // 100])
    refused(archives, tmp_path / "root", "train.tar")
    assert not (tmp_path / "root").exists()


def test_an_image_without_a_header_is_refused(tmp_path, archives):
    broken = train_members()
    name = next(iter(broken))
    broken[name] = tar_of({f"{name[:9]}_1.JPEG": b"<html>"})
    archives[0].write_bytes(tar_of(broken))
    refused(archives, tmp_path / "root", "1 bad files", "bad_files.tsv")


def test_files_of_an_unfinished_run_that_are_not_the_archives(tmp_path, archives):
    root, wnid = tmp_path / "root", classes_of()[0]
    arrange_imagenet(*archives, root, any_archive=True, engine=Local(1))
    (root / "manifest.json").unlink()
    refused(archives, root, "train: is there already", "adopt")
    (root / ".partial").mkdir()
    (root / "train" / wnid / f"{wnid}_0.JPEG").write_bytes(b"cut")
    refused(archives, root, str(root / "train" / wnid), "are not those of", "Delete the folder")
    shutil.rmtree(root / "train" / wnid)
    next((root / "validation").glob("*/*")).write_bytes(b"cut")
    manifest = arrange_imagenet(*archives, root, any_archive=True, engine=Local(1))
    assert manifest.splits["train"].images == 3 * len(classes_of()) and not (root / ".partial").exists()


@pytest.mark.slow
def test_kills_at_random_end_in_the_same_tree(tmp_path, archives):
    """Killed again and again while two processes unpack: no half class, no half file, and it goes on."""
    archives[0].write_bytes(tar_of(train_members(images=150)))
    whole = arrange_imagenet(*archives, tmp_path / "whole", any_archive=True, engine=Local(1))
    root, kills = tmp_path / "root", 0
    command = [sys.executable, "-m", "data_prep", "imagenet", *map(str, archives), str(root), "--any-archive"]
    for attempt in range(4):
        process = subprocess.Popen([*command, "--workers", "2"], cwd=REPOSITORY, stderr=subprocess.DEVNULL)
        while not (root / ".partial").exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(0.25 * attempt)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() != 0
        for folder in (root / "train").glob("*"):
            assert len(list(folder.iterdir())) == 150
    assert kills >= 2
    assert arrange_imagenet(*archives, root, any_archive=True, engine=Local(1)).sha256 == whole.sha256
    assert not (root / ".partial").exists()
