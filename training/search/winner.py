"""From the trials to the choice that is expected to reach the target soonest, and which choice to repeat."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from optuna.study import Study
from optuna.trial import TrialState

from training.search.objective import Evidence, log_expected_seconds, seed_deviation
from training.search.space import Choices
from training.search.trials import groups, key_of

REPEATS = 3  # runs of the best choices, before one of them is called the winner
REPEAT_FROM = 2 / 3  # of the budget


class Candidate(NamedTuple):
    """One choice with all its runs. `expected_seconds` until a run reaches the target, with restarts."""

    params: Choices
    evidence: Evidence
    expected_seconds: float
    number: int  # of its first trial

    @property
    def runs(self) -> int:
        return len(self.evidence.accuracies)


def ranking(study: Study, target: float) -> list[Candidate]:
    """The completed choices, the one that is expected to reach `target` (percent) soonest first."""
    deviation = seed_deviation([*groups(study).values()])
    together: dict[str, list] = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        together.setdefault(key_of(trial.params), []).append(trial)
    found = []
    for trials in together.values():
        attrs = [trial.user_attrs for trial in trials]
        seconds = min(a["planned_seconds"] for a in attrs)
        evidence = Evidence(seconds, tuple(a["accuracy"] for a in attrs), attrs[0]["images"])
        expected = math.exp(min(log_expected_seconds(evidence, target, deviation), 700))
        found.append(Candidate(trials[0].params, evidence, expected, trials[0].number))
    return sorted(found, key=lambda one: one.expected_seconds)


def reaching(ranked: Sequence[Candidate], target: float) -> Candidate | None:
    """The first one of a ranking whose mean reaches `target`. The very first may be a fast one that falls just short:
    it is expected to reach it in some runs."""
    return next((one for one in ranked if one.evidence.mean >= target), None)


def most_accurate(ranked: Sequence[Candidate]) -> Candidate | None:
    return max(ranked, key=lambda one: one.evidence.mean, default=None)


def to_repeat(study: Study, target: float, spent_share: float) -> Candidate | None:
    """In the last third of the budget: the first of the ranking and then the first that reaches the target, until each
    has REPEATS runs. The best of many single trials owes a part of its rank to luck; a choice that only was lucky falls
    back, and the next one is repeated. None while other choices wait for their trial."""
    if spent_share < REPEAT_FROM or study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        return None
    ranked = ranking(study, target)
    best = [*ranked[:1], reaching(ranked, target)]
    return next((one for one in best if one and one.runs < REPEATS), None)
