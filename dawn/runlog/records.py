"""The lines of a run log as checked values. All times are seconds, all counts are integers, `epoch` counts from 0."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from dawn.runlog.clock import NEWER_LABELS, RUN_LABELS, SETUP_LABELS
from dawn.runlog.fields import MOST, Fields

CLOCKS = {  # and what each counts, as every report words it
    "total": "everything from the first read of training data",
    "dawn": "T_total without evaluation and checkpoints: DAWNBench's reading, the hours of the TSV",
    "prepare_train": "training, and what depends on the data or the seed and is done once; no evaluation",
    "train": "data wait and training steps",
    "cold": "T_total with program start and warm-up",
}
NEWER_CLOCKS = {"prepare_train"}  # older logs do not have it: run.py adds up what it counts
PREPARE_LABELS = ("switch", "data", "train")  # of the run, in T_prepare_train
METRICS = ("top1", "top5")
OUTCOMES = ("target_reached", "finished", "finished_without_target", "diverged", "preempted", "crashed")


@dataclass(frozen=True)
class Resume:
    """Where an attempt went on: the next step (0-based) of the next epoch; what the stop before it cost in seconds."""

    epoch: int
    step: int
    lost_seconds: float | None  # counted by the earlier attempt after its last checkpoint, thrown away
    gap_seconds: float | None  # wall time between the attempts; on no clock


@dataclass(frozen=True)
class Start:
    """The start line of one attempt. The dicts are as logged."""

    attempt: int
    utc: str
    run_id: str
    task: str
    metric: str  # "top1" or "top5"
    target: float | None  # percent
    recipe: str
    model: str
    seed: int
    precision: str
    world_size: int
    config: dict[str, Any]
    config_hash: str
    changed: list[str] | None  # settings that are not at their defaults; None in older logs
    phases: list[Any]
    total_epochs: float
    optimizer: dict[str, Any]
    dataset: dict[str, Any]
    hardware: dict[str, Any]
    versions: dict[str, Any]
    commit: str | None
    dirty: bool | None
    page_cache: str
    compile_cache: str
    clock_definition: str
    setup_seconds: dict[str, float]
    resumed_from: Resume | None
    hosts: list[dict[str, Any]]  # of each machine, as logged; empty in older logs
    tells_prepare: bool  # its clocks have T_prepare_train; else it is added up, without the time for the first weights

    @property
    def epochs(self) -> int:
        """Epochs of the schedule, the last of which may be cut short."""
        return math.ceil(self.total_epochs)

    @property
    def first_epoch(self) -> int:
        """The epoch (from 0) that the run began at; those before were skipped (--start-epoch)."""
        return self.config.get("start_epoch") or 0

    @property
    def trials(self) -> list[str]:
        """Settings that make the run a trial and not a result."""
        skipped = [f"it began at epoch {self.first_epoch}: those before were skipped"] if self.first_epoch else []
        short = ["its epochs were cut short (--short-epoch)"] if self.config.get("short_epoch") else []
        noise = ["it trained on random images (--loader synthetic)"] if self.config.get("loader") == "synthetic" else []
        held = self.config.get("holdout")
        apart = [f"it was validated on {self.dataset['validation_images']} held-out training images (--holdout)"]
        return skipped + short + noise + (apart if held else [])


@dataclass(frozen=True)
class Validation:
    """One pass over the validation set; k5 = min(5, classes)."""

    correct1: int
    correct5: int
    images: int
    size: int
    weights: str
    tta: str
    k5: int

    def correct(self, metric: str) -> int:
        return {"top1": self.correct1, "top5": self.correct5}[metric]

    def percent(self, metric: str) -> float:
        """The float nearest to 100 * correct / images."""
        return self.correct(metric) * 100 / self.images

    def reaches(self, metric: str, target: float | Fraction | None) -> bool:
        """Exact, on integers: the target is the decimal number as it was written (93.1 is 931/10). None: no target."""
        if target is None:
            return False
        # Fraction(93.1) would be the binary neighbour of 93.1; repr() gives back the digits that somebody typed.
        exact = target if isinstance(target, Fraction) else Fraction(repr(target))
        return self.correct(metric) * 100 >= exact * self.images


@dataclass(frozen=True)
class Row:
    """One epoch, whole or cut short. `seconds`: ledger since the row before; `clock`: readings after its evaluation.

    `energy_joules`: what all devices of the run took in the same time as `seconds` (NVML's energy counter, every
    process's device added); None where it was not measured.
    """

    attempt: int
    epoch: int
    size: int
    batch_size: int
    global_batch_size: int
    steps: int
    images: int
    images_seen: int
    lr: tuple[float, float]  # first and last step
    momentum: tuple[float, float]
    train_loss: float | None
    validation: Validation | None
    seconds: dict[str, float]
    clock: dict[str, float]
    peak_memory_bytes: int | None
    energy_joules: float | None = None
    end: float | None = None  # where an epoch that was cut short ended, counted in epochs; None: a whole one
    parts: tuple[
        dict[str, Any], ...
    ] = ()  # as logged, where a phase began inside the epoch: the row has the last one's

    @property
    def until(self) -> float:
        """Epochs trained at the end of this one; an int after a whole one."""
        return self.epoch + 1 if self.end is None else self.end

    @property
    def images_of_parts(self) -> int:
        parts = self.parts or ({"steps": self.steps, "global_batch_size": self.global_batch_size},)
        return sum(part["steps"] * part["global_batch_size"] for part in parts)


@dataclass(frozen=True)
class Stop:
    attempt: int
    outcome: str
    exit_code: int
    detail: str
    clock: dict[str, float]
    seconds: dict[str, float]
    host: dict[str, Any]  # rank 0's machine at the end, as logged; empty in older logs


def device_count(hardware: dict[str, Any]) -> int:
    """Of the logged hardware: GPUs, or machines where CPUs train; 1 where the log holds no usable number.

    An older log (without `machines`) counted processes, which on a CPU share the cores of one machine: 1.
    """
    count = hardware.get("count")
    if hardware.get("device") == "cpu" and "machines" not in hardware:
        return 1
    return count if type(count) is int and count > 1 else 1


def hardware_name(hardware: dict[str, Any]) -> str:
    """As in `8 x NVIDIA H100`; `AMD EPYC, 2 processes` for ranks that share the cores of a machine."""
    count, processes = device_count(hardware), hardware.get("processes")
    name = f"{count} x {hardware['name']}" if count > 1 else hardware["name"]
    shared = type(processes) is int and processes > count
    return f"{name}, {processes} processes" if shared else name


def start_record(fields: Fields) -> Start:
    words = ("run_id", "task", "recipe", "model", "precision", "config_hash")
    notes = ("page_cache", "compile_cache", "clock_definition")
    fields.inside("dataset").count("validation_images", 1)
    fields.inside("hardware").text("name")
    fields.inside("versions").text("torch")
    fields.inside("optimizer").text("name")
    if "start_epoch" in fields.mapping("config"):
        fields.inside("config").count("start_epoch")
    return Start(
        attempt=fields.count("attempt"),
        utc=fields.utc(),
        **{name: fields.text(name) for name in words + notes},
        metric=fields.choice("metric", METRICS),
        target=fields.number_or_none("target", 0, 100),
        seed=fields.count("seed", -MOST),
        world_size=fields.count("world_size", 1),
        **{name: fields.mapping(name) for name in ("config", "optimizer", "dataset", "hardware", "versions")},
        changed=[str(name) for name in fields.items("changed")] if "changed" in fields.values else None,
        phases=fields.items("phases"),
        total_epochs=fields.number("total_epochs", 1e-9),
        commit=fields.text_or_none("commit"),
        dirty=fields.flag_or_none("dirty"),
        setup_seconds=fields.seconds("setup_seconds", SETUP_LABELS, NEWER_LABELS),
        resumed_from=_resume(fields.inside_or_none("resumed_from")),
        hosts=[Fields(fields.where, {"host": h}).mapping("host") for h in fields.items("hosts")]
        if "hosts" in fields.values
        else [],
        tells_prepare="prepare" in fields.mapping("setup_seconds"),
    )


def _resume(fields: Fields | None) -> Resume | None:
    if fields is None:
        return None
    lost, gap = fields.number_or_none("lost_seconds", 0), fields.number_or_none("gap_seconds")
    return Resume(fields.count("epoch"), fields.count("step"), lost, gap)


def row_record(fields: Fields) -> Row:
    sizes = ("size", "batch_size", "global_batch_size", "steps", "images", "images_seen")
    return Row(
        attempt=fields.count("attempt"),
        epoch=fields.count("epoch"),
        **{name: fields.count(name, 1) for name in sizes},
        lr=fields.pair("lr"),
        momentum=fields.pair("momentum"),
        train_loss=fields.number_or_none("train_loss"),
        validation=_validation(fields.inside_or_none("validation")),
        seconds=fields.seconds("seconds", RUN_LABELS, NEWER_LABELS),
        clock=fields.seconds("clock", CLOCKS, NEWER_CLOCKS),
        peak_memory_bytes=fields.count_or_none("peak_memory_bytes"),
        energy_joules=fields.optional_number("energy_joules", 0),
        end=fields.optional_number("end", fields.count("epoch"), fields.count("epoch") + 1),
        parts=_parts(fields),
    )


def _parts(fields: Fields) -> tuple[dict[str, Any], ...]:
    if "parts" not in fields.values:
        return ()
    parts = tuple(Fields(f"{fields.where}: parts", {"part": part}).inside("part") for part in fields.items("parts"))
    for part in parts:
        part.number("start", 0)
        part.count("steps")
        for name in ("size", "batch_size", "global_batch_size"):
            part.count(name, 1)
    return tuple(part.values for part in parts)


def _validation(fields: Fields | None) -> Validation | None:
    if fields is None:
        return None
    images = fields.count("images", 1)
    correct5 = fields.count("correct5", 0, images)
    correct1 = fields.count("correct1", 0, correct5)
    words = {name: fields.text(name) for name in ("weights", "tta")}
    return Validation(correct1, correct5, images, fields.count("size", 1), k5=fields.count("k5", 1, 5), **words)


def stop_record(fields: Fields) -> Stop:
    seconds = fields.seconds("seconds", SETUP_LABELS + RUN_LABELS, NEWER_LABELS)
    clock = fields.seconds("clock", CLOCKS, NEWER_CLOCKS)
    clock["prepare_train"] = clock["prepare_train"] or sum(seconds[label] for label in PREPARE_LABELS)
    return Stop(
        attempt=fields.count("attempt"),
        outcome=fields.choice("outcome", OUTCOMES),
        exit_code=fields.count("exit_code", -MOST),
        detail=fields.text("detail"),
        clock=clock,
        seconds=seconds,
        host=fields.mapping("host") if "host" in fields.values else {},
    )
