"""Runs whose data phase begins inside an epoch and whose last epoch is cut: steps, images, log, reports and resume."""

import json
from itertools import islice

import pytest
from opened_files import FEW
from refusals import training_refused
from run_toy import EVERY_STEP, KILLED, fault, result, run, start_server, toy_arguments
from tiny_run import events, flags, tiny_job, train
from two_ranks import TIMEOUT, codes, run_ranks

from dawn import read_run
from dawn.__main__ import main as dawn_main
from dawn.dawnbench.tsv import tsv
from dawn.importers.read import run_curve
from dawn.runlog.run import read_run_and_events
from dawn.runlog.steps import logged_steps
from training.__main__ import main
from training.engine.trainer import place_of
from training.errors import Outcome

PHASES = (
    "[{'ep': 0, 'sz': 12, 'bs': 60}, {'ep': 0.5, 'sz': 16, 'bs': 40}, {'ep': (0, 0.75), 'lr': (0.0, 0.1)}, "
    "{'ep': (0.75, 1.65), 'lr': (0.1, 0.0)}]"
)
STEPS = (5, 4)  # 2 of 60 images and 3 of 40; 0.65 of 6
PREEMPTED = Outcome.PREEMPTED.exit_code


@pytest.fixture(scope="module")
def folder(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train(toy, folder, "--phases", PHASES, "--print-freq", "1") == 0
    return folder


def test_the_log_has_the_parts_of_an_epoch_and_the_end_of_a_cut_one(folder):
    whole, cut = read_run(folder).rows
    assert [(row.steps, row.images, row.images_seen) for row in (whole, cut)] == [(5, 240, 240), (4, 160, 400)]
    assert (whole.until, cut.until, whole.size, cut.size) == (1, 1.65, 16, 16)
    assert [(part["start"], part["size"], part["steps"]) for part in whole.parts] == [(0, 12, 2), (0.5, 16, 3)]
    assert whole.lr == pytest.approx((0.1 * 0.25 / 0.75, 0.1 * 0.65 / 0.9)) and cut.lr[1] == 0.0
    assert [event["epoch"] for event in events(folder, "phase")] == [0, 0.5]
    assert [row.validation is not None for row in (whole, cut)] == [True, True]


def test_a_short_epoch_ends_inside_the_first_of_two_parts(toy, tmp_path):
    phases = "[{'ep': 0, 'sz': 12, 'bs': 4}, {'ep': 0.5, 'sz': 16, 'bs': 4}, {'ep': (0, 1), 'lr': 0.1}]"
    assert train(toy, tmp_path / "run", "--phases", phases, "--short-epoch", "--print-freq", "1") == 0
    (row,) = read_run(tmp_path / "run").rows
    assert row.steps < 30 and row.images == row.images_seen == 4 * row.steps
    assert [part["steps"] for part in row.parts] == [row.steps, 0]


def test_positions_of_logged_steps_are_those_of_the_schedule(folder):
    found = [step.position for step in logged_steps(*read_run_and_events(folder))]
    ends = [0.25, 0.5, 0.5 + 0.5 / 3, 0.5 + 1 / 3, 1, *(1 + 0.65 * step / 4 for step in (1, 2, 3, 4))]
    assert found == pytest.approx(ends) and len(found) == sum(STEPS)


def test_reports_tell_where_a_cut_epoch_ended(folder, tmp_path, capsys):
    assert [line.split("\t")[0] for line in tsv(read_run(folder)).splitlines()] == ["epoch", "1", "1.65"]
    assert "1.65 of 1.65" in (folder / "summary.txt").read_text()
    assert [point.epoch for point in run_curve(folder).points] == [1, 1.65]
    assert dawn_main(["check", str(folder)]) == 0
    misc = json.loads((folder / "entry.draft.json").read_text())["misc"]
    assert misc["epochs"] == 1.65 and misc["lastEvaluation"]["epoch"] == 1.65
    assert misc["imageSize"] == [{"image_size": 12, "epochs": "0-0.5"}, {"image_size": 16, "epochs": "0.5-1.65"}]
    assert "best in epoch 1" in (folder / "summary.txt").read_text()
    assert dawn_main(["report", str(folder), "--out", str(tmp_path / "page.html")]) == 0
    assert main(["evaluate", str(folder), "--tta", "none"]) == 0
    assert "after 1.65 epochs" in capsys.readouterr().out


@pytest.mark.parametrize("loader", FEW.values(), ids=FEW)
def test_every_image_comes_once_in_an_epoch_of_two_parts_from_any_step_on(toy, tmp_path, loader):
    more = ["--shift", "0", "--flip", "none"] if loader else []
    with tiny_job(toy, tmp_path / "run", "--phases", PHASES, *more, *loader, "--workers", "1") as job:
        rows = []
        for part in job.parts(0):
            job.loader.set_phase(*place_of(part))
            batches = list(islice(job.loader.train(0, part.first_step), part.steps))
            later = next(job.loader.train(0, part.first_step + 1))
            assert later.rows.tolist() == batches[1].rows.tolist() and job.loader.steps >= part.stop_step
            rows += [row for batch in batches for row in batch.rows.tolist()]
        job.loader.close()
    assert sorted(rows) == list(range(240))


@pytest.mark.parametrize(
    "place", [(0, 2), *(pytest.param(place, marks=pytest.mark.slow) for place in ((0, 1), (0, 4), (1, 0), (1, 3)))]
)
def test_a_stopped_run_goes_on_to_the_same_bits(toy, tmp_path, folder, place):
    """Before a border inside an epoch, at it, after it, and in an epoch that is cut."""
    stopped = tmp_path / "run"
    epoch, step = place
    given = ["--phases", PHASES, "--print-freq", "1", *fault("term", epoch=epoch, step=step)]
    assert train(toy, stopped, *given) == PREEMPTED
    assert main(["--resume", str(stopped)]) == 0
    assert result(stopped) == result(folder)


@pytest.mark.slow
@pytest.mark.parametrize("place", [(0, 2), (0, 3), (1, 3)])
@pytest.mark.parametrize("loader", [[], ["--loader", "threads", "--shift", "0", "--flip", "random"]])
def test_a_killed_run_goes_on_to_the_same_bits(toy, tmp_path, loader, place):
    start_server()
    phases = PHASES.replace("12", "32").replace("16,", "40,")
    given = [*loader, "--phases", phases, "--checkpoint-minutes", EVERY_STEP]
    assert run(*toy_arguments(toy, tmp_path / "whole", *given)).code == 3
    killed = fault("kill", epoch=place[0], step=place[1])
    assert run(*toy_arguments(toy, tmp_path / "killed", *given, *killed)).code == KILLED
    assert run("--resume", tmp_path / "killed").code == 3
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


@pytest.mark.slow
def test_two_ranks_hold_out_the_same_images_and_go_on_inside_a_divided_epoch(toy, tmp_path):
    """216 images: 2 steps of 60 and 2 of 40, then 0.65 of 5."""
    halves = PHASES.replace("60", "30").replace("40", "20")
    start_server()
    given = ["--holdout", "0.1", *TIMEOUT, "--checkpoint-minutes", EVERY_STEP]
    killed = fault("kill", epoch=0, step=3)
    two = toy_arguments(toy, tmp_path / "two", *given, "--phases", halves)
    assert codes(run_ranks(*two, *killed))[0] == KILLED
    assert codes(run_ranks("--resume", tmp_path / "two")) == [3, 3]
    assert run(*toy_arguments(toy, tmp_path / "one", *given, "--phases", PHASES)).code == 3
    runs = [read_run(tmp_path / name) for name in ("one", "two")]
    facts = [[(row.steps, row.images, row.until, row.validation.images) for row in run.rows] for run in runs]
    assert facts[0] == facts[1] == [(4, 200, 1, 24), (3, 120, 1.65, 24)]
    assert runs[1].rows[-1].train_loss == pytest.approx(runs[0].rows[-1].train_loss, rel=0.05)


@pytest.mark.parametrize(
    ("phases", "told"),
    [
        (PHASES.replace("0.5,", "0.25,"), "begins at a whole or half epoch, not at 0.25"),
        (PHASES.replace("1.65", "1.01"), "epochs 1 to 1.01: no step of 40 of the 240 training images"),
    ],
)
def test_bad_parts_are_one_line(toy, tmp_path, capsys, phases, told):
    training_refused(capsys, flags(toy, tmp_path / "run", "--phases", phases), told)


def test_a_loader_of_ones_own_is_refused_inside_an_epoch(toy, tmp_path, capsys):
    (tmp_path / "own.py").write_text("def load(config, schedule, dataset, env, dtype): ...\n")
    given = ["--phases", PHASES, "--loader", f"{tmp_path}/own.py:load"]
    training_refused(capsys, flags(toy, tmp_path / "run", *given), "the phase at epoch 0.5 begins inside an epoch")
