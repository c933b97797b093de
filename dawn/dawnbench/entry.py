"""entry.json: the description of a run that DAWNBench asks for, taken from what was executed, not from the plan; and
the files of a pull request with it.

A run that cannot be handed in gets entry.draft.json instead, which says why in its first field.
"""

import hashlib
import json
import math
import re
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

from dawn.dawnbench.tasks import METRIC_NAMES, TASKS, target_text, task_of
from dawn.dawnbench.tsv import tsv
from dawn.files import write_atomic
from dawn.runlog.records import CLOCKS, NEWER_CLOCKS, Row, device_count, hardware_name
from dawn.runlog.run import Run, divided, spans
from dawn.runlog.writer import RunError

COMPLETE = ("target_reached", "finished", "finished_without_target")
NAMES = {False: "entry.json", True: "entry.draft.json"}  # by: is it a draft?
LONGEST_PART = 48  # characters of each of the four parts of a file name
OTHERS = re.compile(r"[^A-Za-z0-9.+]+")
LETTER_NAME = re.compile(  # of Unicode, where it says how a letter is written in ASCII
    r"(?:LATIN (?P<case>SMALL |CAPITAL )?(?:LETTER |LIGATURE )(?:DOTLESS |SHARP )?|HANGUL SYLLABLE |"
    r"(?:HIRAGANA|KATAKANA) LETTER (?:SMALL )?)(?P<letter>[A-Z]{1,7})(?: WITH [A-Z -]+)?"
)
DIGEST = 8  # hexadecimal digits
FRAMEWORK = "pytorch"


def entry(
    run: Run,
    author: str | None = None,
    author_email: str | None = None,
    cost_per_hour: float | None = None,
    code_url: str | None = None,
    clock: str = "dawn",
) -> dict[str, Any]:
    """The fields in the order of the file; `draft` comes first, and only where there is a reason for it.

    clock: which one the hours of the TSV are of (records.CLOCKS). RunError for an impossible cost, and for a run
    without an evaluation.
    """
    if cost_per_hour is not None and not (math.isfinite(cost_per_hour) and cost_per_hour >= 0):
        raise RunError(f"cost per hour is {cost_per_hour}. Give US dollars per hour, 0 or more.")
    reasons = draft_reasons(run, author, author_email)
    fields = {
        "version": "v1.0",
        "author": author or "",
        "authorEmail": author_email or "",
        "framework": f"PyTorch {run.latest.versions['torch']}",
        "model": run.start.model,
        "hardware": _hardware(run),
        "timestamp": run.start.utc[:10],
        "logFilename": run.path.name,
    }
    optional = {"codeURL": code_url, "costPerHour": cost_per_hour}
    fields |= {name: value for name, value in optional.items() if value is not None}
    return ({"draft": reasons} if reasons else {}) | fields | {"misc": _misc(run, clock)}


def entry_text(fields: dict[str, Any]) -> str:
    return json.dumps(fields, indent=2, allow_nan=False) + "\n"


def draft_reasons(run: Run, author: str | None, author_email: str | None) -> list[str]:
    """Why this is no DAWNBench entry; empty if it is one."""
    task, start = task_of(run.start.task), run.start
    checks = [
        (not (author or "").strip(), "author unknown"),
        (not (author_email or "").strip(), "author's e-mail address unknown"),
        (run.stop is None, "the run is incomplete: its log has no stop line"),
        (run.stop and run.stop.outcome not in COMPLETE, f"the run is incomplete: {run.stop and run.stop.outcome}"),
        *((True, f"a trial: {reason}") for reason in start.trials),
        (len({a.config_hash for a in run.attempts}) > 1, "the attempts ran with different configurations"),
    ]
    if task.target is None:
        checks.append((True, f"{start.task!r} is no DAWNBench task"))
        return [reason for wrong, reason in checks if wrong]
    images = max(row.validation.images for row in run.evaluations)
    missed = run.hit(task.metric, task.target) is None
    asked_less = missed and (start.metric, start.target) != (task.metric, task.target)
    wanted, own = target_text(task.metric, task.target), _own_target(run)
    checks += [
        (missed, f"target {wanted} not reached"),
        (asked_less, f"the task's target in DAWNBench is {wanted}, this run's was {own}"),
        (images != task.images, f"validated on {images} images, the task has {task.images}"),
    ]
    return [reason for wrong, reason in checks if wrong]


