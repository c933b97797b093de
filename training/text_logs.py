"""The three text files of the 2018 code (its formats: README, "Log files"): event.log, verbose.log, debug.log."""

import logging
import sys
from pathlib import Path

FILES = {"event.log": logging.WARNING, "verbose.log": logging.INFO, "debug.log": logging.DEBUG}


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
        for handler in list(self.logger.handlers):
            handler.close()
            self.logger.removeHandler(handler)
