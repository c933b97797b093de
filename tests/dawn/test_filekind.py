"""What a file really is: said for the kinds that people have in place of a log, never for the right file."""

import gzip
import json
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from dawn.filekind import wrong_kind, wrong_kind_of

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
KINDS = {
    "nothing": (b"", "empty"),
    "zeros": (bytes(5000), "zero bytes"),
    "html": (b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html>", "HTML"),
    "xml": (b'<?xml version="1.0"?><Error>', "HTML or XML"),
    "pointer": (LFS, "lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s12--ab\n", "git annex get"),
    "gzip": (gzip.compress(b"x", mtime=0), "gunzip"),
    "zip": (b"PK\x03\x04" + bytes(40), "unzip"),
    "tar": (b"name".ljust(257, b"\0") + b"ustar" + bytes(99), "tar -xf"),
    "utf-16": ("epoch\thours\n".encode("utf-16"), "iconv"),
    "utf-16 without mark": ("epoch\thours\n".encode("utf-16-be"), "iconv"),
    "pickle": (b"\x80\x04\x95" + bytes(20), "pickle"),
    "picture": (b"\x89PNG\r\n\x1a\n", "picture"),
    "macOS": (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", "macOS"),
    "tail": (b'{"a": 1}\n' + bytes(100), "ends in zero bytes"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_in_place_of_another_is_named_with_its_remedy(tmp_path, name):
    data, words = KINDS[name]
    path = tmp_path / "a log"
    path.write_bytes(data)
    text = wrong_kind(path)
    assert words in text and "\n" not in text and not text.endswith(".") and text == wrong_kind_of(data, path)


def test_the_remedy_is_quoted_for_the_shell(tmp_path):
    (tmp_path / "a b").mkdir()
    path = tmp_path / "a b" / "x.gz"
    path.write_bytes(gzip.compress(b"x", mtime=0))
    assert wrong_kind(path).endswith(f"gunzip '{path}'")
    path.write_bytes(LFS)
    assert f"git -C '{path.parent}' lfs pull" in wrong_kind(path)


def test_text_json_and_the_expected_kind_are_nothing_odd(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as file:
        file.writestr("data", "x" * 100)
    assert "unzip" in wrong_kind(tmp_path / "x.pt") and wrong_kind(tmp_path / "x.pt", "zip") == ""
    event_head = b"\x18\0\0\0\0\0\0\0\xa3\x7fK\x22"
    for data in (b"epoch\thours\n1\t2\n", json.dumps({"rün": "ü"}).encode(), event_head, b"x\0"):
        assert wrong_kind_of(data, "x") == ""


def test_a_damaged_tar_archive_is_not_called_unfinished_for_the_zeros_that_end_every_one(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as file:
        file.addfile(tarfile.TarInfo("name"))
    assert "unpack" in wrong_kind(path).lower() and wrong_kind(path, "tar") == ""


def test_what_cannot_be_opened_or_has_no_end_says_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert [wrong_kind(tmp_path / name) for name in ("none", "pipe", ".")] == ["", "", ""]
    assert wrong_kind(Path("/dev/zero")) == ""
