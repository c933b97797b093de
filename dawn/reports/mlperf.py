"""A run as an MLPerf training log: `:::MLLOG` lines of the mlperf-logging package, open division, benchmark resnet.

The rules are MLPerf 4.0's, the last round with ResNet: its checker is
`python -m mlperf_logging.compliance_checker --ruleset 4.0.0 FILE`. The log ends at the first evaluation at or above
75.90 % top-1, whatever the run's own target was. Times are the run's own clock laid on the wall time of its start.
"""

import io
import logging
import re
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from dawn.runlog.records import Row, device_count
from dawn.runlog.run import Run
from dawn.runlog.writer import RunError
from dawn.tables import plain

TARGET = 75.9  # percent top-1 on the 50,000 validation images
METRIC = "top1"
COLD, WARM = re.compile("cold", re.IGNORECASE), re.compile("warm", re.IGNORECASE)  # how page_cache begins


class Submission(NamedTuple):
    """What MLPerf asks for and no log knows. platform: default is the hardware of the log."""

    org: str
    status: str = "onprem"
    platform: str | None = None
    cache_cleared: bool = False  # the user says that the page cache was dropped before the run


def mlperf_log(run: Run, submission: Submission) -> str:
    """The lines. RunError for a run that MLPerf has no place for, and where the package is missing."""
    _refuse(run, submission)
    lines = Lines(run)
    _header(lines, run, submission)
    _hyperparameters(lines, run)
    lines.interval_end("init_stop", 0.0)
    lines.interval_start("run_start", 0.0)
    rows, hit = _rows(run)
    end = 0.0
    for row in rows:
        _epoch(lines, row, end)
        end = row.clock["total"]
    status = "success" if hit else "aborted"
    lines.interval_end("run_stop", end, status=status, epoch_num=rows[-1].until)
    return lines.text()


def _refuse(run: Run, submission: Submission) -> None:
    start = run.start
    if start.task != "ImageNet":
        raise RunError(f"{run.path}: the task is {start.task!r:.60}. MLPerf's resnet is ImageNet; there is no other.")
    if run.resumes:
        raise RunError(f"{run.path}: the run was resumed. MLPerf's clock may not pause; log an unbroken run.")
    if start.trials:
        raise RunError(f"{run.path}: a trial: {start.trials[0]}. Log a whole run.")
    if not submission.org.strip():
        raise RunError("--org is empty. Name the organisation that submits.")
    if submission.cache_cleared and WARM.match(start.page_cache):
        raise RunError(f"--cache-cleared: the log says that the page cache was {start.page_cache!r:.80}. Leave it out.")


def cache_was_cleared(run: Run, submission: Submission) -> bool:
    return submission.cache_cleared or bool(COLD.match(run.start.page_cache))


def _rows(run: Run) -> tuple[tuple[Row, ...], bool]:
    """The epochs up to the target, and whether it was reached; else those up to the last evaluation."""
    hit = run.hit(METRIC, TARGET)
    last = hit or run.evaluations[-1]
    return tuple(row for row in run.rows if row.epoch <= last.epoch), hit is not None


def _header(lines: "Lines", run: Run, submission: Submission) -> None:
    start = run.start
    begin = -sum(start.setup_seconds.values())
    if cache_was_cleared(run, submission):  # never otherwise: the line says that it was done
        lines.event("cache_clear", True, begin)
    lines.interval_start("init_start", begin)
    platform = submission.platform or f"{device_count(start.hardware)}x{start.hardware['name']}"
    for name, value in (
        ("benchmark", "resnet"),
        ("org", submission.org),
        ("division", "open"),
        ("status", submission.status),
        ("platform", platform),
    ):
        lines.event(f"submission_{name}", value, begin)


def _hyperparameters(lines: "Lines", run: Run) -> None:
    start, rows, optimizer = run.start, run.rows, run.start.optimizer
    values = {
        "seed": start.seed,
        "train_samples": start.dataset.get("train_images", rows[0].images),
        "eval_samples": run.evaluations[0].validation.images,
        "gradient_accumulation_steps": 1,
        "opt_name": optimizer["name"],
        "opt_base_learning_rate": max(max(row.lr) for row in rows),
        "opt_end_learning_rate": rows[-1].lr[1],
    }
    if optimizer.get("weight_decay") is not None:
        values["opt_weight_decay"] = optimizer["weight_decay"]
    for name, value in values.items():
        lines.event(name, value, 0.0)
    batches = list(dict.fromkeys(row.global_batch_size for row in rows))
    lines.event("global_batch_size", batches[0], 0.0, all_batch_sizes=batches, model=start.model, run_id=start.run_id)


def _epoch(lines: "Lines", row: Row, begin: float) -> None:
    """`begin`: seconds on T_total at which the epoch before ended. Epochs count from 1."""
    number = {"epoch_num": row.until}
    trained = row.clock["total"] - row.seconds["eval"]
    lines.interval_start("epoch_start", begin, image_size=row.size, global_batch_size=row.global_batch_size, **number)
    lines.interval_end("epoch_stop", trained, **number)
    if row.validation:
        lines.interval_start("eval_start", trained, **number)
        lines.event(
            "eval_accuracy", row.validation.correct(METRIC) / row.validation.images, row.clock["total"], **number
        )
        lines.interval_end("eval_stop", row.clock["total"], **number)


class Lines:
    """Collects the lines of mlperf-logging's own logger; seconds count from the start of the run."""

    def __init__(self, run: Run):
        try:
            from mlperf_logging.mllog.mllog import MLLogger
        except ImportError:
            raise RunError("the package mlperf-logging is missing. Install it: pip install mlperf-logging") from None
        self._start_ms = round(datetime.fromisoformat(run.start.utc).timestamp() * 1000)
        self._stream = io.StringIO()
        logger = logging.Logger("mlperf", logging.INFO)  # not in the registry of logging: nobody else's lines mix in
        logger.addHandler(logging.StreamHandler(self._stream))
        root = re.escape(str(Path(__file__).resolve().parents[2]))  # "file" in the lines is relative to it
        self._mllogger = MLLogger(logger, root_dir=root, default_stack_offset=2)  # "lineno": who called one of these

    def event(self, key: str, value: Any, seconds: float, **metadata: Any) -> None:
        metadata = {name: _harmless(what) for name, what in metadata.items()}
        self._mllogger.event(key, _harmless(value), metadata, time_ms=self._ms(seconds))

    def interval_start(self, key: str, seconds: float, **metadata: Any) -> None:
        self._mllogger.start(key, None, metadata, time_ms=self._ms(seconds))

    def interval_end(self, key: str, seconds: float, **metadata: Any) -> None:
        self._mllogger.end(key, None, metadata, time_ms=self._ms(seconds))

    def text(self) -> str:
        return self._stream.getvalue()

    def _ms(self, seconds: float) -> int:
        return self._start_ms + round(seconds * 1000)


def _harmless(value: Any) -> Any:
    """A text without the mark at which parsers cut a line (and without control characters)."""
    return plain(value, 200).replace(":::", ": : :") if isinstance(value, str) else value
