"""`python -m training detect DATA --weights RUN`: how good the weights of a run are as the backbone of a detector."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from data_prep.formats.coco import CocoSet, read_coco
from dawn import Clock, RunLog, process_start_ns
from dawn.commandline import quoted
from dawn.runlog.run import LOG_NAME
from training.config.saved import CONFIG, write_settings
from training.detection.backbone import Backbone, open_backbone
from training.detection.data import TrainBatches
from training.detection.detector import build_detector, build_optimizer, what_is_trained
from training.detection.settings import DetectSettings, detect_settings
from training.detection.trainer import LOG, RESULT, DetectJob, fit_detector, log_stop
from training.distributed.env import Env
from training.distributed.launcher import warn
from training.distributed.process import StopSignal
from training.engine.checkpoint import Saver, generations, load
from training.engine.precision import Precision, emulated
from training.errors import ConfigError, Outcome, error_code
from training.evaluation.weight_files import need
from training.logs.environment import hardware, versions
from training.logs.machine import package_version, source_commit
from training.runs.finish import crash_line, how_it_ends
from training.runs.folder import RESUMABLE, disk_errors, ending, locked, next_folder
from training.runs.resume import next_attempt


def detect(arguments: list[str]) -> int:
    """Fine-tune, evaluate, report; the exit code. Raises: ConfigError, DataError before any training is done."""
    settings = detect_settings(arguments)
    need("python -m training detect", "pycocotools")
    device = chosen_device(settings)
    dataset = read_coco(settings.data)
    batches = TrainBatches(dataset.train, settings.batch_size, settings.seed, settings.workers)
    if not batches.steps:
        raise ConfigError(
            f"--batch-size {settings.batch_size}: only {len(batches.usable)} training pictures have a box. Use fewer"
        )
    backbone = open_backbone(settings.weights, settings.model, settings.seed, warn)
    if settings.frozen_bn and settings.weights == "random":
        raise ConfigError("--frozen-bn: random weights have no statistics to freeze. Leave it out")
    if slow := emulated(Precision(settings.precision, device.type)):
        warn(f"{slow}. Use --precision fp32")
    with opened_folder(settings) as folder, disk_errors(folder), StopSignal() as stop, RunLog(folder / LOG) as log:
        job = build_job(settings, dataset, batches, backbone, device, folder, log, stop)
        return guarded(job)


def chosen_device(settings: DetectSettings) -> torch.device:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: no usable CUDA device here. Use --device cpu")
    return torch.device("cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def opened_folder(settings: DetectSettings) -> Iterator[Path]:
    """The run folder, made if new, locked. Raises: ConfigError when another run is in it, or none to go on with."""
    folder = Path(settings.logdir) if settings.logdir else next_folder(Path("runs"), "detect")
    with locked(folder, settings.data, LOG, settings.resume):
        if not settings.resume and any((folder / name).exists() for name in (LOG, LOG_NAME, CONFIG)):
            advice = f"Go on with it: --resume {quoted(folder)}; or name another folder"
            raise ConfigError(f"--logdir {folder}: holds another run. {advice}")
        if settings.resume and (folder / LOG).exists() and ending(folder, LOG) not in (*RESUMABLE, ""):
            raise ConfigError(f"--resume {folder}: that run has ended. Its result is in {folder / RESULT}")
        yield folder


def build_job(
    settings: DetectSettings,
    dataset: CocoSet,
    batches: TrainBatches,
    backbone: Backbone,
    device: torch.device,
    folder: Path,
    log: RunLog,
    stop: StopSignal,
) -> DetectJob:
    """Everything on the device; when the run is resumed, in the state of its newest checkpoint."""
    env = Env(device)
    clock = Clock(sync=env.sync, origin_ns=process_start_ns())
    identity = identity_of(settings, dataset, backbone, env)
    saved = saved_job(settings, identity)
    detector = build_detector(backbone, len(dataset.categories), settings).to(device)
    optimizer = build_optimizer(detector, settings)
    attempt = next_attempt(folder, LOG)
    job = DetectJob(
        settings, dataset, detector, optimizer, batches, clock, device, folder, log, Saver(folder, attempt=attempt),
        stop, identity, attempt,
    )  # fmt: skip
    if saved:
        job.load_state_dict(saved["state"])
    elif not settings.resume:
        save_settings(folder, settings)
    log.write("start", attempt, **identity, step=job.done, setup_seconds=clock.setup_seconds())
    describe(job, backbone)
    return job


def identity_of(settings: DetectSettings, dataset: CocoSet, backbone: Backbone, env: Env) -> dict[str, Any]:
    """What the result is of."""
    commit, dirty = source_commit()
    return {
        "settings": settings.experiment(),
        "optimizer": {name: getattr(settings.chosen, name) for name in ("optimizer", "lr", "weight_decay")},
        "backbone": {"origin": backbone.origin, "sha256": backbone.sha256},
        "dataset": {
            "path": str(Path(settings.data).resolve()),
            "train_sha256": dataset.train.sha256,
            "val_sha256": dataset.val.sha256,
            "train_images": len(dataset.train.names),
            "val_images": len(dataset.val.names),
            "categories": len(dataset.categories),
        },
        "hardware": hardware(env, devices=1, machines=1),
        "versions": versions() | {"pycocotools": package_version("pycocotools")},
        "commit": commit,
        "dirty": dirty,
    }


def saved_job(settings: DetectSettings, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The newest whole checkpoint of the run to be resumed. Raises: ConfigError when it is of another dataset or of
    other weights."""
    if not settings.resume:
        return None
    folder = Path(settings.resume)
    if not generations(folder / "checkpoints"):
        warn(f"{folder}: no checkpoint yet, starting from the beginning")
        return None
    saved = load(folder, warn)
    for part, names in (("backbone", ("sha256",)), ("dataset", ("train_sha256", "val_sha256"))):
        for name in names:
            if saved["identity"][part][name] != identity[part][name]:
                raise ConfigError(f"--resume {folder}: its {part} has changed since ({name}). Start a new run")
    return saved


