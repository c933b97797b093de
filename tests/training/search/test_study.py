"""What a search keeps and makes of its trials; here they are told by hand, and no network is trained."""

import csv
import html
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from dawn_script import scripted_run
from long_run import long_run
from optuna.trial import Trial, TrialState, create_trial

from dawn import read_run
from phases import Schedule
from training.config.recipes.registry import recipe_config
from training.errors import ConfigError
from training.search import results
from training.search.confirm import compared, confirmed, reaches, sides_of
from training.search.explore import first_run, missed, prepared
from training.search.first import CHANGES, first_choices, start_inside
from training.search.page import point, write_page
from training.search.settings import parsed
from training.search.space import choices_of, phases_of, space_of, start_of
from training.search.storage import open_study
from training.search.trials import (
    GRID,
    Child,
    all_choices,
    command_of,
    curve,
    report,
    spent_seconds,
    try_next,
)
from training.search.winner import most_accurate, ranking, reaching, to_repeat


def told(study, job, seconds, accuracy, **choices):
    """A trial of these choices, otherwise of the start."""
    mine = {name: choices_of(job.start)[name] for name in job.space.distributions} | choices
    study.enqueue_trial(mine)
    trial = study.ask(fixed_distributions=job.space.distributions)
    facts = {
        "planned_seconds": seconds,
        "accuracy": accuracy,
        "images": 5000,
        "wall_seconds": 2 * seconds,
        "reason": "",
    }
    for name, value in facts.items():
        trial.set_user_attr(name, value)
    return study.tell(trial, seconds, state=TrialState.COMPLETE)


def test_the_first_trial_is_the_start(study, job):
    trial = study.ask(fixed_distributions=job.space.distributions)
    assert all_choices(job, trial.params) == choices_of(job.start)


def test_the_next_ones_are_what_people_try_by_hand_each_in_the_space(job):
    start = choices_of(job.start)
    first, *others = first_choices(start, job.space)
    assert first == start and len(others) == len(CHANGES) and {"none", "flip"} == {made["tta"] for made in others}
    for made in others:
        differing = {name for name in made if made[name] != start[name]}
        ranges = {name: job.space.distributions[name] for name in differing}
        assert 1 <= len(differing) <= 2 and create_trial(  # which raises for what is not in its range
            params={name: made[name] for name in differing}, distributions=ranges, value=0.0
        )
    assert min(made["epochs"] for made in others) == pytest.approx(0.7 * start["epochs"])
    fixed = replace(job.space, distributions={"lr": job.space.distributions["lr"]})
    assert [made["lr"] / start["lr"] for made in first_choices(start, fixed)] == pytest.approx([1, 1.4, 0.7])


@pytest.mark.parametrize(
    "words", ["--epochs 3", "--batch-size 32", "--size-factor 0.5", "--scale-lr", "--start-epoch 2"]
)
def test_a_flag_that_changes_the_schedule_is_refused(toy, words):
    """The plan of a trial was without it, its run with it."""
    flag, *_ = given = words.split()
    with pytest.raises(ConfigError, match=f"^{flag}: a search plans .* --phases .* --space"):
        parsed([str(toy), "--recipe", "toy", "--target", "90", "--budget", "10m", *given])


def test_a_search_without_a_target(toy):
    """It was a traceback."""
    with pytest.raises(ConfigError, match=r"^search: needs a target"):
        parsed([str(toy), "--recipe", "toy", "--target", "", "--budget", "10m"])


def test_no_trial_has_a_seed_of_the_confirmation(toy):
    words = [str(toy), "--recipe", "toy", "--target", "90", "--budget", "10m", "--trials", "500", "--seed"]
    with pytest.raises(ConfigError, match=r"^--seed 999999501: trials count from it"):
        parsed([*words, "999999501"])
    assert parsed([*words, "999999500"]).seed == 999999500


def spaced(job, changes):
    """The search with a --space file of these changes."""
    path = job.settings.folder.parent / "space.json"
    path.write_text(json.dumps(changes))
    return job._replace(settings=replace(job.settings, space=str(path)), space=space_of(job.start, False, str(path)))


