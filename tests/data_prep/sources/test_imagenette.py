"""Imagenette and Imagewoof from a local web server, an archive or a folder: the same tree, or one line why not."""

import hashlib
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from picture_tree import make_tree

from data_prep import DataError, load_manifest
from data_prep.__main__ import main
from data_prep.formats.image_index import open_index
from data_prep.sources.imagenette import KNOWN, Archive, prepare_imagenette

REPOSITORY = Path(__file__).parents[3]
NETTE = KNOWN["imagenette"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """An archive of the real classes with 3 + 2 images each, and the facts that fit it, served on this machine."""
    folder = tmp_path_factory.mktemp("served")
    make_tree(folder / "imagenette2-160", classes=NETTE.classes, folders=("train", "val"))
    (folder / "imagenette2-160" / "noisy_imagenette.csv").write_text("path,noisy_labels_0\n")
    archive = folder / "imagenette2-160.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / "imagenette2-160", "imagenette2-160")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    known = Archive(
        f"http://127.0.0.1:{server.server_port}/imagenette2-160.tgz",
        hashlib.md5(archive.read_bytes()).hexdigest(),
        archive.stat().st_size,
    )
    yield folder, replace(NETTE, archives={"160": known}, images={"train": 30, "validation": 20})
    server.shutdown()


def refused(*arguments, words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        prepare_imagenette(*arguments)
    assert "\n" not in str(error.value)


def test_from_the_web(tmp_path, tiny):
    _, facts = tiny
    manifest = prepare_imagenette(tmp_path, facts, "160")
    assert (manifest.name, manifest.task, manifest.source) == ("imagenette", "Imagenette", facts.archives["160"].url)
    assert manifest == load_manifest(tmp_path) and manifest.classes == NETTE.classes
    assert manifest.splits["train"].per_class == (3,) * 10 and manifest.splits["validation"].per_class == (2,) * 10
    assert open_index(tmp_path)["validation"].paths[0] == b"val/n01440764/0.JPEG"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock",
        "manifest.json",
        "train",
        "train.index.npz",
        "val",
        "validation.index.npz",
    ]


def test_an_archive_and_folders_give_the_same(tmp_path, tiny):
    folder, facts = tiny
    first = prepare_imagenette(tmp_path / "web", facts, "160")
    with tarfile.open(tmp_path / "plain.tar", "w") as tar:
        for split in ("train", "val"):
            tar.add(folder / "imagenette2-160" / split, split)
    for source in (folder / "imagenette2-160.tgz", tmp_path / "plain.tar", folder / "imagenette2-160", folder):
        root = tmp_path / f"from {source.name}"
        manifest = prepare_imagenette(root, facts, "160", str(source))
        assert (manifest.sha256, manifest.source) == (first.sha256, "files of the user")
    assert (folder / "imagenette2-160" / "train").is_dir()  # copied, not moved


def test_a_second_call_needs_no_source_and_looks_at_the_files(tmp_path, tiny):
    folder, facts = tiny
    root = tmp_path / "root"
    first = prepare_imagenette(root, facts, "160")
    gone = replace(
        facts,
        archives={
            "160": replace(facts.archives["160"], md5="0" * 32),
            "320": replace(facts.archives["160"], url="http://127.0.0.1:9/"),
        },
    )
    assert prepare_imagenette(root, gone, "160") == first
    refused(root, gone, "320", words=r"holds imagenette from .*160\.tgz, not from")
    refused(root, facts, "160", str(folder), words="not from files of the user")
    (root / "train" / "n01440764" / "0.JPEG").unlink()
    refused(root, facts, "160", words=r"0\.JPEG is missing")


def test_another_number_of_images_is_refused_and_leaves_nothing(tmp_path, tiny):
    folder, _ = tiny
    refused(tmp_path / "root", NETTE, "160", str(folder), words=r"30 \+ 20 images, imagenette has 9,469 \+ 3,925")
    assert not (tmp_path / "root").exists()


def test_other_classes_are_refused(tmp_path, tiny):
    folder, facts = tiny
    facts = replace(KNOWN["imagewoof"], images=facts.images)
    archive = str(folder / "imagenette2-160.tgz")
    refused(tmp_path / "root", facts, "160", archive, words=r"not the classes of imagewoof \(20 differ: n01440764, ")
    assert not (tmp_path / "root").exists()


