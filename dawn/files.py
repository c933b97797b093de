"""Writing a report: the whole file or nothing."""

import os
from contextlib import suppress
from pathlib import Path

from dawn.runlog.writer import RunError

REMEDY = "Choose another place, in a folder that is there."


def write_atomic(path: Path, data: bytes) -> Path:
    """Replace `path` by `data` in one step; its folder must exist. RunError, one line, when the system refuses.

    A device or pipe (/dev/stdout) is written to, never replaced.
    """
    if path.exists() and not path.is_file():
        return write_device(path, data)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise RunError(f"{path}: cannot be written ({error.strerror}). {REMEDY}") from None
    return path


def write_device(path: Path, data: bytes) -> Path:
    try:
        path.write_bytes(data)
    except BrokenPipeError:  # whoever read it has gone, as with all other output
        pass
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}). {REMEDY}") from None
    return path


def remove(path: Path) -> None:
    """Make sure that there is no such file; RunError when the system refuses."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{path}: cannot be removed ({error.strerror}). {REMEDY}") from None
