"""Where trials are kept: a journal file that the processes of one machine share, or a database for several machines."""

import hashlib
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from training.errors import ConfigError
from training.search.settings import Settings
from training.search.space import Choices, Space

JOURNAL = "trials.journal"
NAME = "search"  # of the study in its storage
HEARTBEAT_SECONDS = 30
VERSION = 2  # of what trials report; 1: accuracies, by which the better ones were ended


def open_study(settings: Settings, space: Space, first: Sequence[Choices]) -> Study:
    """The search's trials, begun with `first` or gone on with. Raises: ConfigError for a storage that cannot be opened
    or holds another search."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = settings.storage or str(settings.folder / JOURNAL)
    try:
        storage = RDBStorage(place, heartbeat_interval=HEARTBEAT_SECONDS) if settings.storage else journal(place)
        study = optuna.create_study(
            storage=storage, study_name=NAME, sampler=sampler(settings), pruner=pruner(), load_if_exists=True
        )
        check_same(study, fingerprint(settings, space), place)
        if not study.get_trials(deepcopy=False):
            for choices in first:
                study.enqueue_trial({name: choices[name] for name in space.distributions}, skip_if_exists=True)
    except ConfigError:
        raise
    except Exception as error:  # of SQLAlchemy, of a driver, of JSON: whatever is wrong with the place
        raise ConfigError(f"--storage {place}: {' '.join(str(error).split())[:200]}") from None
    return study


def journal(place: str) -> JournalStorage:
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(place))


def sampler(settings: Settings) -> optuna.samplers.BaseSampler:
    """Processes that begin together must not begin alike."""
    seed = int(np.random.SeedSequence((settings.seed, os.getpid())).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def pruner() -> optuna.pruners.BasePruner:
    """Ends a trial whose accuracy is below that of three quarters of the trials after the same planned time: Optuna's
    percentile is the share that it keeps."""
    return optuna.pruners.PercentilePruner(75.0, n_startup_trials=6, n_min_trials=4)


def fingerprint(settings: Settings, space: Space) -> str:
    """Of everything that makes trials comparable."""
    config = asdict(settings.config) | {"logdir": "", "workers": 0}
    facts = {"version": VERSION, "config": config, "target": settings.target, "space": space.lines()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def check_same(study: Study, mine: str, place: str) -> None:
    """Raises: ConfigError."""
    found = study.user_attrs.get("search")
    if found is None:
        study.set_user_attr("search", mine)
    elif found != mine:
        raise ConfigError(
            f"--storage {place}: holds another search (other settings, target, space or data, or of an earlier "
            "version). Name another --logdir or --storage"
        )


def free_lost_trials(study: Study) -> int:
    """Trials of processes of this machine that are gone are failed, and their choices come again. A database frees
    those of other machines by their heartbeat."""
    if isinstance(study._storage, RDBStorage):
        optuna.storages.fail_stale_trials(study)
    lost = [trial for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) if is_lost(trial)]
    for trial in lost:
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return len(lost)


def worker() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def is_lost(trial: FrozenTrial) -> bool:
    """Whether the process that ran it, on this machine, has ended."""
    if trial.user_attrs.get("host") != socket.gethostname():
        return False
    try:
        os.kill(trial.user_attrs["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # of another user, alive
        return False
    return trial.user_attrs["pid"] == os.getpid()
