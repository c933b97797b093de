"""Everything a run writes down while it trains: run.jsonl first, then the views of it (text logs, TensorBoard, the
console)."""

import time
from pathlib import Path
from typing import Any

from dawn import RunLog
from phases import DataPhase
from training.console import EpochTable, images_per_second
from training.device import Env
from training.evaluate import Counts
from training.run_folder import LOG
from training.scalars import Scalars, memory
from training.text_logs import TextLogs


class Logbook:
    """Rank 0's; `attempt` counts the starts of the run from 0."""

    def __init__(self, folder: Path, attempt: int, data: str, env: Env, tensorboard: bool, images_seen: int) -> None:
        self.attempt, self.data, self.env = attempt, data, env
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
        self.text.close()
        self.scalars.close()

    def say(self, text: str) -> None:
        self.table.say(text)
        self.text.verbose(text)

    def start(self, fields: dict[str, Any]) -> None:
        self.log.write("start", self.attempt, **fields)
        self.text.debug(fields)
        self.scalars.write(0, {"first": time.time(), "sizes/world": self.env.world_size})

    def data_phase(self, phase: DataPhase, epoch: int, images_seen: int, dropped: int) -> None:
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

    def epoch(self, row: dict[str, Any], counts: Counts | None) -> None:
        """An epoch line: `row` has its fields but for event and attempt."""
        self.log.write("epoch", self.attempt, **row)
        self.table.epoch(row)
        seen, clock = row["images_seen"], row["clock"]
        self.scalars.write(seen, {"epoch": row["epoch"], "losses/epoch_xent": row["train_loss"]})
        if counts:
            top1, top5 = counts.percent("top1"), counts.percent("top5")
            self.scalars.write(
                seen, {"losses/test_1": top1, "losses/test_5": top5, "times/eval_sec": row["seconds"]["eval"]}
            )
            self.text.verbose(
                f"Test:  [{row['epoch']}]\tTime {row['seconds']['eval']:.3f}\tAcc@1 {top1:.3f}\tAcc@5 {top5:.3f}\t"
                f"{images_per_second(row):.0f} images/s"
            )
            self.text.epoch(row["epoch"], clock["total"] / 3600, top1, top5)
        self.scalars.flush()

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

    say = start = learning_rate = step = progress = epoch = stop = crash = ignore


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
