"""The folder of one run: made, numbered, locked, and found again."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.files import MANIFEST
from dawn import read_events
from dawn.runlog.run import LOG_NAME as LOG
from training.config.config import Config
from training.errors import DISK_FULL, ConfigError

SPACE_BYTES = 100 * 2**20  # refuse to start with less free disk than this
RESUMABLE = ("preempted", "crashed")


@contextmanager
def open_folder(config: Config) -> Iterator[Path]:
    """The run folder, made if new, locked against a second run. Raises: ConfigError."""
    folder = Path(config.logdir) if config.logdir else next_folder(Path("runs"), config.recipe or "run")
    with locked(folder):
        check_contents(folder, bool(config.resume))
        yield folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """`folder`, made if new, is this process's alone inside. Raises: ConfigError."""
    if (folder / MANIFEST).exists():
        raise ConfigError(f"--logdir {folder}: is a dataset. Name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "run.lock", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise ConfigError(f"--logdir {folder}: cannot write there ({error.strerror}). Name another folder") from None
    try:
        take_lock(lock, folder)
        yield
    finally:
        os.close(lock)


@contextmanager
def disk_errors(folder: str | Path) -> Iterator[None]:
    """A full disk as one line, wherever in the run it shows."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise ConfigError(
            f"{error.filename or folder}: cannot write there ({error.strerror}). The checkpoint before is whole: "
            f"free some space and go on with --resume {folder}"
        ) from error


def take_lock(lock: int, folder: Path) -> None:
    """The system drops the lock when its process dies, so a killed run leaves none behind."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(lock, 200).decode(errors="replace").strip()
        raise ConfigError(f"--logdir {folder}: another run ({owner}) writes there. Name another folder") from None
    os.truncate(lock, 0)
    os.write(lock, f"process {os.getpid()}\n".encode())


def check_contents(folder: Path, resume: bool) -> None:
    if (folder / LOG).exists() and not resume:
        raise ConfigError(
            f"--logdir {folder}: holds another run. Go on with it: --resume {folder}; or name another folder"
        )
    if resume and not (folder / LOG).exists():
        raise ConfigError(
            f"--resume {folder}: no {LOG} there, so no run to go on with. Start a new run without --resume"
        )
    if resume and (ended := ending(folder)) not in (*RESUMABLE, ""):
        raise ConfigError(f"--resume {folder}: that run has ended ({ended}). Start a new run without --resume")
    free = shutil.disk_usage(folder).free
    if free < SPACE_BYTES:
        raise ConfigError(
            f"--logdir {folder}: only {free / 2**20:.0f} MiB of disk are free, "
            f"a run needs {SPACE_BYTES / 2**20:.0f}. Free some"
        )


def ending(folder: Path, log: str = LOG) -> str:
    """Outcome of the run's last attempt; empty when it was cut off or still runs. Raises: RunError for a log that
    cannot be read."""
    events = read_events(folder / log)
    last = next((e for e in reversed(events) if e["event"] in ("start", "stop")), {})
    return str(last.get("outcome", "")) if last.get("event") == "stop" else ""


def next_folder(parent: Path, name: str) -> Path:
    """parent/name-001, or the first number that is free."""
    numbers = [int(p.name.rsplit("-", 1)[1]) for p in parent.glob(f"{name}-[0-9][0-9][0-9]")]
    return parent / f"{name}-{max(numbers, default=0) + 1:03d}"


def interrupted_folder(parent: Path, name: str) -> Path | None:
    """The newest run of this name, if it was interrupted and has a checkpoint to go on from."""
    folders = sorted(parent.glob(f"{name}-[0-9][0-9][0-9]"))
    unfinished = bool(folders) and (folders[-1] / LOG).exists() and ending(folders[-1]) in ("", *RESUMABLE)
    return folders[-1] if unfinished and (folders[-1] / "checkpoints" / "checkpoints.json").exists() else None
