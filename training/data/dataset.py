"""The dataset of a run, checked before anything is built, and the loader that fits it."""

import importlib.util
import os
from dataclasses import fields

import numpy as np

from data_prep import Manifest, load_manifest, open_packed
from data_prep.crops.segments import has_segments, open_segments
from data_prep.formats.image_index import ImageIndex, check_images, index_name, open_index
from data_prep.formats.packed import check_packed, packed_names, packed_side
from data_prep.formats.packed_tree import check_packed_tree, packed_tree_names
from dawn.commandline import quoted
from phases import DataPhase, PhaseError, Schedule
from phases.parts import epoch_parts, special_epochs
from training.config.config import Config
from training.config.loaders import reads, reads_files
from training.config.own_code import is_own
from training.config.recipes.registry import origin
from training.data.holdout import sources, stored_splits, with_holdout
from training.errors import ConfigError

ROOMY = 2.0  # short side of the stored images in phase sizes, from which on a smaller copy helps


def checked_dataset(config: Config, schedule: Schedule, world_size: int = 1) -> Manifest:
    """The manifest of the dataset, after comparing every folder that the phases name with its own manifest; with
    --holdout its splits are the two parts of the training images.

    Raises: DataError for a dataset that is missing, half there or changed; ConfigError for one that the schedule or
    the augmentation does not fit.
    """
    name = loader_name(config, schedule)
    dataset = checked_folders(config, schedule, name)
    check_schedule(config, schedule, dataset, name, world_size)
    return dataset


def checked_folders(config: Config, schedule: Schedule, name: str) -> Manifest:
    """What checked_dataset finds in the folders, for the loader `name`; of a schedule only its folders count. Raises:
    as checked_dataset."""
    folders = folders_of(config, schedule)
    dataset = load_manifest(folders[0])
    if len(dataset.classes) < 2:
        raise ConfigError(f"{folders[0]}: {len(dataset.classes)} class. Training needs at least two")
    for folder in folders:
        check_folder(config, name, folder, dataset)
    return with_holdout(config, dataset, name)


def check_schedule(config: Config, schedule: Schedule, dataset: Manifest, name: str, world_size: int = 1) -> None:
    """Without opening a file. Raises: ConfigError for a schedule or an augmentation that does not fit the dataset or
    the loader `name`."""
    check_augmentation(config, name, schedule)
    for phase in schedule.data:
        check_batch(config, phase, dataset.splits["train"].images, world_size)
    check_parts(name, schedule, dataset.splits["train"].images, world_size)


def check_parts(name: str, schedule: Schedule, images: int, world_size: int) -> None:
    """Raises: ConfigError for a part of an epoch without a step, or one that the user's own loader cannot make."""
    try:
        found = [epoch_parts(schedule, epoch, images, world_size) for epoch in special_epochs(schedule)]
    except PhaseError as error:
        raise ConfigError(str(error).rstrip(".")) from None
    inside = next((parts[1] for parts in found if len(parts) > 1), None)
    if inside and is_own(name):
        raise ConfigError(
            f"--loader {name}: the phase at epoch {inside.start:g} begins inside an epoch, which only the loaders of "
            "this project can do. Begin it at a whole epoch"
        )


def folders_of(config: Config, schedule: Schedule) -> list[str]:
    """DATA with every suffix that the phases name; the first is the one of the first phase's training images."""
    root = config.data.rstrip("/") or "/"
    suffixes = [suffix for phase in schedule.data for suffix in (phase.trndir, phase.valdir)]
    return [root + suffix for suffix in dict.fromkeys(suffixes)]


