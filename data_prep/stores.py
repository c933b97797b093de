"""Image trees in an object store: s3://BUCKET/FOLDER, listed, read, indexed and written through fsspec and s3fs.

The endpoint and the credentials come from where botocore looks: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_PROFILE,
~/.aws, the role of the machine. An object appears whole or not at all; a manifest is put last. A store has no locks.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_prep.errors import DataError
from data_prep.files import MANIFEST, PARTIAL, file_digest, one_writer
from data_prep.formats.file_names import printable
from data_prep.formats.image_index import index_name

INSTALL = "pip install '.[s3]' in dawn-harness's folder, or pip install s3fs"
SCHEMES = ("s3", "memory")  # memory: fsspec's own, in this process only; the tests use it
BAD_FILES = "bad_files.tsv"
SMALL_FILES = (index_name("train"), index_name("validation"), BAD_FILES, MANIFEST)  # in the order of putting them
THREADS = 32  # that wait for objects at the same time, in a process
HEAD = 2**14  # bytes that hold the header of most pictures
RULE = "rule.json"  # how the copies are made that are not whole yet; see trees/shards.py
MARK = f"{PARTIAL}/{RULE}"


@dataclass(frozen=True)
class Remote:
    """A folder in a store: as much of pathlib's interface as image trees need. Every method raises DataError, in one
    line, when the store refuses."""

    url: str  # without a slash at its end

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "Remote":
        return Remote(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def is_bucket(self) -> bool:
        """A whole one: nothing can lie beside it."""
        return "/" not in self.url.partition("://")[2]

    def is_symlink(self) -> bool:
        return False

    def is_dir(self) -> bool:
        """Whether anything lies there: a store has no empty folders."""
        return bool(_entries(self))

    def entries(self) -> list["Entry"]:
        """What lies in the folder."""
        with _refusals(self.url):
            return self.all_entries()

    def all_entries(self) -> list["Entry"]:
        """As `entries`, with the store's own errors."""
        found = [(str(facts["name"]).rstrip("/").rpartition("/")[2], facts) for facts in _listed(self.url)]
        return [Entry(name, None if facts["type"] == "directory" else facts["size"]) for name, facts in found]

    def read(self, path: bytes, length: int | None = None) -> bytes:
        """An object below, or its first `length` bytes."""
        url = f"{self.url}/{os.fsdecode(path)}"
        with _refusals(url):
            return _file_system(url).cat_file(url, start=None if length is None else 0, end=length)

    def digest(self, name: str) -> str:
        """SHA-256 of an object below, which may be larger than the memory."""
        url = f"{self.url}/{name}"
        with _refusals(url), _file_system(url).open(url, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def put(self, name: str, data: bytes) -> None:
        """The object `name` below, replaced as a whole."""
        url = f"{self.url}/{name}"
        with _refusals(url):
            _file_system(url).pipe_file(url, data)

    def remove(self, name: str) -> None:
        url = f"{self.url}/{name}"
        with _refusals(url):
            _file_system(url).rm_file(url)


@dataclass(frozen=True)
class Entry:
    """Of a listing; as much of os.DirEntry's interface as scan.py needs."""

    name: str
    st_size: int | None  # bytes; None: a folder

    def is_symlink(self) -> bool:
        return False

    def is_dir(self) -> bool:
        return self.st_size is None

    def is_file(self) -> bool:
        return self.st_size is not None

    def stat(self) -> "Entry":
        return self


def is_url(text: object) -> bool:
    return "://" in str(text)


def place(root: str | os.PathLike | Remote) -> Path | Remote:
    """The folder that a command's argument names. Raises: DataError for a store that cannot be read."""
    if isinstance(root, Remote) or not is_url(root):
        return root if isinstance(root, Remote) else Path(root)
    url = str(root).rstrip("/")
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        raise DataError(f"{printable(url)}: give s3://BUCKET/FOLDER, or copy the images to a disk and give that folder")
    _file_system(url)
    return Remote(url)


def read(root: Path | Remote, path: bytes) -> bytes:
    """An image of the tree at `root`."""
    if isinstance(root, Remote):
        return root.read(path)
    with open(os.path.join(os.fsencode(root), path), "rb") as handle:
        return handle.read()


def write(root: Path | Remote, path: bytes, data: bytes, temporary: Path) -> None:
    """A picture into its place, as a whole. `temporary`: a file on the disk of `root` that nobody else writes. Raises:
    DataError for a store that refuses, OSError."""
    if isinstance(root, Remote):
        root.put(os.fsdecode(path), data)
        return
    temporary.write_bytes(data)
    os.replace(temporary, os.path.join(os.fsencode(root), path))


def file_sizes(root: Path | Remote, folders: set[bytes]) -> dict[bytes, int]:
    """Bytes of everything that lies in these folders below `root`, by path; -1 of what is no file, nothing of a folder
    that is not there. Raises: DataError for a store that refuses, OSError."""
    of_folder = partial(_remote_sizes if isinstance(root, Remote) else _local_sizes, root)
    with ThreadPoolExecutor(THREADS if isinstance(root, Remote) else 1) as pool:
        parts = zip(sorted(folders), pool.map(of_folder, sorted(folders)), strict=True)
        return {os.path.join(folder, name): size for folder, part in parts for name, size in part}


def _remote_sizes(root: Remote, folder: bytes) -> list[tuple[bytes, int]]:
    entries = _entries(root / os.fsdecode(folder))
    return [(os.fsencode(entry.name), -1 if entry.st_size is None else entry.st_size) for entry in entries]


def _local_sizes(root: Path, folder: bytes) -> list[tuple[bytes, int]]:
    where = os.path.join(os.fsencode(root), folder)
    names = os.listdir(where) if os.path.isdir(where) else []
    return [(name, _size(os.path.join(where, name))) for name in names]


def _size(path: bytes) -> int:
    """-1: no file, or gone meanwhile."""
    try:
        found = os.stat(path)
    except OSError:
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def read_heads(root: Remote, files: Sequence[tuple[bytes, int]]) -> Iterator[bytes]:
    """The first bytes of the objects (path, bytes), in order; of a small one all. Many are waited for at the same
    time."""
    with ThreadPoolExecutor(min(THREADS, len(files))) as pool:
        # A store refuses to read a part of an empty object.
        yield from pool.map(lambda file: root.read(file[0], HEAD if file[1] > HEAD else None), files)


@contextmanager
def beside(root: Path | Remote) -> Iterator[Path]:
    """A folder with what lies beside the images at `root` (index, manifest, list of bad files): `root` itself, or for
    a store a temporary one. What is changed there is put into the store at the end, the manifest last; after an error
    only the list of bad files."""
    if isinstance(root, Path):
        yield root
        return
    with TemporaryDirectory(prefix="data_prep-") as name, _mirrored(root, Path(name)):
        yield Path(name)


@contextmanager
def kept_beside(root: Path | Remote, further: Sequence[str] = ()) -> Iterator[Path]:
    """As `beside`, for copies that are being made, and with the files `further`. For a store the folder stays in the
    cache of this machine, with the records of what is made, so that the same command goes on there. Raises: DataError
    for a folder of the store that holds something else."""
    if isinstance(root, Path):
        yield root
        return
    folder = kept_folder(root)
    with one_writer(folder.parent):
        there = names_in(root)
        if not there:  # what was begun is gone
            shutil.rmtree(folder, ignore_errors=True)
        (folder / PARTIAL).mkdir(parents=True, exist_ok=True)
        is_begun = RULE in names_in(root / PARTIAL)
        if there - {BAD_FILES} and not (is_begun or there & {MANIFEST, index_name("train")}):
            raise DataError(
                f"{root}: is there already and is no copy that was begun here. Delete it, or name another place for "
                "smaller copies: resize --to"
            )
        if is_begun:  # by another machine, or by this one
            (folder / MARK).write_bytes(root.read(MARK.encode()))
        with _mirrored(root, folder, (*further, *SMALL_FILES)):
            yield folder
        if (folder / MANIFEST).exists():  # and in the store
            if RULE in names_in(root / PARTIAL):
                root.remove(MARK)
            shutil.rmtree(folder)


def disk_of(root: Path | Remote) -> Path:
    """The folder of this machine that copies at `root`, or the records of them, are written to."""
    return (kept_folder(root) if isinstance(root, Remote) else root).parent


def kept_folder(root: Remote) -> Path:
    """On this machine, for an address at an endpoint."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    address = os.environ.get("AWS_ENDPOINT_URL", "") + " " + root.url
    digest = hashlib.blake2b(address.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    return Path(cache) / "dawn-harness" / "copies" / digest / root.name


def mark(root: Path | Remote, folder: Path) -> None:
    """Tell in the store, before the first picture, how the copies are made. Raises: DataError."""
    if isinstance(root, Remote):
        root.put(MARK, (folder / MARK).read_bytes())


@contextmanager
def _mirrored(root: Remote, folder: Path, names: Sequence[str] = SMALL_FILES) -> Iterator[None]:
    """`names`: in the order of putting them."""
    before = _fetch(root, folder, names)
    try:
        yield
    except DataError as error:
        if isinstance(error.__cause__, OSError):  # of a disk of this machine
            raise
        _put_changed(root, folder, before, (BAD_FILES,))
        raise DataError(str(error).replace(str(folder), root.url)) from error
    _put_changed(root, folder, before, names)


def _fetch(root: Remote, folder: Path, names: Sequence[str]) -> dict[str, str]:
    """The files `names` into `folder`; the hashes of those in the store, by name. Copies that are whole, but whose
    manifest did not come into the store, stay as they are here."""
    found = {name: root.read(name.encode()) for name in names_in(root).intersection(names)}
    if MANIFEST in found or not (folder / MANIFEST).exists():
        for name in names:
            (folder / name).unlink(missing_ok=True)
        for name, data in found.items():
            (folder / name).write_bytes(data)
    return {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}


def names_in(root: Path | Remote) -> set[str]:
    """What lies in a folder; nothing in one that is not there."""
    if isinstance(root, Remote):
        return {entry.name for entry in _entries(root)}
    return set(os.listdir(root)) if root.is_dir() else set()


def _entries(root: Remote) -> list["Entry"]:
    """As Remote.entries; none of a folder that is not there."""
    with suppress(FileNotFoundError), _refusals(root.url, but=FileNotFoundError):
        return root.all_entries()
    return []


def _put_changed(root: Remote, folder: Path, before: dict[str, str], names: Sequence[str]) -> None:
    now = {name: file_digest(folder / name) for name in names if (folder / name).exists()}
    changed = [name for name in names if now.get(name) != before.get(name)]
    if MANIFEST in changed and MANIFEST in before:  # none is there while the index changes
        root.remove(MANIFEST)
    for name in changed:
        if name in now:
            root.put(name, (folder / name).read_bytes())
        elif name != MANIFEST:
            root.remove(name)


def _listed(url: str) -> list[dict]:
    """The entries of a folder, without the empty object that stands for the folder itself in some stores."""
    own = url.partition("://")[2].strip("/")
    found = _file_system(url).ls(url, detail=True)
    return [facts for facts in found if facts["name"].strip("/") != own]


def _file_system(url: str) -> Any:
    """fsspec's, one of each kind in a process."""
    return _opened(url.partition("://")[0])


@cache
def _opened(scheme: str) -> Any:
    try:
        import fsspec

        return fsspec.filesystem(scheme, use_listings_cache=False)
    except ImportError:
        raise DataError(f"{scheme}://: the package s3fs is not installed. Install the extra: {INSTALL}") from None


@contextmanager
def _refusals(url: str, but: type[Exception] = DataError) -> Iterator[None]:
    """Turn what a store answers into a DataError. (botocore's errors have no common base with others.)"""
    try:
        yield
    except (DataError, but):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise DataError(f"{printable(url)}: {reason}. {_remedy(error)}") from error


def _remedy(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "Check the name of the bucket and of the folder; if an image has gone, index the folder again"
    if isinstance(error, PermissionError) or "Credential" in type(error).__name__:
        return "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, and what they may do with the bucket"
    return "Check AWS_ENDPOINT_URL, the name of the bucket and the network, and run the same command again"
