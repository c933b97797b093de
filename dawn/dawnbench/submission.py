"""A run as the two files of a pull request to dawn-bench-entries: TASK/train/AUTHOR_MODEL_HARDWARE_FRAMEWORK.json and
.tsv. A run that cannot be handed in gives the same two as drafts, outside of these folders."""

import re
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

from dawn.dawnbench.entry import entry, entry_text
from dawn.dawnbench.tasks import TASKS
from dawn.dawnbench.tsv import tsv
from dawn.files import write_atomic
from dawn.runlog.records import device_count
from dawn.runlog.run import Run
from dawn.runlog.writer import RunError

LONGEST_PART = 48  # characters of each of the four parts of a file name
OTHERS = re.compile(r"[^A-Za-z0-9.+]+")
FRAMEWORK = "pytorch"


class Details(NamedTuple):
    """What an entry says that no log knows. clock: of the hours in the TSV."""

    author: str | None = None
    author_email: str | None = None
    cost_per_hour: float | None = None
    code_url: str | None = None
    clock: str = "dawn"
    hardware_tag: str | None = None  # default: the name of the hardware in the log
    log_url: str | None = None


def write_submission(run: Run, folder: Path, details: Details) -> list[Path]:
    """Write JSON and TSV below `folder`, which must exist; the paths, JSON first. The same log and details give the
    same bytes. RunError where the system refuses."""
    fields, table = submission_fields(run, details), tsv(run, details.clock).encode()
    stem = file_stem(run, details)
    if "draft" in fields:
        stem, place = f"{stem}.draft", folder
    else:
        place = folder / run.start.task / "train"
    _make(folder, place)
    return [
        write_atomic(place / f"{stem}.json", entry_text(fields).encode()),
        write_atomic(place / f"{stem}.tsv", table),
    ]


def submission_fields(run: Run, details: Details) -> dict[str, Any]:
    """entry.json's, and what other entries say without being asked: commitHash, usedBlacklist."""
    fields = entry(run, *details[:5])
    fields["logFilename"] = details.log_url or fields["logFilename"]
    extra: dict[str, Any] = {"commitHash": run.latest.commit} if run.latest.commit else {}
    if run.start.task == "ImageNet":
        extra["usedBlacklist"] = {row.validation.images for row in run.evaluations} != {TASKS["ImageNet"].images}
    return fields | extra


def file_stem(run: Run, details: Details) -> str:
    """`author_model_hardware_framework` in letters that every file system and git take; never a path."""
    hardware = details.hardware_tag or hardware_tag(run.latest.hardware)
    return "_".join(safe(part) for part in (details.author or "", run.start.model, hardware, FRAMEWORK))


def hardware_tag(hardware: dict[str, Any]) -> str:
    """As in `8xNVIDIA-H100`."""
    return f"{device_count(hardware)}x{hardware['name']}"


def safe(text: str) -> str:
    """Accents dropped, every other run of characters a hyphen; `unknown` where nothing is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return OTHERS.sub("-", plain).strip("-.")[:LONGEST_PART].strip("-.") or "unknown"


def _make(folder: Path, place: Path) -> None:
    if not folder.is_dir():
        raise RunError(f"--out {folder}: no such folder. Make it, or name a clone of dawn-bench-entries.")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"--out {place}: cannot be made ({error.strerror}). Choose another place with --out.") from None
