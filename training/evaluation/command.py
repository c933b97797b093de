"""`python -m training evaluate RUN`: what other sizes, shapes and mirror images are worth, of the weights of a run or
of published ones."""

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

import torch
from torch import nn

from data_prep import load_manifest
from data_prep.files import write_atomically
from dawn.runlog.evaluations import EVALUATIONS, SHAPES, Evaluation, encoded, merged, read_evaluations
from dawn.runlog.writer import utc_now
from phases import DataPhase
from training.config.config import Config
from training.config.own_code import is_own, short_name
from training.config.saved import read_config
from training.distributed.env import Env, open_env
from training.distributed.launcher import ranks, warn
from training.distributed.process import stop_with_launcher
from training.errors import ConfigError
from training.evaluation import table
from training.evaluation.measure import (
    Measured,
    Pictures,
    Subject,
    Way,
    measured,
    open_pictures,
    takes_rectangles,
)
from training.evaluation.published import imagenet_columns, open_published
from training.evaluation.settings import changed, evaluate_settings
from training.evaluation.trained import Trained, check_classes, load_trained
from training.runs.alike import code_facts, compare, flags

PUBLISHED_BATCH = 128
FILE, LIBRARY = "file", "library"  # of weights that are no run's


@dataclass(frozen=True)
class Task:
    """What one call measures. `own` and `own_weights`: what the run itself validates with; `trained`: by kind of
    weights, of a run."""

    title: str
    subjects: list[Subject]
    pictures: Pictures
    ways: list[Way]
    own: Way | None = None
    own_weights: str = ""
    trained: dict[str, Trained] = field(default_factory=dict)

    def is_own(self, item: Measured) -> bool:
        return item.way == self.own and item.seen.weights == self.own_weights


def evaluate(arguments: list[str]) -> int:
    """Measure, print, and keep the result of a run in its folder; the exit code. Raises: ConfigError, DataError,
    RunError before anything is measured."""
    options = evaluate_settings(arguments)
    if ranks().world_size > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    stop_with_launcher()
    base = read_config(Path(options.run)) if options.run else Config(loader="auto")
    config = replace(base, **changed(base, options))
    with open_env(config) as env:
        task = env.group.together(lambda: task_of_run(options) if options.run else task_of_published(config, options))
        if env.world_size > 1:
            compare(facts_of(task, options) | code_facts(), env)
        env.group.from_main(lambda: read_evaluations(Path(options.run)) if options.run else [])  # damaged: told now
        found = measured_and_shown(task, env, options.csv)
        if env.rank == 0 and options.run:
            keep(Path(options.run), entries(task, found, env))
    return 0


def facts_of(task: Task, options: argparse.Namespace) -> dict[str, object]:
    """What all ranks must have alike: where files lie, and how many workers a machine has, is its own affair."""
    own = {"run", "data", "weights_file", "workers", "csv"}
    return {
        **flags({name: value for name, value in vars(options).items() if name not in own}),
        "SHA-256 of the dataset": task.pictures.dataset.sha256[:12],
        **{f"SHA-256 of the weights ({one.weights})": digest(one.network) for one in task.subjects},
    }


def digest(network: nn.Module) -> str:
    found = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        found.update(name.encode() + tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:12]


def task_of_run(options: argparse.Namespace) -> Task:
    folder = Path(options.run)
    trained = {found.weights: found for found in (load_trained(folder, kind, warn) for kind in options.weights or [""])}
    first = next(iter(trained.values()))
    config, phase = replace(first.config, **changed(first.config, options)), asked_phase(first.phase, options)
    if not (options.data or options.loader or is_own(config.loader)):
        config = replace(config, loader=first.loader)  # what `auto` was when the run trained
    if options.data and options.holdout is None and not is_same_dataset(first, options.data):
        config = replace(config, holdout=0.0)  # a part of other images would mean nothing
    pictures = open_pictures(config, phase)
    check_classes(first, pictures.dataset, pictures.folder, warn)
    check_input(options, pictures)
    subjects = [Subject(one.network, one.config, one.weights, one.mean, one.std) for one in trained.values()]
    ways = ways_of(options, subjects[0], pictures, first.phase.val_sz)
    own = own_way(first, options, pictures)
    own_weights = "ema" if first.config.ema_decay else "model"
    title = f"{folder}: {short_name(first.config.model)} after {trained_for(first)}"
    return Task(title, subjects, pictures, ways, own, own_weights, trained)


def is_same_dataset(trained: Trained, data: str) -> bool:
    return load_manifest(data).sha256 == trained.validated_sha256


def trained_for(trained: Trained) -> str:
    epoch, step = trained.counters["epoch"], trained.counters["step"]
    return f"{min(epoch, trained.schedule.total_epochs):g} epochs" + (f" and {step} steps" if step else "")


def task_of_published(config: Config, options: argparse.Namespace) -> Task:
    """`config`: this machine's part."""
    names = load_manifest(options.data).classes
    found = open_published(options.model, options.weights_file, len(names), warn)
    columns = imagenet_columns(names, found.classes, f"--data {options.data}", warn)
    size, wanted = found.input.size, found.input
    phase = asked_phase(DataPhase(0, size, 1, val_sz=size, val_bs=PUBLISHED_BATCH, val_resize=wanted.resize), options)
    pictures = open_pictures(replace(config, val_interpolation=wanted.interpolation), phase)
    check_input(options, pictures)
    subject = Subject(found.network, found.config, FILE if options.weights_file else LIBRARY, wanted.mean, wanted.std)
    subject = replace(subject, columns=columns)
    title = f"{found.weights}: {found.config.model}"
    if columns:
        title += f", top-1 and top-5 among {len(columns)} of its {found.classes} classes"
    return Task(title, [subject], pictures, ways_of(options, subject, pictures, size))