def _own_target(run: Run) -> str:
    return "none" if run.start.target is None else target_text(run.start.metric, run.start.target)


def _hardware(run: Run) -> str:
    """One text; where a later attempt ran on something else, all of them in order."""
    texts = [_hardware_text(attempt.hardware) for attempt in run.attempts]
    return "; then ".join(text for i, text in enumerate(texts) if i == 0 or text != texts[i - 1])


def _hardware_text(hardware: dict[str, Any]) -> str:
    cores, memory, machines = (hardware.get(name) for name in ("cores", "memory_gib", "machines"))
    details = [f"{cores} CPU cores"] * (cores is not None) + [f"{memory} GiB memory"] * (memory is not None)
    many = type(machines) is int and machines > 1
    details = [f"{machines} machines with {' and '.join(details)} each"] if many and details else details
    return ", ".join([hardware_name(hardware), *details])


def _misc(run: Run, clock: str) -> dict[str, Any]:
    results = _results(run)  # first: it refuses a run without an evaluation, which may have no epoch either
    return _executed(run) | results | _circumstances(run, clock)


def _executed(run: Run) -> dict[str, Any]:
    """Schedule, sizes and batches of the epochs that were trained; `epochs` count from 1 as in the TSV."""
    rows, optimizer = run.rows, run.start.optimizer
    parts = divided(rows)
    batches = spans(parts, lambda row: (row.batch_size, row.global_batch_size))
    momentum = [{"momentum": list(span.value), "epochs": span.epochs} for span in spans(rows, lambda r: r.momentum)]
    first, last = rows[0].momentum
    return {
        "epochs": len(rows) if rows[-1].end is None else round(rows[-1].end - run.start.first_epoch, 9),
        "imageSize": [{"image_size": s.value, "epochs": s.epochs} for s in spans(parts, lambda row: row.size)],
        "batchSize": [{"batch_size": s.value[0], "global_batch_size": s.value[1], "epochs": s.epochs} for s in batches],
        "schedule": [{"learning_rate": list(s.value), "epochs": s.epochs} for s in spans(rows, lambda row: row.lr)],
        "optimizer": optimizer["name"],
        "momentum": first if len(momentum) == 1 and first == last else momentum,
        "weightDecay": optimizer.get("weight_decay"),
        "nesterov": optimizer.get("nesterov"),
        "parameterGroups": optimizer.get("groups"),
    }


def _results(run: Run) -> dict[str, Any]:
    task, start, last = task_of(run.start.task), run.start, run.evaluations[-1]
    validations = [row.validation for row in run.evaluations]
    return {
        "outcome": run.stop.outcome if run.stop else None,
        "runTarget": _hit(run, start.metric, start.target),
        "dawnbenchTarget": _hit(run, task.metric, task.target),
        "lastEvaluation": _reached(run, last),
        "validationImages": sorted({v.images for v in validations}),
        "validationSize": sorted({v.size for v in validations}),
        "weightsEvaluated": sorted({v.weights for v in validations}),
        "testTimeAugmentation": sorted({v.tta for v in validations}),
        "evaluations": len(validations),
    }


def _hit(run: Run, metric: str | None, target: float | None) -> dict[str, Any] | None:
    """The target and where it was first reached (None: nowhere)."""
    if metric is None or target is None:
        return None
    row = run.hit(metric, target)
    return {"metric": METRIC_NAMES[metric], "percent": target, "reached": _reached(run, row) if row else None}


def _reached(run: Run, row: Row) -> dict[str, Any]:
    # The entry of an older log stays as it is: without the clock that the log does not tell.
    names = [clock for clock in CLOCKS if run.tells_prepare or clock not in NEWER_CLOCKS]
    clocks = {f"T_{clock}": run.hours(row, clock) for clock in names}
    correct = {"correctTop1": row.validation.correct1, "correctTop5": row.validation.correct5}
    return {"epoch": row.until, **correct, "images": row.validation.images, "hours": clocks}