def test_a_start_outside_the_given_space_begins_with_what_is_nearest(job):
    """Choices without the start's were a traceback, and a range without it was left by the first trial."""
    sizes, texts, epochs = {"choices": [12, 24, 32]}, {"choices": ["flip-shift"]}, {"low": 1.5, "high": 3, "step": 0.5}
    job = spaced(job, {"size_1": sizes, "tta": texts, "epochs": epochs, "lr_end": 0.1})
    start = choices_of(job.start)
    assert start["size_1"] == 16 and start["epochs"] == 6 and start["lr_end"] == 0
    first = first_choices(start_inside(start, job.space), job.space)
    study = open_study(job.settings, job.space, first)
    for made in first:
        trial = study.ask(fixed_distributions=job.space.distributions)
        assert all_choices(job, trial.params | job.space.fixed) == made
        create_trial(params=trial.params, distributions=job.space.distributions, value=0.0)  # raises: out of range
    want = {"size_1": 12, "tta": "flip-shift", "epochs": 3.0, "lr_end": 0.1}
    assert first[0] == start | want


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"tta": "mirror"}, "--tta 'mirror': choose from"),
        ({"epochs": 0}, "the range begins at 0 and ends at 0"),
        ({"size_1": 4}, "'sz' must be a whole number from 8"),
        ({"size_1": 32, "size_3": 16}, "its images get smaller (32, 16 px)"),
    ],
)
def test_fixed_values_that_no_run_can_have_are_one_line(job, changes, found):
    """Each trial was refused, a thousand of them."""
    job = spaced(job, changes)
    with pytest.raises(ConfigError, match=f"^--space {job.settings.space}: the start with these values") as error:
        prepared(job.settings)
    assert found in str(error.value) and "\n" not in str(error.value)


def test_the_first_run_has_the_fixed_values(job):
    config, schedule = first_run(spaced(job, {"epochs": 2, "tta": "flip"}))
    assert config.tta == "flip" and schedule.total_epochs == 2 and first_run(job)[1].total_epochs == 6


def test_a_lucky_trial_falls_back_when_its_choices_run_again(study, job):
    study.ask(fixed_distributions=job.space.distributions)
    told(study, job, 9.0, 90.4, lr=0.1)
    for accuracy in (90.3, 90.4, 90.5):
        told(study, job, 10.0, accuracy, lr=0.3)
    assert to_repeat(study, 90.0, 0.5) is None  # not yet the last third of the budget
    study.enqueue_trial({"lr": 0.15})
    assert to_repeat(study, 90.0, 0.7) is None  # others wait
    study.ask(fixed_distributions=job.space.distributions)
    lucky = to_repeat(study, 90.0, 0.7)
    assert lucky.params["lr"] == 0.1 and lucky.runs == 1
    for accuracy in (89.5, 89.6):
        told(study, job, 9.0, accuracy, lr=0.1)
    best, *_ = ranking(study, 90.0)
    assert best.params["lr"] == 0.3 and best.runs == 3 and to_repeat(study, 90.0, 0.7) is None
    assert best.evidence.mean == pytest.approx(90.4) and best.expected_seconds > 10


def test_a_fast_choice_just_below_the_target_hides_none_that_reaches_it(study, job):
    """It was expected to reach the target soonest, with restarts: the search told that no choice does."""
    study.ask(fixed_distributions=job.space.distributions)
    told(study, job, 40.0, 93.9, lr=0.1)
    told(study, job, 100.0, 94.4, lr=0.3)
    ranked = ranking(study, 94.0)
    assert [one.params["lr"] for one in ranked] == [0.1, 0.3]
    assert reaching(ranked, 94.0) == ranked[1] == most_accurate(ranked) and reaching(ranked, 95.0) is None
    for accuracy in (93.9, 93.9):
        assert to_repeat(study, 94.0, 0.7).params["lr"] == 0.1
        told(study, job, 40.0, accuracy, lr=0.1)
    assert to_repeat(study, 94.0, 0.7).params["lr"] == 0.3


def test_the_same_command_goes_on_and_another_search_is_refused(study, job):
    told(study, job, 9.0, 90.4)
    again = open_study(job.settings, job.space, [choices_of(job.start)])
    assert len(again.get_trials(states=(TrialState.COMPLETE,))) == 1 and spent_seconds(again) == 18.0
    with pytest.raises(ConfigError, match="holds another search"):
        open_study(replace(job.settings, target=91.0), job.space, [choices_of(job.start)])


