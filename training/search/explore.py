"""The main path of a search: trials until the budget is used up, then the winner, its confirmation, the files."""

import statistics
from math import inf

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from dawn.commandline import quoted
from dawn.tables import percent_text
from phases import PhaseError, Schedule
from training.config.config import Config
from training.config.loaders import reads
from training.data.dataset import loader_name
from training.distributed.launcher import warn
from training.errors import EXIT_CODES, INTERRUPTED, ConfigError, Ended, Outcome
from training.plan.planner import Planner
from training.search import confirm, page, results
from training.search.first import first_choices, start_inside
from training.search.settings import Settings
from training.search.space import choices_of, never_shrinks, phases_of, space_of, start_of
from training.search.storage import at_work, free_lost_trials, open_study, running
from training.search.trials import Job, all_choices, config_of, spent_seconds, try_next
from training.search.winner import Candidate, most_accurate, ranking, reaching, to_repeat


def searched(settings: Settings) -> int:
    """The exit code: 3 where no trial reaches the target, or the winner does not on the test images. Raises:
    ConfigError."""
    job = prepared(settings)
    if job.settings.dry_run:
        print("\n".join(plan_lines(job)))
        return 0
    with at_work(settings.folder) as worker:
        return carried_out(job._replace(worker=worker))


def carried_out(job: Job) -> int:
    folder = job.settings.folder
    first = first_choices(start_inside(choices_of(job.start), job.space), job.space)
    study = open_study(job.settings, job.space, first)
    if lost := free_lost_trials(study, folder):
        print(f"going on: {len(study.trials)} trials are there, {lost} of a process that has ended come again")
    try:
        explore(job, study)
        return concluded(job, study)
    except KeyboardInterrupt:
        raise Ended(f"{folder}: interrupted. The same command goes on", INTERRUPTED) from None


def concluded(job: Job, study: Study) -> int:
    """The exit code, after the trials of this process."""
    free_lost_trials(study, job.settings.folder)
    if others := running(study):
        print(f"{len(others)} trials of other processes are under way: the last process to end tells the winner")
        return 0
    ranked = ranking(study, job.settings.target)
    best = reaching(ranked, job.settings.target)
    return finish(job, study, best) if best else missed(job, study, most_accurate(ranked))


def prepared(settings: Settings) -> Job:
    """Raises: ConfigError, before the first trial."""
    start = start_of(settings.config)
    is_tree = reads(loader_name(settings.config, start.schedule)).form in ("files", "packed tree")
    space = space_of(start, is_tree, settings.space)
    planner = Planner(warn)
    job = Job(settings, start, space, planner.total_seconds, 0.0)
    seconds = planner.total_seconds(*first_run(job))
    if seconds > settings.budget_seconds:
        raise ConfigError(
            f"--budget: {settings.budget_seconds:.0f} s is less than one trial, which takes {seconds:.0f} s as planned"
        )
    return job._replace(start_seconds=seconds)


def first_run(job: Job) -> tuple[Config, Schedule]:
    """The start inside the space. Raises: ConfigError for fixed values that no run can have."""
    choices, place = start_inside(choices_of(job.start), job.space), job.settings.space
    try:
        phases = phases_of(job.start, choices)
        check_fixed_sizes(job)
        schedule = Schedule.parse(phases)
        return config_of(job, choices, phases), schedule
    except (PhaseError, ConfigError) as error:
        where = f"--space {place}: the start with these values" if place else "search: the start"
        raise ConfigError(f"{where} cannot run: {error}") from None


def check_fixed_sizes(job: Job) -> None:
    """Raises: ConfigError where each trial would be refused for images that get smaller."""
    numbers = range(1, len(job.start.schedule.data) + 1)
    sizes = [job.space.fixed[f"size_{i}"] for i in numbers if f"size_{i}" in job.space.fixed]
    if never_shrinks(job.start.schedule) and sizes != sorted(sizes):
        raise ConfigError(f"its images get smaller ({', '.join(map(str, sizes))} px), those of the recipe do not")


def plan_lines(job: Job) -> list[str]:
    held = f"{job.settings.config.holdout:.15g}"
    return [
        f"start: {job.start_seconds:.0f} s planned, target {job.settings.target:g} %, holdout {held}",
        *job.space.lines(),
    ]


def explore(job: Job, study: Study) -> None:
    """Trials until the budget or their number is used up. The files are written after each."""
    while begun(study) < job.settings.most_trials and has_time(job, study):
        free_lost_trials(study, job.settings.folder)
        if again := to_repeat(study, job.settings.target, spent_seconds(study) / job.settings.budget_seconds):
            study.enqueue_trial(again.params)
        best = reaching(ranking(study, job.settings.target), job.settings.target)
        told = try_next(job, study, best.expected_seconds if best else inf)
        print(line_of(told, job.settings.target), flush=True)
        results.write_trials(job.settings.folder / "trials.csv", study)


def begun(study: Study) -> int:
    """Trials that were begun; the first ones and repeats wait in the study before."""
    return sum(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False))


def has_time(job: Job, study: Study) -> bool:
    """For a trial as long as the others."""
    long = [trial.user_attrs["wall_seconds"] for trial in results.done(study) if trial.state == TrialState.COMPLETE]
    return spent_seconds(study) + (statistics.median(long) if long else 0.0) < job.settings.budget_seconds


def line_of(trial: FrozenTrial, target: float) -> str:
    row = results.row_of(trial)
    accuracy = f"{percent_text(row['accuracy'], target, 2):>6} %" if row["accuracy"] != "" else "      - "
    planned = f"{row['planned_seconds']:8.1f} s" if row["planned_seconds"] != "" else "       - "
    choices = " ".join(f"{name}={shortened(value)}" for name, value in trial.params.items())
    return f"trial {trial.number:4} {row['state']:8} {planned} {accuracy}  {choices}  {row['reason']}".rstrip()


def shortened(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def missed(job: Job, study: Study, best: Candidate | None) -> int:
    page.write_page(job, study, best, {})
    if best is None:
        print(f"no trial has come to its end; {job.settings.folder}/trials.csv says why")
    else:
        mean, target = best.evidence.mean, job.settings.target
        print(f"no choice reaches {target:g} %: the best is trial {best.number}, {target - mean:.2g} points below")
    return EXIT_CODES[Outcome.FINISHED_WITHOUT_TARGET]


def finish(job: Job, study: Study, best: Candidate) -> int:
    """best.json, the confirmation, the page."""
    settings = job.settings
    choices = all_choices(job, best.params | job.space.fixed)
    phases = phases_of(job.start, choices)
    results.write_best(settings.folder / "best.json", settings, phases, best)
    runs: page.Runs = {}
    if settings.confirm:
        sides = confirm.sides_of(settings, phases, choices)
        print("\n".join(confirm.confirm(settings, sides)))
        runs = confirm.confirmed(sides)
    page.write_page(job, study, best, runs)
    print(f"{settings.folder}/search.html\ntrain it: {results.command_of_best(settings, choices)}")
    print(f"to make the files again: the same command, or see {quoted(settings.folder / 'trials.csv')}")
    hit = confirm.reaches(runs["winner"], settings.target) if runs else True
    return 0 if hit else EXIT_CODES[Outcome.FINISHED_WITHOUT_TARGET]
