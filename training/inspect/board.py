"""What TensorBoard shows of an inspected run beside its scalars: hyperparameters with the final metrics, curves of
precision and recall, distributions of the highest probability, and pictures."""

import io
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dawn import read_run
from training.config.config import Config
from training.data.loader import Batch
from training.distributed.group import Group
from training.engine.optimizers import momentum_of
from training.inspect.counts import NOTHING, Counts, curve, drawn_classes, roc_auc
from training.inspect.predictions import DIGITS, epoch_of
from training.inspect.sheets import FOLDER as SHEETS
from training.inspect.stored import Stored
from training.logs.metrics import View

THIS_MACHINE = {"logdir", "resume"}  # settings that say nothing about the experiment
METRICS = ("losses/test_1", "losses/test_5", "validation/loss", "validation/ece", "validation/macro_f1")
BINS = np.linspace(0, 1, 51)  # numpy 1.26's "auto" may make millions where most are almost 1
MOST_EPOCHS = 8  # with sheets: the pictures stand in the event file once more


class ParameterGroups:
    """See training.logs.metrics.Watch: what every parameter group trains with at the end of each epoch."""

    def __init__(self, optimizers: list[torch.optim.Optimizer]) -> None:
        self.optimizers = optimizers

    def batch(self, number: int, batch: Batch, logits: torch.Tensor, loss: torch.Tensor) -> None: ...

    def is_due(self, number: int) -> bool:
        return False

    def gradients(self, images_seen: int) -> None: ...

    def updated(self) -> None: ...

    def finish(self, group: Group, view: View | None) -> None:
        if view:
            view.scalars(group_scalars(self.optimizers))


def group_scalars(optimizers: list[torch.optim.Optimizer]) -> dict[str, float]:
    """By tag; a number before each name, because two optimizers may have groups of one name. No momentum where the
    optimizer has none."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    found = {
        f"groups/{place} {group.get('name', 'parameters')}/{fact}": value
        for place, group in enumerate(groups)
        for fact, value in (
            ("learning rate", group["lr"]),
            ("momentum", momentum_of(group)),
            ("weight decay", group["weight_decay"]),
        )
    }
    return {tag: float(value) for tag, value in found.items() if value is not None}


def write_board(
    writer: Any, run: Path, config: Config, stored: Stored, names: list[str], drawn: dict[str, bytes]
) -> None:
    """`writer`: the run's torch.utils.tensorboard.SummaryWriter; `drawn`: pictures of the last validation by file name,
    PNG. The x-axis is the number of training images seen, as in every other tag of the run."""
    read = read_run(run)
    seen = {row.epoch: row.images_seen for row in read.rows}
    step = seen.get(stored.epoch, 0)
    write_hyperparameters(writer, config, read, step)
    write_confidence(writer, stored, seen)
    for name, content in drawn.items():
        write_picture(writer, f"inspect/{Path(name).stem}", content, step)
    if config.inspect == "full":
        write_curves(writer, stored.counts, names, step)
        write_sheets(writer, stored.folder / SHEETS, seen)


def hyperparameters(config: Config) -> dict[str, bool | float | str]:
    """The settings that are not at their defaults, and the seed."""
    changed = [f.name for f in fields(Config) if getattr(config, f.name) != f.default and f.name not in THIS_MACHINE]
    values = {name: getattr(config, name) for name in [*changed, "seed"]}
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in values.items()
    }


def write_hyperparameters(writer: Any, config: Config, read: Any, step: int) -> None:
    """Into the run's own event file, where SummaryWriter.add_hparams would open one in a folder of its own: the tab
    compares the folders that hold both, and its metrics are the last values of the run's own tags."""
    from torch.utils.tensorboard.summary import hparams

    times = {f"final/{name}_seconds": seconds for name, seconds in read.stop.clock.items()} if read.stop else {}
    for tag, value in times.items():
        writer.add_scalar(tag, value, step)
    metrics = dict.fromkeys((*METRICS, *times), 0.0)  # only the names are looked at
    for part in hparams(hyperparameters(config), metrics):
        writer.file_writer.add_summary(part)


def write_confidence(writer: Any, stored: Stored, seen: dict[int, int]) -> None:
    """How sure the network was of the class that it named, at every validation."""
    for epoch, images in sorted(stored.images.items()):
        right, finite = images.predicted == images.labels, images.predicted != NOTHING
        for kind, which in (("right", right), ("wrong", ~right & finite)):
            if which.any() and epoch in seen:
                values = images.probability[which].clip(0, 1)
                writer.add_histogram(f"highest probability/{kind} images", values, seen[epoch], bins=BINS)


def write_curves(writer: Any, counts: Counts, names: list[str], step: int) -> None:
    """One against all others, of the classes with the worst and the best average precision; `micro`: all together."""
    others, own = counts.scores
    for place, number in enumerate(drawn_classes(counts), 1):
        write_curve(writer, f"precision-recall/{place:02d} {names[number]}", own[number], others[number], step)
    write_curve(writer, "precision-recall/micro average", own.sum(0), others.sum(0), step)
    writer.add_scalar("validation/macro_roc_auc", float(roc_auc(own, others).nanmean()), step)
    writer.add_scalar("validation/micro_roc_auc", float(roc_auc(own.sum(0), others.sum(0))), step)


def write_curve(writer: Any, tag: str, own: torch.Tensor, others: torch.Tensor, step: int) -> None:
    points = curve(own, others)
    parts = [part.numpy() for part in (*points, points.precision, points.recall)]
    writer.add_pr_curve_raw(tag, *parts, global_step=step, num_thresholds=len(own))


def write_sheets(writer: Any, folder: Path, seen: dict[int, int]) -> None:
    """Those of the first, the last and a few epochs between."""
    for kind in sorted({path.stem[: -DIGITS - 1] for path in folder.glob("*-????.png")}):
        paths = sorted(folder.glob(f"{kind}-{'[0-9]' * DIGITS}.png"))
        last = len(paths) - 1
        for place in sorted({round(last * i / (MOST_EPOCHS - 1)) for i in range(MOST_EPOCHS)}) if paths else ():
            epoch = epoch_of(paths[place].stem)
            if epoch in seen:
                write_picture(writer, f"sheets/{kind}", paths[place].read_bytes(), seen[epoch])


def write_picture(writer: Any, tag: str, content: bytes, step: int) -> None:
    """A PNG as it is: add_image would decode it and encode it again."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    with Image.open(io.BytesIO(content)) as picture:
        width, height = picture.size
    image = Summary.Image(encoded_image_string=content, width=width, height=height, colorspace=3)
    writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