def test_what_a_search_leaves(study, job):
    study.tell(study.ask(fixed_distributions=job.space.distributions), state=TrialState.FAIL)
    told(study, job, 9.0, 91.0, lr=0.1)
    told(study, job, 12.0, 92.0)
    told(study, job, 11.0, 90.0)
    best = ranking(study, 90.0)[0]
    chosen = all_choices(job, best.params)
    folder = job.settings.folder
    results.write_trials(folder / "trials.csv", study)
    results.write_best(folder / "best.json", job.settings, phases_of(job.start, chosen), best)
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["fail", *["complete"] * 3] and float(rows[1]["lr"]) == 0.1
    assert [p["percent"] for p in results.front(map(point, study.trials[1:]))] == [91.0, 92.0]
    assert max(ramp.first for ramp in Schedule.parse(str(folder / "best.json")).lr) == pytest.approx(0.1)
    runs = {side: [{"seed": 1, "percent": 91.5, "seconds": 9.5}] for side in ("winner", "start")}
    write_page(job, study, best, runs)
    page = (folder / "search.html").read_text()
    assert (
        "Search: toy to 90 %" in page
        and "target reached in 1 of 1" in page
        and "4 (3 run to the end, 1 failed)" in page
    )
    command = results.command_of_best(job.settings, chosen)
    assert command in html.unescape(page) and f"--weight-decay {chosen['weight_decay']}" in command
    write_page(job, study, None, {})
    assert "winner on held-out images" not in (folder / "search.html").read_text()


def test_two_processes_write_into_one_folder(study, job):
    """The unfinished file of one was renamed by the other. Under a database nothing had made the folder before."""
    folder = job.settings.folder.parent / "another"
    told(study, job, 9.0, 91.0)
    best = ranking(study, 90.0)[0]

    def write(number):
        results.write_trials(folder / "trials.csv", study)
        results.write_best(folder / "best.json", job.settings, [{"ep": number}], best)
        return json.loads((folder / "best.json").read_text())

    with ThreadPoolExecutor(4) as threads:  # the lock is between files that are open: threads are as good as processes
        assert all(threads.map(write, range(40)))
    assert {path.name for path in folder.iterdir()} == {".lock", "best.json", "trials.csv"}


def test_a_trial_trains_on_held_out_images_with_a_seed_of_its_own(job):
    words = command_of(job, choices_of(job.start), [{"ep": 0}], Path("trials/0007"), 7)
    assert words[words.index("--holdout") + 1] == "0.1" and words[words.index("--seed") + 1] == "7"
    assert json.loads(words[words.index("--phases") + 1]) == [{"ep": 0}] and "--no-stop-at-target" in words


def test_before_a_run_has_begun_there_is_no_curve(job):
    assert list(curve(None, job, 10.0)) == []


@pytest.mark.parametrize(("percent", "pruned"), [(80, True), (84, False), (95, False)])
def test_the_pruner_ends_a_trial_behind_three_quarters_and_no_other(study, job, tmp_path, percent, pruned):
    """It kept the worst quarter alone: it took accuracy for an error, and the share to end for the share to keep."""

    def reported(accuracy: float) -> Trial:
        folder = scripted_run(tmp_path / f"{accuracy}", [(round(100 * accuracy), 9990)] * 5)
        trial = study.ask(fixed_distributions=job.space.distributions)
        report(trial, folder, job, 10.0, 0)
        return trial

    for other in range(81, 89):
        study.tell(reported(other + 0.5), 1.0)
    assert reported(percent).should_prune() == pruned


def test_flags_of_a_recipe_are_choices():
    assert choices_of(start_of(recipe_config("cifar10-94")))["label_smoothing"] == 0.2


def test_a_target_that_nothing_reaches_is_told_with_its_distance(study, job, capsys):
    assert missed(job, study, None) == 3
    assert "no trial has come to its end" in capsys.readouterr().out
    told(study, job, 9.0, 88.5)
    assert missed(job, study, ranking(study, 90.0)[0]) == 3
    assert "no choice reaches 90 %: the best is trial 0, 1.5 points below" in capsys.readouterr().out
    assert (job.settings.folder / "search.html").exists()


def test_a_trial_that_cannot_win_is_not_run(study, job):
    told(study, job, 9.0, 95.0, lr=0.1)  # the start, by now; the other choices wait
    told_again = try_next(job._replace(planned=lambda config, schedule: 1e6), study, 1e5)
    assert told_again.state == TrialState.PRUNED and "longer than the best" in told_again.user_attrs["reason"]