def save_settings(folder: Path, settings: DetectSettings) -> None:
    saved = asdict(settings) | {"data": str(Path(settings.data).resolve())}
    if Path(settings.weights).exists() and settings.weights != "random":
        saved["weights"] = str(Path(settings.weights).resolve())
    write_settings(folder, {name: value for name, value in saved.items() if name not in ("logdir", "resume")})


def describe(job: DetectJob, backbone: Backbone) -> None:
    preset, train, val = job.settings.chosen, job.dataset.train, job.dataset.val
    left_out = len(train.names) - len(job.batches.usable)
    thin = len(train.boxes) - int((train.targets() | train.crowd).sum())
    print(f"backbone: {backbone.origin}")
    print(what_is_trained(job.detector).line())
    print(
        f"{len(job.batches.usable)} training pictures ({left_out} without a box left out, {thin} boxes thinner than a "
        f"pixel and {int(train.crowd.sum())} crowds not trained on), {len(val.names)} for validation"
    )
    print(
        f"{preset.optimizer}, learning rate {preset.lr:g}, weight decay {preset.weight_decay:g}, batch "
        f"{job.settings.batch_size}, {job.steps} steps, {job.device.type}, {job.settings.precision}, into {job.folder}"
    )
    if job.done:
        print(f"going on after step {job.done}")


def guarded(job: DetectJob) -> int:
    """`fit_detector` with every way to end written to the log; the exit code. A crash is logged and raised again."""
    try:
        outcome, detail = how_it_ends(lambda: fit_detector(job))
    except BaseException as error:
        with contextlib.suppress(OSError):  # a full disk: the first error is the one to tell
            log_stop(job, Outcome.CRASHED.value, error_code(error), crash_line(error), lambda said: None)
        raise
    log_stop(job, outcome.value, outcome.exit_code, detail, print)
    if outcome is Outcome.FINISHED:
        print(f"result: {job.folder / RESULT}\n   log: {job.folder / LOG}")
    return outcome.exit_code
