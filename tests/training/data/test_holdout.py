"""--holdout: two parts of the training images, the same for every loader, rank and run of a seed; the validation images
of the dataset stay closed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from opened_files import FEW, OpenedFiles
from refusals import training_refused
from tiny_run import PHASES, events, flags, tiny_job, train

from data_prep import load_manifest, open_packed
from data_prep.formats.image_index import open_index
from data_prep.formats.packed import packed_side
from dawn import read_run
from phases import Schedule
from training.__main__ import main
from training.config.config import Config
from training.config.saved import read_config
from training.data.dataset import checked_dataset, has_dali
from training.data.holdout import held_counts, sources
from training.data.loader import open_loader
from training.distributed.env import Env
from training.engine.evaluate import evaluate
from training.engine.trainer import enter_phase
from training.errors import Outcome

SLOW = pytest.mark.slow
NAMES = ("memory", *(pytest.param(name, marks=SLOW) for name in ("packed", "processes", "threads", "torchvision")))
DALI = [pytest.param("dali", marks=SLOW)] if has_dali() else []
CONFIG = Config(phases=PHASES, seed=5, holdout=0.25, workers=1)
LABELS = np.repeat(np.arange(4), [70, 50, 30, 10])


def loader_of(toy, name: str, world_size: int = 1, rank: int = 0, **settings):
    """In the first phase, a batch of 60 over all ranks."""
    config = replace(CONFIG, data=str(toy), loader=name, **settings)
    schedule, env = Schedule.parse(PHASES), Env(torch.device("cpu"), rank, world_size)
    loader = open_loader(config, schedule, checked_dataset(config, schedule), env, torch.float32)
    loader.set_phase(replace(schedule.data[0], bs=60 // world_size, val_bs=16))
    return loader


def rows(loader, batches) -> list[int]:
    found = torch.cat([batch.rows for batch in batches]).tolist()
    loader.close()
    return found


@pytest.mark.parametrize("holdout", [0.1, 0.5, 0.99, 4, 17, 100, 155])
def test_every_image_is_in_one_part_and_each_class_gives_its_share(holdout):
    train_rows, held = (source.rows for source in sources(Config(holdout=holdout, seed=3), LABELS).values())
    assert sorted([*train_rows, *held]) == list(range(160))
    assert len(held) == (round(160 * holdout) if holdout < 1 else holdout)
    shares = np.bincount(LABELS[held], minlength=4) - len(held) * np.array([70, 50, 30, 10]) / 160
    assert np.abs(shares).max() < 1


def test_the_parts_are_a_function_of_the_seed_and_a_larger_part_holds_a_smaller_one():
    held = {seed: sources(Config(holdout=0.2, seed=seed), LABELS)["validation"].rows.tolist() for seed in (0, 1)}
    again = sources(Config(holdout=0.2, seed=0, flip="none", loader="threads"), LABELS)["validation"].rows.tolist()
    more = sources(Config(holdout=0.4, seed=0), LABELS)["validation"].rows.tolist()
    assert held[0] == again != held[1] and set(held[0]) < set(more)


def test_counts_add_up_for_classes_of_any_size():
    generator = np.random.default_rng(0)
    for _ in range(200):
        per_class = generator.integers(1, 2000, 100).tolist()
        wanted = int(generator.integers(1, sum(per_class)))
        counts = held_counts(wanted, per_class)
        assert sum(counts) == wanted
        assert all(0 <= count <= images for count, images in zip(counts, per_class, strict=True))


def test_no_holdout_is_the_dataset_as_it_is(toy):
    config = replace(CONFIG, data=str(toy), holdout=0.0)
    assert checked_dataset(config, Schedule.parse(PHASES)) == load_manifest(toy)


@pytest.mark.parametrize("name", [*NAMES, *DALI])
def test_loaders_and_ranks_show_the_same_parts(toy, name):
    """60 of 240 are held out; pictures of the parts are the stored pictures of their rows."""
    settings = {} if name == "memory" else {"shift": 0}
    loader = loader_of(toy, name, **settings)
    parts = sources(CONFIG, open_packed(toy)["train"].labels)
    assert (loader.train_images, loader.validation_images) == (180, 60)
    labels = {"train": [], "validation": []}
    for split, batches in (("train", loader.train(0)), ("validation", loader.validation())):
        labels[split] = [
            pair for batch in batches for pair in zip(batch.rows.tolist(), batch.targets.tolist(), strict=True)
        ]
    loader.close()
    stored = open_index(toy)["train"].labels
    for split, source in parts.items():
        assert dict(labels[split]) == dict(enumerate(stored[source.rows].tolist()))
        assert len(labels[split]) == len(source.rows)
    two = [loader_of(toy, name, 2, rank, **settings) for rank in range(2)]
    order = [step for steps in zip(*(list(rank.train(0)) for rank in two), strict=True) for step in steps]
    assert torch.cat([batch.rows for batch in order]).tolist() == [row for row, _ in labels["train"]]
    assert sorted(row for rank in two for row in rows(rank, rank.validation())) == list(range(60))


def test_the_memory_loader_shows_the_pixels_of_the_held_images(toy):
    loader = loader_of(toy, "memory")
    packed = open_packed(toy)["train"]
    parts = sources(CONFIG, packed.labels)
    for split, data in (("train", loader.train_data), ("validation", loader.validation_data)):
        assert np.array_equal(data[0].numpy(), packed.images[parts[split].rows])


@pytest.mark.parametrize("place", ["ram", "device"])
def test_packed_pictures_are_those_of_the_files(toy, place):
    one, other = loader_of(toy, "packed", packed_in=place), loader_of(toy, "threads")
    for split in ("train", "validation"):
        pictures = [loader.pictures(split, torch.arange(0, 60, 7)) for loader in (one, other)]
        assert (pictures[0] - pictures[1]).abs().mean() < 0.05  # JPEG decoders differ by a level
    one.close()
    other.close()


@pytest.mark.parametrize("loader", FEW.values(), ids=FEW)
def test_the_validation_images_are_never_opened(toy, tmp_path, loader):
    opened = OpenedFiles([toy, *(toy / "validation").iterdir()])
    more = ["--shift", "0"] if loader else []
    with tiny_job(toy, tmp_path / "run", *more, *loader, "--workers", "1", "--holdout", "60") as job:
        enter_phase(job, job.parts(0)[0])
        next(job.loader.train(0))
        model, images = job.state.evaluated_model(), job.loader.validation_images
        told = {"size": 12, "weights": "model"}
        seen = evaluate(model, job.loader.validation(), images, job.state.precision, "none", job.env.group, **told)
        job.loader.close()
    assert seen.images == 60
    names = {path.relative_to(toy).parts[0] for path in opened.names()}
    assert "manifest.json" in names and not {name for name in names if name.startswith("validation")}


def test_a_run_without_its_validation_images_trains_and_its_reports_call_it_a_trial(toy, tmp_path, capsys):
    folder = tmp_path / "run"
    assert train(toy, folder, "--holdout", "0.1", "--target", "99.9") == 3
    start, row = read_run(folder).start, read_run(folder).rows[-1]
    assert (start.dataset["train_images"], start.dataset["validation_images"]) == (216, 24)
    assert row.validation.images == 24 and row.steps == 216 // 40
    assert start.config["holdout"] == 0.1 and "holdout" in start.changed
    assert start.trials == ["it was validated on 24 held-out training images (--holdout)"]
    assert start.trials[0] in capsys.readouterr().out
    assert read_config(folder).holdout == 0.1


def test_a_dry_run_counts_the_steps_of_the_rest(toy, tmp_path, capsys):
    """216 images: 3 steps of 60, and 5 of 40."""
    assert main([*flags(toy, tmp_path / "run"), "--holdout", "0.1", "--dry-run"]) == 0
    assert "total: 2 epochs, 8 steps, 380 images" in capsys.readouterr().out


def test_resume_keeps_the_holdout(toy, tmp_path, capsys):
    folder = tmp_path / "run"
    stop = json.dumps({"kind": "term", "epoch": 1, "step": 2})
    assert train(toy, folder, "--holdout", "0.1", "--inject-fault", stop) == Outcome.PREEMPTED.exit_code
    capsys.readouterr()
    training_refused(capsys, ["--resume", str(folder), "--holdout", "0.2"], "holdout: 0.1 in the checkpoint, 0.2 now")
    assert main(["--resume", str(folder)]) == 0
    assert [row.validation.images for row in read_run(folder).rows] == [24, 24]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("-1", "--holdout -1.0: must be from 0 to 1e+09"),
        ("nan", "--holdout nan: must be from 0 to 1e+09"),
        ("12.5", "--holdout 12.5: must be a share below 1 or a whole number of images"),
        ("240", "--holdout 240: there are 240 training images. Hold out fewer"),
        ("1", "--holdout 1: leaves no validation image of class"),
        ("0.999", "--holdout 0.999: "),
        ("0.0001", "--holdout 0.0001: leaves no validation image of class"),
        ("0.99", "--holdout 0.99: leaves no training image of class"),
        ("0.9", "exceeds the 24 training images"),
    ],
)
def test_a_bad_holdout_is_one_line(toy, tmp_path, capsys, value, told):
    training_refused(capsys, flags(toy, tmp_path / "run", "--holdout", value), told)
    assert not (tmp_path / "run").exists()


def test_the_side_of_packed_images_is_known_without_opening_them(toy):
    assert packed_side(toy, "train") == packed_side(toy) == 32


@pytest.mark.slow
def test_a_run_from_image_files_logs_the_parts(toy, tmp_path):
    assert train(toy, tmp_path / "run", "--holdout", "48", "--loader", "threads", "--shift", "0", "--workers", "1") == 0
    assert [event["validation"]["images"] for event in events(tmp_path / "run")] == [48, 48]