def test_a_repeat_is_run_even_if_it_is_longer_than_the_best(job):
    """It was refused, and came again for ever."""
    job = job._replace(settings=replace(job.settings, flags=["nowhere"]))  # its run ends at once
    study = open_study(job.settings, job.space, [])
    told(study, job, 9.0, 95.0)
    study.enqueue_trial(study.trials[0].params)
    assert try_next(job, study, 5.0).state == TrialState.FAIL  # planned: 10 s


def test_the_curve_of_a_run_that_ends_within_an_epoch_ends_with_its_planned_time(job, tmp_path):
    run = read_run(scripted_run(tmp_path))
    cut = replace(run.rows[-1], end=4.5)
    run = replace(run, rows=(*run.rows[:-1], cut), attempts=(replace(run.start, total_epochs=4.5),))
    points = dict(curve(run, job, 10.0))
    assert max(points) == GRID + 1 and points[GRID + 1] == 94.12 and points[GRID] == 94.0


def test_choices_that_are_no_schedule_are_not_run(study, job):
    def refuse(config, schedule):
        raise ConfigError("--model: cannot take images of 8 px")

    found = try_next(job._replace(planned=refuse), study, inf)
    assert found.state == TrialState.PRUNED and "no schedule: --model" in found.user_attrs["reason"]


def test_images_that_get_smaller_are_neither_planned_nor_run(study, job):
    sizes = {name: found.choices for name, found in job.space.distributions.items() if name.startswith("size_")}
    study.ask(fixed_distributions=job.space.distributions)  # the start
    start = {name: choices_of(job.start)[name] for name in job.space.distributions}
    study.enqueue_trial(start | {"size_1": max(sizes["size_1"]), "size_2": min(sizes["size_2"])})
    found = try_next(job._replace(planned=None), study, inf)
    assert found.state == TrialState.PRUNED and "images get smaller" in found.user_attrs["reason"]


def test_a_trial_that_is_ended_early_leaves_no_process(tmp_path):
    with (tmp_path / "log").open("w") as output, Child(["sleep", "60"], output) as child:
        assert child.poll() is None
    assert child.returncode == -signal.SIGTERM


def test_the_confirmation_is_told_apart_by_side(job):
    sides = sides_of(job.settings, [{"ep": 0}], choices_of(job.start))
    for side, best in (("winner", 94.6), ("start", 93.1)):
        for seed in (0, 1):
            long_run(sides[side].folder / f"seed-{seed}", epochs=4, seed=seed, best=best)
    found = confirmed(sides)
    assert [run["seed"] for run in found["winner"]] == [0, 1] and found["winner"][0]["seconds"] > 0
    assert reaches(found["winner"], 50.0) and not reaches([], 50.0)
    assert any("hit rate" in line for line in compared(sides, job.settings.folder / "confirm" / "compare.json"))


def test_another_winner_is_confirmed_in_another_folder(job):
    """Its runs would have gone into those of the winner before, and were refused at every start."""
    phases, others = [{"ep": 0, "sz": 16}], [{"ep": 0, "sz": 24}]
    start = choices_of(job.start)
    before, same, flag, sizes = (
        sides_of(job.settings, made, start | {"tta": tta})
        for made, tta in ((phases, "flip"), (phases, "flip"), (phases, "none"), (others, "none"))
    )
    assert before == same and before["start"] == flag["start"] == sizes["start"]
    assert len({side["winner"].folder for side in (before, flag, sizes)}) == 3


def test_a_confirmation_that_diverged_is_a_miss(study, job):
    """Without a validation it ended every later start; with one it was a short run of that accuracy."""
    sides = sides_of(job.settings, [{"ep": 0}], choices_of(job.start))
    ends = {"a": ([(9412, 9960)] * 5, "finished"), "b": ([(9412, 9960)] * 2, "diverged"), "c": ([None], "diverged")}
    for seed, (name, (correct, outcome)) in enumerate(ends.items()):
        scripted_run(sides["winner"].folder / f"seed-{name}", correct, outcome=outcome, seed=seed)
    runs = confirmed(sides)
    assert [run["percent"] for run in runs["winner"]] == [94.12, None, None]
    assert not reaches(runs["winner"], 90.0) and reaches(runs["winner"][:1], 90.0)
    write_page(job, study, None, runs)
    page = (job.settings.folder / "search.html").read_text()
    assert "target reached in 1 of 3, 2 diverged" in page and "start on the test images" in page