def loader_name(config: Config, schedule: Schedule) -> str:
    """--loader, or for `auto` the first that all folders have files for: memory, packed, then for image files dali on
    a GPU where it is installed, on a CPU processes where the system has memory that they can share, else threads."""
    if config.loader != "auto":
        return config.loader
    manifests = [load_manifest(folder) for folder in folders_of(config, schedule)]
    if all(has_files(manifest, packed_names) for manifest in manifests):
        return "memory"
    if all(has_files(manifest, packed_tree_names) for manifest in manifests):
        return "packed"
    if uses_gpu(config):
        return "dali" if has_dali() else "threads"  # which writes into pinned memory
    # dali is slower on a CPU: 1.41 against 2.08 times the 2018 way from originals at 128 px (docs/benchmarks.md)
    return "processes" if can_share_memory() else "threads"


def uses_gpu(config: Config) -> bool:
    import torch  # a dry run does without

    return config.device != "cpu" and torch.cuda.is_available()


def can_share_memory() -> bool:
    """Whether --loader processes works here: on Linux."""
    return hasattr(os, "memfd_create")


def has_files(manifest: Manifest, names) -> bool:
    return all(set(names(split)) <= set(facts.files) for split, facts in manifest.splits.items())


def has_dali() -> bool:
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:
        return False


def check_folder(config: Config, name: str, folder: str, dataset: Manifest) -> None:
    """`folder` must hold the images of `dataset`, perhaps at another size, in the form that the loader reads. No
    training image is read: that happens on the clock."""
    other = load_manifest(folder)
    for split in ("train", "validation"):
        if (other.classes, other.splits[split].per_class) != (dataset.classes, dataset.splits[split].per_class):
            raise ConfigError(f"{folder}: {differing(other, dataset, split)}. Make it from the same dataset")
    form, splits = reads(name).form, stored_splits(config)
    if form == "arrays":
        check_packed(folder, splits=splits)
        side = packed_side(folder, splits[-1])
        if config.shift >= side:
            raise ConfigError(
                f"--shift {config.shift}: must be smaller than the stored images of {side} px in {folder}"
            )
    elif form == "packed tree":
        check_packed_tree(folder, splits=splits)
    elif form == "files":
        for index in open_index(folder, splits=splits).values():
            check_images(folder, index)
        if has_segments(other, splits):
            open_segments(folder, splits)


def differing(other: Manifest, dataset: Manifest, split: str) -> str:
    """In what the images of a split are not those of the first phase's folder."""
    missing, added = set(dataset.classes) - set(other.classes), set(other.classes) - set(dataset.classes)
    if missing or added:
        words = [
            f"{word} {', '.join(sorted(names)[:3])}" for word, names in (("lacks", missing), ("adds", added)) if names
        ]
        return f"its classes are not those of the other phases ({'; '.join(words)})"
    here, there = other.splits[split], dataset.splits[split]
    place = next(p for p, (a, b) in enumerate(zip(here.per_class, there.per_class, strict=True)) if a != b)
    return (
        f"{here.images} {split} images, {there.images} in the other phases' folders "
        f"({here.per_class[place]} and {there.per_class[place]} of class {dataset.classes[place]})"
    )


def check_for_trees(config: Config) -> None:
    """Raises: ConfigError for a part of the memory loader's that is on."""
    for flag in ("shift", "cutout", "brightness", "contrast"):
        if value := getattr(config, flag):
            raise ConfigError(
                f"--{flag} {value}{origin(config, flag)}: for the memory loader; image trees are cut at random "
                f"(min_scale in the phases). Leave it off: --{flag} 0"
            )
    if not config.antialias:
        raise ConfigError(
            f"--no-antialias{origin(config, 'antialias')}: for the memory loader; of image trees every loader resizes "
            "antialiased. Use --antialias"
        )


