"""Everything a run writes down while it trains: run.jsonl first, then the views of it (text logs, TensorBoard, the
console)."""

import contextlib
import logging
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from dawn import RunLog
from dawn.runlog.records import Validation
from dawn.runlog.run import LOG_NAME as LOG
from phases import DataPhase
from training.distributed.env import Env
from training.logs.console import EpochTable, images_per_second
from training.logs.metrics import INSPECTION, View
from training.logs.tensorboard import Scalars, memory

FILES = {"event.log": logging.WARNING, "verbose.log": logging.INFO, "debug.log": logging.DEBUG}


class Logbook:
    """Rank 0's; `attempt` counts the starts of the run from 0."""

    def __init__(self, folder: Path, attempt: int, data: str, env: Env, tensorboard: bool, images_seen: int) -> None:
        self.folder, self.attempt, self.data, self.env = folder, attempt, data, env
        self.log = RunLog(folder / LOG)
        self.text = TextLogs(folder, resume=attempt > 0)
        self.scalars = Scalars(folder, tensorboard, attempt, images_seen)
        self.table = EpochTable()
        self.phase: DataPhase | None = None

    def __enter__(self) -> "Logbook":
        self.table.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.table.__exit__()
        self.log.close()
        for view in (self.text, self.scalars):
            try:
                view.close()
            except OSError as failure:  # a run that has ended keeps its exit code
                self.table.say(f"{self.folder}: text logs or TensorBoard are not whole ({failure.strerror})")

    def say(self, text: str) -> None:
        self.table.say(text)
        self.text.verbose(text)

    def start(self, fields: dict[str, Any]) -> None:
        self.log.write("start", self.attempt, **fields)
        self.text.debug(fields)
        self.table.metric, self.table.target = fields["metric"], fields["target"]
        # 2018's tag for the start. Its value is a float32, good to 128 s: readers take the time of the event.
        self.scalars.write(0, {"first": time.time(), "sizes/world": self.env.world_size})

    def data_phase(self, phase: DataPhase, epoch: float, images_seen: int, dropped: int) -> None:
        """The loaders' settings from `epoch` on; writes only what changed. `dropped`: images that every epoch leaves
        out, its last partial batch."""
        before, self.phase = self.phase, phase
        if before and fields_of(phase) == fields_of(before):
            return
        facts = {"global_batch_size": phase.bs * self.env.world_size, "dropped_images": dropped}
        self.log.write("phase", self.attempt, epoch=epoch, **facts, **fields_of(phase))
        if dropped:
            self.text.verbose(f"Each epoch leaves out {dropped} training images: the last partial batch.")
        self.scalars.write(images_seen, {"sizes/batch": phase.bs, "sizes/image": phase.sz})
        if before and fields_of(phase) == fields_of(before) | {"batch_size": phase.bs}:
            self.text.batch_size(phase.bs)
        else:
            self.text.data_phase(
                phase.sz, phase.bs, f"{self.data}{phase.trndir}/train", f"{self.data}{phase.valdir}/validation"
            )

    def learning_rate(self, images_seen: int, lr: float, momentum: float) -> None:
        """First and last step of an epoch."""
        self.text.learning_rate(lr)
        self.scalars.write(images_seen, {"sizes/lr": lr, "sizes/momentum": momentum})

    def step(
        self, images_seen: int, epoch: int, step: int, steps: int, clock: dict[str, float], values: dict[str, float]
    ) -> None:
        """A logged training step; `values` by 2018 tag. The line in run.jsonl tells a resumed run how far this one
        came."""
        self.log.write("step", self.attempt, epoch=epoch, step=step, images_seen=images_seen, clock=clock, **values)
        values = values | self.scalars.traffic()
        self.scalars.write(images_seen, values | memory(self.env))
        self.text.step(epoch, step, steps, values)

    def progress(self, *state: Any) -> None:
        """See console.EpochTable.step."""
        self.table.step(*state)

    def epoch(self, row: dict[str, Any], validation: Validation | None) -> None:
        """An epoch line: `row` has its fields but for event and attempt."""
        self.log.write("epoch", self.attempt, **row)
        self.table.epoch(row)
        seen, clock = row["images_seen"], row["clock"]
        self.scalars.write(seen, {"epoch": row["epoch"], "losses/epoch_xent": row["train_loss"]})
        if validation:
            top1, top5 = validation.percent("top1"), validation.percent("top5")
            self.scalars.write(
                seen, {"losses/test_1": top1, "losses/test_5": top5, "times/eval_sec": row["seconds"]["eval"]}
            )
            self.text.verbose(
                f"Test:  [{row['epoch']}]\tTime {row['seconds']['eval']:.3f}\tAcc@1 {top1:.3f}\tAcc@5 {top5:.3f}\t"
                f"{images_per_second(row):.0f} images/s"
            )
            self.text.epoch(row["epoch"], clock["total"] / 3600, top1, top5)
        self.scalars.flush()

    def view(self, epoch: int, images_seen: int) -> View:
        """Where meters and watches show what they found."""
        return View(self.folder / INSPECTION, epoch, partial(self.scalars.write, images_seen), self.say)

    def fault(self, fault: dict[str, Any]) -> None:
        """A test's fault, before it fires."""
        self.log.write("fault", self.attempt, fault=fault)

    def crash(self, trace: str) -> None:
        self.text.debug(trace)

    def stop(self, **fields: Any) -> None:
        self.log.write("stop", self.attempt, **fields)
        self.text.event(f"Run ended: {fields['outcome']}. {fields['detail']}")


