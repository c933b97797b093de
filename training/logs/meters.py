"""What is shown and logged of the steps inside an epoch, and of the epoch at its end. The device is read only every
`print_freq` steps."""

import torch
from torch import Tensor

from dawn.runlog.records import Validation
from phases.parts import Part
from training.logs.console import forecast
from training.logs.environment import peak_memory_bytes
from training.logs.metrics import correct_counts


class StepMeter:
    """Of one part of an epoch (or its rest, after a resume) of a trainer.Job."""

    def __init__(self, job, part: Part) -> None:
        self.job, self.epoch, self.part, self.steps = job, part.epoch, part, job.steps_of(part.epoch)
        self.batch = job.global_batch
        self.first = self.last = job.state.step
        self.at_first = self.at_last = self.times()

    def times(self) -> tuple[float, float]:
        """Seconds of data wait and of compute on the clock."""
        seconds = self.job.state.clock.seconds()
        return seconds["data"], seconds["train"]

    def is_due(self, number: int) -> bool:
        return number in (0, self.steps - 1) or (number + 1) % self.job.config.print_freq == 0

    def report(
        self, number: int, lr: float, momentum: float | None, logits: Tensor, targets: Tensor, loss: Tensor
    ) -> None:
        """After step `number` (0-based): text log, TensorBoard, progress bar."""
        momentum = self.job.config.momentum if momentum is None else momentum
        if number in (0, self.steps - 1):
            self.job.book.learning_rate(self.job.state.images_seen, lr, momentum)
        data, train = (now - then for now, then in zip(self.times(), self.at_last, strict=True))
        done = max(number + 1 - self.last, 1)
        self.last, self.at_last = number + 1, self.times()
        mean_loss, top1, top5 = self.of_all_ranks(logits, targets, loss)
        self.job.book.step(
            self.job.state.images_seen,
            self.epoch,
            number + 1,
            self.steps,
            self.job.state.clock.readings(),
            {
                "times/step": 1000 * (data + train) / done,
                "times/data": 1000 * data / done,
                "times/1gpu_images_per_sec": done * self.batch / self.job.env.world_size / (data + train),
                # 2018's name, and its factor of 8 however many devices there are.
                "times/8gpu_images_per_sec": 8 * done * self.batch / self.job.env.world_size / (data + train),
                "losses/xent": mean_loss,
                "losses/train_1": 100 * top1,
                "losses/train_5": 100 * top5,
                "sizes/batch_total": self.batch,
            },
        )
        self.show(number)

    def of_all_ranks(self, logits: Tensor, targets: Tensor, loss: Tensor) -> list[float]:
        """Mean loss and shares of top-1 and top-5 hits in the global batch: one reading of the device. Of mixed images
        a hit is the image's own class, never the other's."""
        hits = correct_counts(logits, targets, min(5, logits.shape[1])) / len(targets)
        sums = self.job.env.group.sum(torch.cat([loss[None].double(), hits.double()]))
        return (sums / self.job.env.world_size).tolist()

    def show(self, number: int) -> None:
        """Rates over the epoch so far."""
        job, part = self.job, self.part
        share = (number + 1 - part.first_step) / job.steps_in(part)
        data, train = (now - then for now, then in zip(self.times(), self.at_first, strict=True))
        steps = number + 1 - self.first
        of_epoch = job.steps_in(part) / (part.end - part.start)  # steps, were all of it like this part
        seconds_per_pixel = (data + train) * of_epoch / steps / job.loader.phase.sz**2
        goal = float(job.target.percent) if job.target.percent is not None else None
        place = part.start + share * (part.end - part.start)
        text = forecast(job.schedule, place, seconds_per_pixel, job.history, goal)
        job.book.progress(
            self.epoch,
            job.schedule.epochs,
            (number + 1) / self.steps,
            steps * self.batch / (data + train),
            data / (data + train),
            text,
        )


def write_epoch(job, epoch: int, seen: Validation | None) -> None:
    """The line of a trainer.Job, and everything made from it. All ranks call it: sums are of all of them."""
    state, phase, steps, parts = job.state, job.loader.phase, job.steps_of(epoch), job.parts(epoch)
    last = [part for part in parts if job.steps_in(part)][-1]
    ends = [parts[0].position(0), last.position(steps - 1)]
    validation = seen and {
        "correct1": seen.correct1,
        "correct5": seen.correct5,
        "images": seen.images,
        "k5": seen.k5,
        "size": seen.size,
        "tta": seen.tta,
        "weights": seen.weights,
    }
    row = {
        "epoch": epoch,
        "size": phase.sz,
        "batch_size": phase.bs,
        "global_batch_size": job.global_batch,
        "steps": steps,
        "images": job.images_of(epoch),
        "images_seen": state.images_seen,
        "lr": [job.schedule.lr_at(e) for e in ends],
        "momentum": [
            job.schedule.momentum_at(e) if job.schedule.momentum_at(e) is not None else job.config.momentum
            for e in ends
        ],
        "train_loss": float(job.env.group.sum(state.loss_sum.clone())) / steps / job.env.world_size,
        "skipped_steps": int(state.skipped),
        "validation": validation,
        **state.clock.lap(),
        "peak_memory_bytes": peak_memory_bytes(job.env),
        "energy_joules": job.energy.lap(),
    }
    if parts[-1].end < epoch + 1:
        row["end"] = parts[-1].end
    if len(parts) > 1:
        row["parts"] = [
            {
                "start": part.start,
                "size": part.phase.sz,
                "batch_size": part.phase.bs,
                "global_batch_size": part.phase.bs * job.env.world_size,
                "steps": job.steps_in(part),
            }
            for part in parts
        ]
    job.book.epoch(row, seen)