def asked_phase(phase: DataPhase, options: argparse.Namespace) -> DataPhase:
    """--data names the folder itself, without the suffix that the phase may have."""
    return replace(
        phase,
        valdir="" if options.data else phase.valdir,
        val_bs=options.val_batch or phase.val_bs,
        val_resize=options.resize or phase.val_resize,
    )


def check_input(options: argparse.Namespace, pictures: Pictures) -> None:
    """Raises: ConfigError for flags that the loader has no use for."""
    files = "Of a set that has image files too: --loader threads"
    if options.rect and not pictures.has_rectangles:
        raise ConfigError(
            f"--rect: the {short_name(pictures.loader)} loader has images of one shape. Leave it out. {files}"
        )
    if options.resize and pictures.loader == "memory":
        raise ConfigError(
            f"--resize {options.resize:g}: the memory loader cuts nothing off, so it has none. Leave it out. {files}"
        )


def ways_of(options: argparse.Namespace, subject: Subject, pictures: Pictures, size: int) -> list[Way]:
    """Every combination, sizes first. Without --square and --rect: both, where images and network have both."""
    sizes = options.sizes or [size]
    shapes = [shape for shape, asked in zip(SHAPES, (options.square, options.rect), strict=True) if asked]
    if not shapes:
        shapes = list(SHAPES) if pictures.has_oblong_images() and takes_rectangles(subject, sizes[0]) else ["square"]
    asked = options.tta or ("none", "flip", subject.config.tta)
    ways = (Way(size, shape, tta) for size in sizes for shape in shapes for tta in asked)
    return list(dict.fromkeys(ways))


def own_way(trained: Trained, options: argparse.Namespace, pictures: Pictures) -> Way | None:
    """What the run validates with; None where the flags ask for other images."""
    phase, other_data = trained.phase, pictures.dataset.sha256 != trained.validated_sha256
    other_part = pictures.config.holdout != trained.config.holdout
    other_resize = bool(options.resize) and options.resize != (phase.val_resize or trained.config.val_resize)
    if other_data or other_part or other_resize or short_name(pictures.loader) != trained.loader:
        return None
    return Way(phase.val_sz, SHAPES[phase.rect_val], trained.config.tta)


def measured_and_shown(task: Task, env: Env, as_csv: bool) -> list[Measured]:
    """On all ranks; rank 0 prints each as it comes."""
    say = printer(env, sys.stderr if as_csv else sys.stdout)
    show = printer(env, sys.stdout)
    measurements = measured(task.subjects, task.pictures, task.ways, env, warn)
    say(task.title)
    say(about(task, env))
    show(table.csv_head() if as_csv else table.head())
    found = []
    for item in measurements:
        show((table.csv_row if as_csv else table.row)(item, task.is_own(item)))
        found.append(item)
    for line in notes(task, found):
        say(line)
    return found


def printer(env: Env, file: TextIO) -> Callable[[str], None]:
    return lambda text: print(text, file=file, flush=True) if env.rank == 0 else None


def about(task: Task, env: Env) -> str:
    pictures = task.pictures
    dataset, loader = pictures.dataset, short_name(pictures.loader)
    kind = "held-out training" if pictures.config.holdout else "validation"
    images = f"{dataset.splits['validation'].images} {kind} images"
    cut = f", {pictures.filter}, short side before the crop {pictures.resize:.4g} sizes" if pictures.resize else ""
    where = f"{env.device.type}" + (f", {env.world_size} ranks" if env.world_size > 1 else "")
    return f"{pictures.folder}: {dataset.name}, {images}, {loader} loader{cut}; fp32, {where}"


def notes(task: Task, found: list[Measured]) -> Iterator[str]:
    own = next((item for item in found if task.is_own(item)), None)
    if own:
        row = task.trained[task.own_weights].row
        logged = f", which logged {row.validation.correct1}, {row.validation.correct5}" if row else ""
        precision = task.trained[task.own_weights].run.start.precision
        yield f"* as the run validates{logged}" + (f" in {precision}" if row else "")
    rule = task.pictures.config.rect_rule
    if rule == "2018" and any(item.way.shape == "rectangular" for item in found):
        yield "rectangles by --rect-rule 2018: their counts depend on --val-batch"


def entries(task: Task, found: list[Measured], env: Env) -> list[Evaluation]:
    utc, pictures, counters = utc_now(), task.pictures, next(iter(task.trained.values())).counters
    return [
        Evaluation(
            utc=utc,
            dataset=pictures.dataset.name,
            dataset_sha256=pictures.dataset.sha256,
            size=item.way.size,
            shape=item.way.shape,
            tta=item.way.tta,
            weights=item.seen.weights,
            epoch=counters["epoch"],
            step=counters["step"],
            resize=pictures.resize,
            loader=short_name(pictures.loader),
            device=env.device.type,
            world_size=env.world_size,
            correct1=item.seen.correct1,
            correct5=item.seen.correct5,
            k5=item.seen.k5,
            images=item.seen.images,
            flops_per_image=item.flops,
            seconds=item.seconds,
            own=task.is_own(item),
            holdout=pictures.config.holdout,
        )
        for item in found
    ]


def keep(folder: Path, measurements: list[Evaluation]) -> None:
    """In the run folder, for the page, beside what another command may have measured meanwhile. What was measured is
    printed already, so a folder that takes nothing is no reason to fail. Raises: RunError for a damaged file."""
    try:
        write_atomically(folder / EVALUATIONS, encoded(merged(read_evaluations(folder), measurements)))
    except OSError as error:
        warn(f"{folder / EVALUATIONS}: cannot be written ({error.strerror}), so the page will not show this table")
