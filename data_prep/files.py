"""Files on disk: one writer at a time, atomic writes, hashes, arrays written without holding them in memory.

Arrays are written through a file and never through a memory map: on a full disk a map kills the process
(SIGBUS), a write raises an error that can be told to the user.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from dawn.commandline import DISK_FULL

MANIFEST = "manifest.json"  # written last
PARTIAL = ".partial"  # folder inside ROOT for everything that is not finished; ours alone, removed at the end
LOCK = ".lock"
NPZ_ERRORS = (  # what NumPy raises for a damaged .npz; RuntimeError: a bit says that it is encrypted or of another form
    OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error,
)  # fmt: skip


@contextmanager
def one_writer(root: Path, wait: bool = False) -> Iterator[None]:
    """Hold the only right to write into `root` (made when missing). DataError when another process holds it, unless
    `wait`.

    When the work fails before it has put anything into a folder made here, the folder is removed again.
    """
    with disk_errors(root):
        made = not root.exists()
        root.mkdir(parents=True, exist_ok=True)
        with open(root / LOCK, "w") as handle:  # not removed from a folder that stays: that is a race
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise DataError(
                    f"{root}: another process is preparing this folder. Wait for it, or choose another folder."
                ) from None
            try:
                yield
            except BaseException:
                if made:
                    _remove_if_empty(root)
                raise


def _remove_if_empty(root: Path) -> None:
    """Remove a folder that holds nothing but our lock and an empty folder for unfinished work."""
    with suppress(OSError):
        (root / PARTIAL).rmdir()
    with suppress(OSError):  # the work itself may have removed the folder, and its error is to be told
        if [path.name for path in root.iterdir()] == [LOCK]:
            (root / LOCK).unlink()
            root.rmdir()


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turn what the operating system refuses below `root` into a one-line DataError."""
    try:
        yield
    except OSError as error:
        place = error.filename or root
        if error.errno in DISK_FULL:
            raise DataError(f"{place}: disk full. Free some space and run the same command again.") from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            raise DataError(f"{place}: a file is in the way of the dataset folder. Choose another folder.") from error
        reason = error.strerror or str(error)
        raise DataError(f"{place}: {reason}. Check that you may read and write it, or choose another place.") from error


def need_space(root: Path, needed: int) -> None:
    """Tell how many bytes will be written below `root`. DataError when there are not as many free."""
    free = shutil.disk_usage(root).free
    print(f"{root}: needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free", file=sys.stderr)
    if needed > free:
        raise DataError(
            f"{root}: needs about {needed / 1e9:.1f} GB, only {free / 1e9:.1f} GB are free. Free some "
            "space, or choose another folder."
        )


def write_atomically(path: Path, data: bytes) -> None:
    """Readers see the old file or the whole new one, also after a power cut."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as handle:
            handle.write(data)
            flush_to_disk(handle)
        os.replace(temporary, path)
    except OSError:  # a full disk: give back what the half file took
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_npy(path: Path, shape: tuple[int, ...], dtype: type, blocks: Iterable[np.ndarray]) -> None:
    """Write `blocks`, one after another along the first axis, as one .npy file of `shape`."""
    with open(path, "wb") as handle:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(handle, header)
        start = handle.tell()
        for block in blocks:
            handle.write(np.ascontiguousarray(block, dtype).data)
        assert handle.tell() - start == int(np.prod(shape)) * np.dtype(dtype).itemsize, "blocks do not fill the shape"
        flush_to_disk(handle)


def flush_to_disk(handle) -> None:
    handle.flush()
    os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames and removals inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file. The weaker algorithms are only for checksums that others have published."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