def test_a_wrong_checksum_is_refused(tmp_path, tiny):
    facts = replace(tiny[1], archives={"160": replace(tiny[1].archives["160"], md5="0" * 32)})
    refused(tmp_path / "root", facts, "160", words="md5 is")
    assert not (tmp_path / "root").exists()


def test_no_server(tmp_path, tiny):
    facts = replace(tiny[1], archives={"160": Archive("http://127.0.0.1:9/a.tgz", "0" * 32, 1)})
    refused(tmp_path / "root", facts, "160", words="no download .* --source")


def test_a_disk_that_is_too_small_is_told_first(tmp_path, tiny):
    facts = replace(tiny[1], archives={"160": replace(tiny[1].archives["160"], bytes=10**18)})
    refused(tmp_path / "root", facts, "160", words=r"needs about 2000000000\.0 GB")


@pytest.mark.parametrize(
    "arguments",
    [
        ["imagenette", "{tmp}/root", "--source", "{tmp}/none"],
        ["imagewoof", "{tmp}/root", "--source", "{tmp}/file"],
        ["imagewoof", "{tmp}/root", "--source", "{tmp}"],
        ["imagenette", "{tmp}/root", "--variant", "224"],
        ["imagenette", "{tmp}/file"],
        ["imagenette", "{tmp}/tree", "--source", "{tmp}/tree"],
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys, arguments):
    (tmp_path / "file").write_text("not an archive")
    (tmp_path / "tree" / "train" / "a").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    assert main([text.format(tmp=tmp_path) for text in arguments]) == 2
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]) == 1
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != ".lock"] == before


def test_images_that_are_there_already_are_left_alone(tmp_path, tiny):
    make_tree(tmp_path)
    refused(tmp_path, tiny[1], "160", words=f"To use these images: python -m data_prep adopt {tmp_path}")
    assert len(list(tmp_path.rglob("*.JPEG"))) == 15


PREPARE = """
import sys
from dataclasses import replace
from data_prep.sources.imagenette import KNOWN, prepare_imagenette
facts = replace(KNOWN["imagenette"], images={"train": 30, "validation": 20})
prepare_imagenette(sys.argv[1], facts, "160", sys.argv[2])
"""


KILLS = [
    pytest.param(name, marks=pytest.mark.slow) for name in (".partial", "train", "train.index.npz", "manifest.json")
]


@pytest.mark.parametrize("sign", [".partial/unpacked/val", *KILLS])
def test_kill_leaves_no_dataset_and_a_rerun_completes(tmp_path, tiny, sign):
    folder, facts = tiny
    root = tmp_path / "root"
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE, str(root), str(folder / "imagenette2-160")],
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
    )
    while not (root / sign).exists() and process.poll() is None:
        time.sleep(0.0002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = prepare_imagenette(root, facts, "160", str(folder / "imagenette2-160"))
    assert again.splits["train"].images == 30 and len(list(root.rglob("*.JPEG"))) == 50
    assert not (root / ".partial").exists()


def test_what_is_known_beforehand():
    for facts, total in ((NETTE, 13_394), (KNOWN["imagewoof"], 12_954)):
        assert len(set(facts.classes)) == 10 and list(facts.classes) == sorted(facts.classes)
        assert sum(facts.images.values()) == total and set(facts.archives) == {"full", "320", "160"}
        assert all(len(archive.md5) == 32 for archive in facts.archives.values())


def test_a_remake_of_a_damaged_index_is_adopt(tmp_path, tiny):
    folder, facts = tiny
    prepare_imagenette(tmp_path / "root", facts, "160", str(folder))
    shutil.copy(tmp_path / "root" / "train.index.npz", tmp_path / "root" / "validation.index.npz")
    with pytest.raises(DataError, match=r"adopt .*root --again"):
        open_index(tmp_path / "root")
    assert main(["adopt", str(tmp_path / "root"), "--again"]) == 0
    assert load_manifest(tmp_path / "root").name == "imagenette"