def _circumstances(run: Run, clock: str) -> dict[str, Any]:
    start, latest = run.start, run.latest
    return {
        "clockDefinition": f"hours in the TSV are T_{clock}. {start.clock_definition}",
        "pageCache": start.page_cache,
        "compileCache": start.compile_cache,
        "recipe": start.recipe,
        "seed": start.seed,
        "precision": start.precision,
        "worldSize": start.world_size,
        "dataset": start.dataset,
        "hardware": latest.hardware,
        "versions": latest.versions,
        "commit": latest.commit,
        "uncommittedChanges": latest.dirty,
        "configHash": start.config_hash,
        "runId": start.run_id,
        "attempts": len(run.attempts),
        "resumed": [_resume(attempt) for attempt in run.resumes],
    }


def _resume(attempt: Any) -> dict[str, Any]:
    """`epoch` counts from 1; a null resumed epoch means that the attempt began again from nothing."""
    at = attempt.resumed_from
    if at is None:
        return {"attempt": attempt.attempt, "epoch": None}
    seconds = {"lostSeconds": at.lost_seconds, "gapSeconds": at.gap_seconds}
    return {"attempt": attempt.attempt, "epoch": at.epoch + 1, "step": at.step, **seconds}


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
    same bytes, and replace only files of the same run. RunError where the system refuses."""
    fields, table = submission_fields(run, details), tsv(run, details.clock).encode()
    draft = "draft" in fields
    place = folder if draft else folder / run.start.task / "train"
    _make(folder, place)
    description = _own_file(run, place, file_stem(run, details), ".draft.json" if draft else ".json")
    return [
        write_atomic(description, entry_text(fields).encode()),
        write_atomic(description.with_suffix(".tsv"), table),
    ]


def _own_file(run: Run, place: Path, stem: str, suffix: str) -> Path:
    """The name that this run's entry has there, else the first that is free: with the seed, then with a digest of the
    run behind it where another run has the one before."""
    stems = (stem, f"{stem}-seed{run.start.seed}", f"{stem}-{_digest(run.start.run_id)}")
    paths = [place / f"{name}{suffix}" for name in stems]
    own = next((path for path in paths if _run_id(path) == run.start.run_id), None)
    free = (path for path in paths if not path.exists() and not path.with_suffix(".tsv").exists())
    found = own or next(free, None)
    if found is None:
        raise RunError(f"--out {place}: other entries have the name {paths[-1].name} and those without its end. "
                       "Give another --hardware-tag, or remove one.")  # fmt: skip
    return found


def _run_id(path: Path) -> str | None:
    """Of the run that an entry is about; None where it does not say so, as those of other code."""
    try:
        return json.loads(path.read_text("utf-8"))["misc"]["runId"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None


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
    """In ASCII: accents dropped, Latin letters, kana and Hangul written out, every other run of characters a hyphen.
    Where a letter is lost by that or the text is cut, a digest of it stands at the end, so that two names stay two;
    `unknown` where there is no letter or digit."""
    letters = [(char, _ascii(char)) for char in unicodedata.normalize("NFC", text)]
    plain = OTHERS.sub("-", "".join(written for _, written in letters)).strip("-.")
    is_lost = any(char.isalnum() and not written for char, written in letters)
    if is_lost or len(plain) > LONGEST_PART:
        return f"{plain[: LONGEST_PART - DIGEST - 1].strip('-.')}-{_digest(text)}".strip("-")
    return plain or "unknown"


def _ascii(char: str) -> str:
    """As `e` for an e with an accent, `o` for an o with a stroke, `ka` for the kana; "" for a letter
    that has no such name in Unicode; a space for other characters."""
    plain = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    if plain or not char.isalnum():
        return plain or " "
    found = LETTER_NAME.fullmatch(unicodedata.name(char, ""))
    if found is None:
        return ""
    return found["letter"].capitalize() if found["case"] == "CAPITAL " else found["letter"].lower()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:DIGEST]


def _make(folder: Path, place: Path) -> None:
    if not folder.is_dir():
        raise RunError(f"--out {folder}: no such folder. Make it, or name a clone of dawn-bench-entries.")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"--out {place}: cannot be made ({error.strerror}). Choose another place with --out.") from None
