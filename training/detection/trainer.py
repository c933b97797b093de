"""The fine-tuning of a detector: its steps, its evaluations, and the checkpoints that it resumes from."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_prep.files import write_atomically
from data_prep.formats.coco import CocoSet
from data_prep.progress import tracked
from dawn import Clock, RunLog
from training.detection.coco_map import detections, mean_average_precision
from training.detection.data import Picture, TrainBatches
from training.detection.detector import lr_factor
from training.detection.settings import DetectSettings
from training.distributed.process import StopSignal
from training.engine.checkpoint import Saver
from training.engine.precision import Precision
from training.engine.state import rng_state, set_rng_state
from training.errors import Diverged, Outcome

LOG = "detect.jsonl"
RESULT = "detect.json"
HEADER = " epoch    step         lr     loss       AP     AP50     AP75    T_total    T_train"


@dataclass
class DetectJob:
    """A run and what it works with. `done` counts the steps of the whole run, `attempt` from 0."""

    settings: DetectSettings
    dataset: CocoSet
    detector: nn.Module
    optimizer: torch.optim.Optimizer
    batches: TrainBatches
    clock: Clock
    device: torch.device
    folder: Path
    log: RunLog
    saver: Saver
    stop: StopSignal
    identity: dict[str, Any]
    attempt: int = 0
    done: int = 0
    loss_sum: float = 0.0  # of the steps since the last evaluation
    loss_steps: int = 0
    result: dict[str, Any] | None = None  # of the last evaluation

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.settings.steps or self.settings.epochs * self.batches.steps

    @property
    def position(self) -> tuple[int, int]:
        """The epoch and its next step, both from 0."""
        return divmod(self.done, self.batches.steps)

    def state_dict(self) -> dict[str, Any]:
        epoch, step = self.position
        return {
            "counters": {"epoch": epoch, "step": step},
            "done": self.done,
            "loss_sum": self.loss_sum,
            "loss_steps": self.loss_steps,
            "model": self.detector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": rng_state(self.device),
            "clock": self.clock.state_dict(),
            "result": self.result,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.detector.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.clock.load_state_dict(saved["clock"])
        for name in ("done", "loss_sum", "loss_steps", "result"):
            setattr(self, name, saved[name])
        set_rng_state(saved["rng"], self.device)


def fit_detector(job: DetectJob) -> Outcome:
    """From where the job stands to its last step and evaluation. Raises: Preempted, Diverged, DataError."""
    job.clock.start()
    print(HEADER, flush=True)
    while job.done < job.steps or evaluation_is_due(job):
        if not evaluation_is_due(job):  # a run that was stopped in an evaluation begins with it
            with job.clock.during("train"):
                train_epoch(job)
        if evaluation_is_due(job):
            with job.clock.during("eval"):
                evaluate_now(job)
        save(job)
    return Outcome.FINISHED


def evaluation_is_due(job: DetectJob) -> bool:
    """After the last step and every --eval-every epochs, unless it has been made."""
    epoch, step = job.position
    is_border = job.done == job.steps or (step == 0 and epoch > 0 and epoch % job.settings.eval_every == 0)
    return is_border and (job.result is None or job.result["step"] < job.done)


def train_epoch(job: DetectJob) -> None:
    """The steps from here to the end of the epoch, or of the run."""
    epoch, first = job.position
    last = min(job.batches.steps, first + job.steps - job.done)
    batches = iter(job.batches.epoch(epoch, first))
    title = f"epoch {epoch + 1}, steps {first + 1} to {last} of {job.batches.steps}"
    job.detector.train()
    for _ in tracked(range(first, last), title, last, first, rate="steps"):
        save_if_due(job)
        if job.stop.requested:
            preempt(job)
        with job.clock.during("data"):
            batch = next(batches)
        loss = train_step(job, batch)
        job.done, job.loss_sum, job.loss_steps = job.done + 1, job.loss_sum + loss, job.loss_steps + 1


def train_step(job: DetectJob, batch: list[Picture]) -> float:
    """The loss of the step. It is read at once: the detector itself waits for the device in every step (it has to know
    how many boxes there are). Raises: Diverged."""
    for group in job.optimizer.param_groups:
        group["lr"] = job.settings.chosen.lr * lr_factor(job.done, job.steps)
    images = [pixels.to(job.device, non_blocking=True).float() / 255 for pixels, _ in batch]
    targets = [{name: value.to(job.device) for name, value in target.items()} for _, target in batch]
    with precision(job).autocast():
        loss: Tensor = sum(job.detector(images, targets).values())
    value = float(loss.detach())
    if not abs(value) < float("inf"):
        raise Diverged(f"the loss was not finite at step {job.done + 1}. Lower the learning rate (--lr)")
    job.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    job.optimizer.step()
    return value


def precision(job: DetectJob) -> Precision:
    return Precision(job.settings.precision, job.device.type)


def evaluate_now(job: DetectJob) -> None:
    """Measure, print, log, and write the result file."""
    total = -(-len(job.dataset.val.names) // job.settings.batch_size)

    def shown(batches: Iterable) -> Iterable:
        for batch in tracked(batches, "evaluating", total):
            if job.stop.requested:
                preempt(job)
            yield batch

    arguments = job.dataset, job.settings.batch_size, job.settings.workers, precision(job), shown
    found = mean_average_precision(job.dataset, detections(job.detector, *arguments))
    readings = job.clock.snapshot()
    loss = job.loss_sum / job.loss_steps if job.loss_steps else None
    lr = job.optimizer.param_groups[0]["lr"]
    job.result = {"epoch": job.position[0], "step": job.done, "loss": loss, "lr": lr, **found, **readings}
    job.loss_sum, job.loss_steps = 0.0, 0
    job.log.write("evaluation", job.attempt, **job.result)
    print(result_line(job.result, job.done / job.batches.steps), flush=True)
    write_result(job)


def result_line(result: dict[str, Any], epochs: float) -> str:
    shares = " ".join(f"{'-':>8}" if (v := result[n]) is None else f"{100 * v:8.2f}" for n in ("AP", "AP50", "AP75"))
    loss = "-" if result["loss"] is None else f"{result['loss']:.4f}"
    clock = result["clock"]
    return (
        f"{epochs:6.2f} {result['step']:7d} {result['lr']:10.3g} {loss:>8} {shares} "
        f"{clock['total']:9.1f}s {clock['train']:9.1f}s"
    )


def write_result(job: DetectJob) -> None:
    """detect.json: the last evaluation and what it is of."""
    content = {"metric": "COCO bbox mAP, shares from 0 to 1 (pycocotools)", **job.result, **job.identity}
    write_atomically(job.folder / RESULT, (json.dumps(content, indent=1) + "\n").encode())


def save(job: DetectJob) -> None:
    with job.clock.during("checkpoint"):
        job.saver.save({"identity": job.identity, "state": job.state_dict()})


def save_if_due(job: DetectJob) -> None:
    if job.saver.is_due(job.settings.checkpoint_minutes):
        save(job)


def preempt(job: DetectJob) -> None:
    save(job)
    raise job.saver.preempted(job.stop.name, f"step {job.done}")


def log_stop(job: DetectJob, outcome: str, exit_code: int, detail: str, say: Callable[[str], None]) -> None:
    job.log.write("stop", job.attempt, outcome=outcome, exit_code=exit_code, detail=detail, step=job.done)
    if detail:
        say(f"{outcome}: {detail}")
