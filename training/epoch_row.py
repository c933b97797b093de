"""What a run writes down about a finished epoch: the line of run.jsonl that every report is made from."""

from training.environment import peak_memory_bytes
from training.evaluate import Counts


def write_epoch(job, epoch: int, counts: Counts | None) -> None:
    """The line of a trainer.Job, and everything made from it. All ranks call it: sums are of all of them."""
    state, phase, steps = job.state, job.loader.phase, job.steps
    ends = [epoch + 1 / job.loader.steps, epoch + steps / job.loader.steps]
    validation = counts and {
        **counts._asdict(),
        "size": phase.val_sz,
        "tta": job.config.tta,
        "weights": "ema" if state.average is not None else "model",
    }
    row = {
        "epoch": epoch,
        "size": phase.sz,
        "batch_size": phase.bs,
        "global_batch_size": job.global_batch,
        "steps": steps,
        "images": steps * job.global_batch,
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
    job.book.epoch(row, counts)