class SilentLogbook:
    """Of the other ranks: the same calls, and nothing is shown or written but an injected fault."""

    def __init__(self, folder: Path, attempt: int, rank: int) -> None:
        self.folder, self.attempt, self.rank = folder, attempt, rank
        self.phase: DataPhase | None = None

    def __enter__(self) -> "SilentLogbook":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def data_phase(self, phase: DataPhase, epoch: int, images_seen: int, dropped: int) -> None:
        self.phase = phase

    def fault(self, fault: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)  # on a machine that does not share rank 0's disk
        with RunLog(self.folder / f"rank{self.rank}.jsonl") as log:
            log.write("fault", self.attempt, fault=fault)

    def ignore(self, *values: object, **fields: object) -> None:
        pass

    say = start = learning_rate = step = progress = epoch = view = stop = crash = ignore


def fields_of(phase: DataPhase) -> dict[str, Any]:
    """The fields of a "phase" line."""
    return {
        "size": phase.sz,
        "batch_size": phase.bs,
        "trndir": phase.trndir,
        "valdir": phase.valdir,
        "rect_val": phase.rect_val,
        "val_size": phase.val_sz,
        "val_batch_size": phase.val_bs,
        "min_scale": phase.min_scale,
        "aug": phase.aug,
        "val_resize": phase.val_resize,
    }


class TextFile(logging.FileHandler):
    """A full disk ends the run with one line, from run.jsonl or a checkpoint; these files are only views."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class TextLogs:
    """`event` goes to all three files, `verbose` to two, `debug` to one."""

    def __init__(self, folder: Path, resume: bool) -> None:
        self.logger = logging.getLogger(f"dawn-harness.{folder.resolve()}")
        self.logger.setLevel(logging.DEBUG)
        self.logger.propagate = False
        for name, level in FILES.items():
            handler = TextFile(folder / name)
            handler.setLevel(level)
            handler.setFormatter(
                logging.Formatter(
                    "%(asctime)s %(filename)s:%(lineno)d %(message)s" if name == "debug.log" else "%(message)s"
                )
            )
            self.logger.addHandler(handler)
        self.event, self.verbose, self.debug = self.logger.warning, self.logger.info, self.logger.debug
        self.last_lr: float | None = None
        self.epoch_lines: list[dict[str, float]] = []  # values of the steps shown in this epoch
        self.last_step = 0
        if not resume:
            self.event("~~epoch\thours\ttop1\ttop5\n")

    def data_phase(self, size: int, batch_size: int, train_folder: str, validation_folder: str) -> None:
        self.event(
            f"Dataset changed.\nImage size: {size}\nBatch size: {batch_size}\n"
            f"Train Directory: {train_folder}\nValidation Directory: {validation_folder}"
        )

    def batch_size(self, batch_size: int) -> None:
        self.event(f"Batch size changed: {batch_size}")

    def learning_rate(self, lr: float) -> None:
        """Call it on the first and the last step of an epoch."""
        if lr != self.last_lr:
            self.event(f"Changing LR from {self.last_lr} to {lr}")
            self.last_lr = lr

    def step(self, epoch: int, step: int, steps: int, values: dict[str, float]) -> None:
        """`values` by 2018 tag; in brackets the mean over the epoch's lines so far."""
        self.epoch_lines = [*self.epoch_lines, values] if step > self.last_step else [values]
        self.last_step = step

        def number(tag: str, digits: int, unit: int = 1) -> str:
            mean = sum(line[tag] for line in self.epoch_lines) / len(self.epoch_lines)
            return f"{values[tag] / unit:.{digits}f} ({mean / unit:.{digits}f})"

        self.verbose(
            f"Epoch: [{epoch}][{step}/{steps}]\tTime {number('times/step', 3, 1000)}\t"
            f"Loss {number('losses/xent', 4)}\tAcc@1 {number('losses/train_1', 3)}\t"
            f"Acc@5 {number('losses/train_5', 3)}\tData {number('times/data', 3, 1000)}\t"
            f"BW {values['net/recv_gbit']:.3f} {values['net/transmit_gbit']:.3f}"
        )

    def epoch(self, epoch: int, hours: float, top1: float, top5: float) -> None:
        self.event(f"~~{epoch}\t{hours:.5f}\t\t{top1:.3f}\t\t{top5:.3f}\n")

    def close(self) -> None:
        with contextlib.ExitStack() as all_of_them:  # also after one that cannot
            for handler in list(self.logger.handlers):
                all_of_them.callback(handler.close)
                self.logger.removeHandler(handler)
