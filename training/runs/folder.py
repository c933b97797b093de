"""The folder of one run: made, numbered, locked, and found again."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_prep.files import MANIFEST
from data_prep.formats.file_names import printable
from dawn import read_events
from dawn.commandline import DISK_FULL, quoted
from dawn.runlog.run import LOG_NAME as LOG
from training.config.config import Config
from training.errors import ConfigError

SPACE_BYTES = 100 * 2**20  # refuse to start with less free disk than this
LOCK = "run.lock"
TRIES = 10  # to take a lock that others remove
RESUMABLE = ("preempted", "crashed")


@contextmanager
def open_folder(config: Config) -> Iterator[Path]:
    """The run folder, made if new, locked against a second run. Raises: ConfigError."""
    folder = Path(config.logdir) if config.logdir else next_folder(Path("runs"), config.recipe or "run")
    check_name(folder)
    with locked(folder, config.data, resume=config.resume):
        check_contents(folder, config.resume)
        yield folder


def check_path(folder: Path, config: Config) -> None:
    """Raises: ConfigError for a place or a name that no run folder may have. Looks into no folder of a run."""
    check_name(folder)
    check_place(folder, config.data, as_named(folder, config.resume))


def as_named(folder: Path, resume: str) -> str:
    """For messages: `--resume RUN` where that flag has named the folder, else `--logdir RUN`."""
    place = Path(resume).resolve()
    is_resumed = bool(resume) and folder.resolve() in (place, *place.parents)  # a checkpoint lies two folders below
    return f"--{'resume' if is_resumed else 'logdir'} {folder}"


@contextmanager
def locked(folder: Path, data: str, log: str = LOG, resume: str = "") -> Iterator[None]:
    """`folder`, made if new, is this process's alone inside. A start that fails before its first line in `log` leaves
    nothing behind. `resume`: what --resume names. Raises: ConfigError, also for a folder inside the dataset `data` or
    any other."""
    name = as_named(folder, resume)
    check_place(folder, data, name)
    try:
        lock, made = held_lock(folder, name)
    except OSError as error:
        advice = "Make it writable" if resume else "Name another folder"
        raise ConfigError(f"{name}: cannot write there ({error.strerror}). {advice}") from None
    try:
        with left_as_it_was(folder, made, log):
            yield
    finally:
        os.close(lock)


def held_lock(folder: Path, name: str) -> tuple[int, set[str]]:
    """The lock of `folder`, and what was made for it: LOCK, and "" for the folder itself. Another start may remove both
    between our steps, as it fails: then they are made again. Raises: OSError; ConfigError when a run has the lock."""
    made: set[str] = set()
    for tries_left in reversed(range(TRIES)):
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            made.add("")
        try:
            lock, is_new = opened_lock(folder / LOCK)
        except FileNotFoundError:
            if tries_left:
                continue
            raise
        take_lock(lock, name)
        if os.fstat(lock).st_nlink:
            return lock, made | ({LOCK} if is_new else set())
        os.close(lock)
    raise ConfigError(f"{name}: another run begins and ends there. Name another folder")


def opened_lock(path: Path) -> tuple[int, bool]:
    """And whether it was made."""
    try:
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644), True
    except FileExistsError:
        return os.open(path, os.O_RDWR), False


def check_place(folder: Path, data: str, name: str) -> None:
    """Raises: ConfigError for a folder that is a dataset or lies inside one: its files would count as images. `name`:
    of the folder, for messages."""
    place, dataset = folder.resolve(), Path(data).resolve()
    found = next((p for p in (place, *place.parents) if p == dataset or (p / MANIFEST).exists()), None)
    if found:
        what = "is a dataset" if found == place else f"lies inside the dataset {found}"
        raise ConfigError(f"{name}: {what}. Name another folder")


def check_name(folder: Path) -> None:
    """Raises: ConfigError for a name that is not UTF-8: TensorBoard opens its files by such a name alone, and the text
    logs cannot hold another."""
    try:
        fits = str(folder).encode() == os.fsencode(folder)
    except UnicodeEncodeError:  # bytes that are no text
        fits = False
    if not fits:
        raise ConfigError(
            f"--logdir {printable(folder)}: the name is not UTF-8, so TensorBoard and the text logs cannot write it. "
            "Name another folder"
        )


@contextmanager
def left_as_it_was(folder: Path, made: set[str], log: str) -> Iterator[None]:
    """Removes what a start has made in `folder` that fails before its first line in `log`. The lock is held, so that
    what came before it is of others; `made`: see held_lock. The lock goes last: another start waits for it."""
    before = set(os.listdir(folder)) - made
    try:
        yield
    except BaseException:
        if folder.is_dir() and not begun(folder, log):
            for path in sorted(folder.iterdir(), key=lambda path: path.name == LOCK):
                if path.name not in before:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            if "" in made:
                with suppress(OSError):  # another start is in it already
                    folder.rmdir()
        raise


def begun(folder: Path, log: str = LOG) -> bool:
    """Whether a run has written its first line there."""
    try:
        with open(folder / log, "rb") as file:
            return file.readline().endswith(b"\n")
    except FileNotFoundError:
        return False


@contextmanager
def disk_errors(folder: str | Path) -> Iterator[None]:
    """A full disk as one line, wherever in the run it shows."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        go_on = f"The checkpoint before is whole: free some space and go on with --resume {quoted(folder)}"
        raise ConfigError(
            f"{error.filename or folder}: cannot write there ({error.strerror}). "
            + (go_on if Path(folder, "checkpoints").exists() else "Free some space, or name another folder")
        ) from error


def take_lock(lock: int, name: str) -> None:
    """The system drops the lock when its process dies, so a killed run leaves none behind. `name`: for messages."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(lock, 200).decode(errors="replace").strip()
        os.close(lock)
        advice = "Wait until it has ended" if name.startswith("--resume") else "Name another folder"
        raise ConfigError(f"{name}: another run ({owner}) writes there. {advice}") from None
    os.truncate(lock, 0)
    os.write(lock, f"process {os.getpid()}\n".encode())


def check_contents(folder: Path, resume: str) -> None:
    if begun(folder) and not resume:
        raise ConfigError(
            f"--logdir {folder}: holds another run. Go on with it: --resume {quoted(folder)}; or name another folder"
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
            f"{as_named(folder, resume)}: only {free / 2**20:.0f} MiB of disk are free, "
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
    unfinished = bool(folders) and begun(folders[-1]) and ending(folders[-1]) in ("", *RESUMABLE)
    return folders[-1] if unfinished and any((folders[-1] / "checkpoints").glob("*.pt")) else None
