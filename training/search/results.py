"""What a search leaves: trials.csv, best.json, search.html."""

import csv
import io
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from data_prep.files import one_writer, write_atomically
from dawn.commandline import quoted
from dawn.tables import percent_text
from training.search.settings import Settings
from training.search.space import Choices, flags_of, start_of
from training.search.winner import Candidate

COLUMNS = ("trial", "state", "planned_seconds", "accuracy", "expected_seconds", "wall_seconds", "reason")
FEW = 8  # trials below which no importance is told


def write_trials(path: Path, study: Study) -> None:
    """Read and written in one step: of several processes the last to write has seen what the others did."""
    with one_writer(path.parent, wait=True):
        write_atomically(path, table_of(study).encode())


def table_of(study: Study) -> str:
    names = sorted({name for trial in study.trials for name in trial.params})
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow([*COLUMNS, *names])
    for trial in done(study):
        row = row_of(trial)
        out.writerow([*(row[name] for name in COLUMNS), *(trial.params.get(name, "") for name in names)])
    return text.getvalue()


def done(study: Study) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def row_of(trial: FrozenTrial) -> dict[str, Any]:
    """'' where it is not known: of a trial that was not run, or not to its end."""
    attrs = trial.user_attrs
    expected = math.exp(min(trial.value, 700)) if trial.state == TrialState.COMPLETE else ""
    return {name: attrs.get(name, "") for name in COLUMNS} | {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "expected_seconds": expected,
    }


def write_best(path: Path, settings: Settings, phases: list, best: Candidate) -> None:
    """A file that --phases takes."""
    percent = percent_text(best.evidence.mean, settings.target, 2)
    seen = f"{percent} % of {best.evidence.images} held-out images, mean of {best.runs} runs"
    start = settings.config.recipe or "the given schedule"
    content = {"source": f"a search that began with {start}", "result": seen, "phases": phases}
    write_alone(path, json.dumps(content, indent=1) + "\n")


def write_alone(path: Path, text: str) -> None:
    """As one of the processes that share the folder: the unfinished file has the same name for all of them."""
    with one_writer(path.parent, wait=True):
        write_atomically(path, text.encode())


def command_of_best(settings: Settings, choices: Choices) -> str:
    chosen = flags_of(start_of(settings.config), choices)
    words = [*settings.flags, "--phases", str(settings.folder / "best.json"), *chosen]
    return " ".join(map(quoted, ["python", "-m", "training", *words, "--target", settings.config.target]))


def importances(study: Study) -> dict[str, float]:
    """Share of each choice in what separates good trials from the others (PED-ANOVA, Watanabe et al. 2023)."""
    complete = [trial for trial in done(study) if trial.state == TrialState.COMPLETE]
    if len(complete) < FEW:
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # imports scikit-learn

    return dict(get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()))


def front(points: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those to which no other is both faster and more accurate, by "seconds" and "percent"; the fastest first."""
    found: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda p: (p["seconds"], -p["percent"])):
        if not found or point["percent"] > found[-1]["percent"]:
            found.append(point)
    return found