def check_augmentation(config: Config, name: str, schedule: Schedule) -> None:
    if reads(name).form == "arrays":
        if any(phase.rect_val for phase in schedule.data):
            raise ConfigError("rect_val: packed images of one shape cannot be validated in rectangles. Leave it out")
        if config.policy != "none":
            raise ConfigError(
                f"--policy {config.policy}{origin(config, 'policy')}: for image trees; the memory loader has --shift "
                "and --cutout. Of a set that has image files too, read these: --loader threads"
            )
    elif not is_own(name):  # which may have them
        check_for_trees(config)
    if config.policy == "timm-randaugment" and config.policy_magnitude > 10:
        raise ConfigError(
            f"--policy-magnitude {config.policy_magnitude:g}: the levels of --policy timm-randaugment end at 10"
        )
    if config.repeated_augmentation > 1 and config.flip == "alternating":
        raise ConfigError(
            f"--repeated-augmentation {config.repeated_augmentation}: an image does not come in every epoch, so "
            f"--flip alternating{origin(config, 'flip')} has no turns. Use --flip random"
        )
    if name == "processes" and not can_share_memory():
        raise ConfigError("--loader processes: needs Linux (memfd_create). Use --loader threads")
    if name == "dali" and not has_dali():
        raise ConfigError(
            "--loader dali: DALI is not installed. pip install nvidia-dali-cuda130, or --loader torchvision"
        )


def check_batch(config: Config, phase: DataPhase, images: int, world_size: int) -> None:
    steps = config.steps_of(images // (phase.bs * world_size))
    if not steps:
        raise ConfigError(
            f"{config.data}: batch {phase.bs} of the phase at epoch {phase.epoch} exceeds the {images} "
            f"training images. Use a smaller bs or --batch-size"
        )
    if phase.bs % config.accumulate:
        raise ConfigError(
            f"--accumulate {config.accumulate}: the phase at epoch {phase.epoch} has batches of {phase.bs}, "
            "which do not divide by it. Use another bs or --accumulate"
        )
    if config.ema_decay and config.ema_every > steps:
        raise ConfigError(
            f"--ema-every {config.ema_every}: the phase at epoch {phase.epoch} has {steps} steps an epoch, so its "
            f"average would never be updated. Use {steps} or less"
        )


def index_of(config: Config, folder: str) -> dict[str, ImageIndex]:
    """The index of every split of the run; made from the arrays for a packed set that has no image files (synthetic
    images need only its sizes)."""
    manifest, splits = load_manifest(folder), stored_splits(config)
    if has_files(manifest, lambda split: [index_name(split)]):
        stored = open_index(folder, splits=splits)
    else:
        packed = open_packed(folder, False, splits)
        stored = {split: array_index(part.images.shape, part.labels) for split, part in packed.items()}
    found = sources(config, stored["train"].labels)
    return {split: picked(stored[source.split], source.rows) for split, source in found.items()}


def picked(index: ImageIndex, rows: np.ndarray | None) -> ImageIndex:
    """The rows of an index; None: all."""
    if rows is None:
        return index
    return ImageIndex(**{item.name: getattr(index, item.name)[rows] for item in fields(index)})


def oversized(config: Config, schedule: Schedule, phase: DataPhase) -> str:
    """Advice when the stored training images are much larger than the phase's size, else ''."""
    folder = config.data.rstrip("/") + phase.trndir
    if not reads_files(loader_name(config, schedule)):
        return ""
    short = short_sides(config, folder)
    if short < ROOMY * phase.sz:
        return ""
    size = -(-phase.sz * 5 // 4 // 32) * 32
    return (
        f"the phase at epoch {phase.epoch} trains at {phase.sz} px and reads images of {short} px (median short side): "
        f"python -m data_prep resize {quoted(config.data)} --sizes {size}, then 'trndir': '-sz/{size}'"
    )


def short_sides(config: Config, folder: str) -> int:
    """Median short side of the training images in pixels."""
    index = index_of(config, folder)["train"]
    return int(np.median(np.minimum(index.heights, index.widths)))


def array_index(shape: tuple[int, ...], labels: np.ndarray) -> ImageIndex:
    count = len(labels)
    heights, widths = (np.full(count, side, np.int32) for side in shape[1:3])
    return ImageIndex(np.zeros(count, np.bytes_), labels, widths, heights, np.zeros(count, np.int64))
