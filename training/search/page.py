"""search.html: all trials by time and accuracy, what mattered, the winner beside the start, and the search's cost."""

from collections import Counter
from importlib.resources import files
from statistics import mean
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from dawn.page.document import asset, document
from dawn.page.html import Cell, chart, details, facts, note, number_text, section, table, text
from dawn.tables import percent_text
from phases import Schedule
from phases.table import segments
from training.search import results
from training.search.space import phases_of
from training.search.trials import Job, all_choices, spent_seconds
from training.search.winner import Candidate

NAMES = {"complete": "run to the end", "pruned": "ended early or not run", "fail": "failed"}
PAGE = "search.html"
SHOWN_BELOW = 8.0  # points below the target, where the accuracy axis begins
Runs = dict[str, list[dict[str, Any]]]  # of the confirmation, by side


def write_page(job: Job, study: Study, best: Candidate | None, runs: Runs) -> None:
    """`best`: the winner, None where no trial came to its end; `runs`: {} without a confirmation."""
    settings = job.settings
    title = f"Search: {settings.config.recipe or 'a schedule'} to {settings.config.target} %"
    trials = results.done(study)
    body = (
        f"<header><h1>{text(title)}</h1>\n<p>{text(settings.config.data)}</p></header>\n<main>\n"
        + result(job, study, best, runs)
        + section("trials", "Time and accuracy", chart("trials", "Planned time against accuracy of all trials"))
        + importance(study)
        + (schedules(job, best) + command(job, best) if best else "")
        + listing(trials)
        + "</main>\n"
    )
    script = files("training.search").joinpath("search.js").read_text(encoding="utf-8")
    page = document(title, body, data_of(job, trials, runs), [asset("page.css")], [script])
    results.write_alone(settings.folder / PAGE, page)


def result(job: Job, study: Study, best: Candidate | None, runs: Runs) -> str:
    counts = Counter(trial.state.name.lower() for trial in results.done(study))
    looked = ", ".join(f"{counts[state]} {name}" for state, name in NAMES.items() if counts[state])
    pairs: list[tuple[str, object]] = [
        ("trials looked at", f"{sum(counts.values())} ({looked})"),
        ("cost of the trials", f"{spent_seconds(study):,.0f} s"),
        ("held out in the search", f"{job.settings.config.holdout:.15g} of the training images"),
    ]
    if best:
        pairs.append(("winner on held-out images", held_out(best, job.settings.target)))
    for side, found in runs.items():
        pairs.append((f"{side} on the test images", tested(found, job.settings.target)))
    words = (
        "The search saw held-out training images only. The test images were used once, for the confirmation: winner "
    )
    words += "and start on the whole training set, with seeds that no trial had."
    return section("result", "Result", facts(pairs) + note(words))


def held_out(best: Candidate, target: float) -> str:
    percent, seconds = percent_text(best.evidence.mean, target), best.evidence.seconds
    runs = f"{best.runs} run{'s' if best.runs > 1 else ''}"
    return f"{percent} % in {runs}; {seconds:.1f} s planned, {best.expected_seconds:.1f} s expected with restarts"


def tested(found: list[dict[str, Any]], target: float) -> str:
    if not found:
        return "no run"
    whole = ended(found)
    words = [f"target reached in {sum(run['percent'] >= target for run in whole)} of {len(found)}"]
    if whole:
        percent = percent_text(mean(run["percent"] for run in whole), target)
        words.insert(0, f"mean {percent} % and {mean(run['seconds'] for run in whole):.1f} s")
    if len(whole) < len(found):
        words.append(f"{len(found) - len(whole)} diverged")
    return ", ".join(words)


def ended(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without those that diverged."""
    return [run for run in found if run["percent"] is not None]


def importance(study: Study) -> str:
    found = results.importances(study)
    if not found:
        return ""
    rows: list[list[Cell]] = [[name, f"{share:.1%}"] for name, share in found.items()]
    words = "Share of each choice in what separates the best tenth of the trials from the others (PED-ANOVA)."
    return section("importance", "What mattered", table(("choice", "share"), [("", rows)], "Importance") + note(words))


def schedules(job: Job, best: Candidate) -> str:
    """The winner's schedule and the start's, and the settings that differ."""
    chosen = all_choices(job, best.params | job.space.fixed)
    begun = all_choices(job, {})
    groups = [
        ("winner", schedule_rows(Schedule.parse(phases_of(job.start, chosen)))),
        ("start", schedule_rows(job.start.schedule)),
    ]
    names = ("epochs", "size", "batch", "learning rate")
    rows: list[list[Cell]] = [[n, shown(chosen[n]), shown(begun[n])] for n in chosen if chosen[n] != begun[n]]
    differing = table(("choice", "winner", "start"), [("", rows)], "Choices that differ")
    return section("schedule", "The winner beside the start", table(names, groups, "Schedules") + differing)


def command(job: Job, best: Candidate) -> str:
    """That trains the winner, in lines that break anywhere and are copied as one."""
    words = results.command_of_best(job.settings, all_choices(job, best.params | job.space.fixed))
    shown_as = f"<pre style='white-space:pre-wrap'>{text(words, len(words))}</pre>\n"
    about = "With all flags that belong to it, from the folder in which the search was started."
    return section("command", "Train the winner", shown_as + note(about))


def schedule_rows(schedule: Schedule) -> list[list[Cell]]:
    return [
        [f"{item.start:g} to {item.end:g}", item.data.sz, item.data.bs, " to ".join(f"{rate:.4g}" for rate in item.lr)]
        for item in segments(schedule, 1)
    ]


def shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def listing(trials: list[FrozenTrial]) -> str:
    names = sorted({name for trial in trials for name in trial.params})
    rows: list[list[Cell]] = []
    for trial in trials:
        row = results.row_of(trial)
        numbers = [
            number_text(row[n]) if row[n] != "" else None for n in ("planned_seconds", "accuracy", "wall_seconds")
        ]
        rows.append(
            [row["trial"], row["state"], *numbers, row["reason"], *(shown(trial.params.get(n, "")) for n in names)]
        )
    header = ("trial", "state", "planned s", "accuracy, %", "wall s", "reason", *names)
    return section("list", "All trials", details(f"{len(rows)} trials", table(header, [("", rows)], "All trials")))


def data_of(job: Job, trials: list[FrozenTrial], runs: Runs) -> dict[str, Any]:
    """For search.js."""
    seen = [
        point(trial) for trial in trials if "accuracy" in trial.user_attrs and "planned_seconds" in trial.user_attrs
    ]
    target = job.settings.target
    best = max([target, *(p["percent"] for p in seen)])
    sides = {
        side: [run | {"about": f"{side}, seed {run['seed']}"} for run in ended(runs.get(side, []))]
        for side in ("winner", "start")
    }
    low = max(0.0, min([target, *(p["percent"] for p in seen)]), target - SHOWN_BELOW)
    return {
        "metric": job.settings.config.metric,
        "target": target,
        "range": [low - 0.3, min(100.3, best + 0.5)],
        "trials": seen,
        "front": results.front(p for p in seen if p["state"] == "complete"),
    } | sides


def point(trial: FrozenTrial) -> dict[str, Any]:
    choices = ", ".join(f"{name} {shown(value)}" for name, value in trial.params.items())
    return {
        "seconds": trial.user_attrs["planned_seconds"],
        "percent": trial.user_attrs["accuracy"],
        "state": trial.state.name.lower(),
        "about": f"trial {trial.number}: {choices}",
    }
