"""Nothing of the training images is read before the clock starts, whatever the loader: the kernel tells of every file
that any process or library opens."""

import shutil
from pathlib import Path

import pytest
from opened_files import LOADERS, OpenedFiles
from tiny_run import events, tiny_job, train

from data_prep.formats.packed import packed_names
from data_prep.formats.packed_tree import packed_tree_names
from training.engine.trainer import enter_phase

PIXELS = (*packed_names("train"), packed_tree_names("train")[0])


def training_images(paths: set[Path], root: Path) -> set[str]:
    names = {str(path.relative_to(root)) for path in paths}
    return {name for name in names if name in PIXELS or name.startswith("train/")}


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
def test_no_training_image_is_opened_before_the_clock_starts(toy, tmp_path, loader):
    opened = OpenedFiles([toy, *(toy / "train").iterdir()])
    more = ["--shift", "0"] if loader else []
    with tiny_job(toy, tmp_path / "run", *more, *loader, "--workers", "1") as job:
        assert not job.state.clock.started
        if "dali" in loader:
            assert job.loader.renderer.pipeline is not None
        before = opened.names()
        assert toy / "manifest.json" in before and not training_images(before, toy)
        job.state.clock.start()
        enter_phase(job, job.parts(0)[0])
        next(job.loader.train(0))
        assert training_images(opened.names(), toy)
        job.loader.close()


def test_pixels_that_are_not_those_of_the_manifest_end_the_run_on_the_clock(toy, tmp_path, capsys):
    """Their hash needs every byte of the training images, so it is verified where they are read."""
    copy = shutil.copytree(toy, tmp_path / "toy", ignore=lambda folder, names: ["train", "validation"])
    pixels = bytearray((copy / "train.images.npy").read_bytes())
    pixels[-1] ^= 1
    (copy / "train.images.npy").write_bytes(pixels)
    assert train(copy, tmp_path / "run") == 2
    assert "train.images.npy: SHA-256 differs from the manifest" in capsys.readouterr().err
    stop = events(tmp_path / "run", "stop")[0]
    assert (stop["outcome"], stop["exit_code"]) == ("crashed", 2) and stop["clock"]["prepare_train"] > 0


def test_what_the_seed_decides_and_setting_the_phase_is_in_t_prepare_train(toy, tmp_path):
    with tiny_job(toy, tmp_path / "run") as job:
        clock = job.state.clock
        drawn = clock.setup_seconds()["prepare"]
        assert drawn > 0
        clock.start()
        with clock.during("switch"):
            enter_phase(job, job.parts(0)[0])
        readings = clock.readings()
        assert readings["train"] == 0 and readings["prepare_train"] == pytest.approx(drawn + clock.seconds()["switch"])
        job.loader.close()
