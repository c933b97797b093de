"""Where trials are kept: a journal file that the processes of one machine share, or a database for several machines.

A trial whose process is gone comes again. Beside the journal each process holds the lock of a file of its own, which
the system takes back however the process ends. In a database it writes a heartbeat while its trial runs.
"""

import fcntl
import hashlib
import json
import os
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from data_prep import load_manifest
from data_prep.files import one_writer
from data_prep.workers import default_workers
from training.config.own_code import own_code
from training.data.dataset import folders_of, loader_name
from training.errors import ConfigError
from training.logs.machine import cpu_name, gpu_names
from training.search.settings import Settings
from training.search.space import Choices, Space, start_of

JOURNAL = "trials.journal"
NAME = "search"  # of the study in its storage
SPEED = ("threads", "inspect", "inspect_every", "detect_anomaly")  # no training fields, and yet of a run's time
WORKERS = "workers"  # folder of the locked files
HEARTBEAT_SECONDS = 1  # about once for each look at the run
GRACE_SECONDS = 300  # without a heartbeat, after which a trial is lost; to plan one may take a minute of measuring
# 1: trials reported accuracies, by which the better ones were ended; 2: process numbers told the lost ones; 3: settings
# that name an epoch, such as --lookahead-from, did not move with the length, and lr_end could rise
VERSION = 4


def open_study(settings: Settings, space: Space, first: Sequence[Choices]) -> Study:
    """The search's trials, begun with `first` or gone on with. Raises: ConfigError for a storage that cannot be opened
    or holds another search."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place, mine = settings.storage or str(settings.folder / JOURNAL), fingerprint(settings, space)
    with one_writer(settings.folder, wait=True):  # processes that start together enqueue `first` once
        try:
            study = optuna.create_study(
                storage=storage_at(place, bool(settings.storage)), study_name=NAME, sampler=sampler(settings),
                pruner=pruner(), load_if_exists=True,
            )  # fmt: skip
            check_same(study, mine, place)
            if not study.get_trials(deepcopy=False):
                for choices in first:
                    study.enqueue_trial({name: choices[name] for name in space.distributions}, skip_if_exists=True)
        except ConfigError:
            raise
        except Exception as error:  # of SQLAlchemy, of a driver, of JSON: whatever is wrong with the place
            raise ConfigError(f"--storage {place}: {' '.join(str(error).split())[:200]}") from None
    return study


def storage_at(place: str, is_database: bool) -> RDBStorage | JournalStorage:
    if is_database:
        return RDBStorage(place, heartbeat_interval=HEARTBEAT_SECONDS, grace_period=GRACE_SECONDS)
    return JournalStorage(JournalFileBackend(place))


def sampler(settings: Settings) -> optuna.samplers.BaseSampler:
    """Processes that begin together must not begin alike."""
    seed = int(np.random.SeedSequence((settings.seed, os.getpid())).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def pruner() -> optuna.pruners.BasePruner:
    """Ends a trial whose accuracy is below that of three quarters of the trials after the same planned time: Optuna's
    percentile is the share that it keeps."""
    return optuna.pruners.PercentilePruner(75.0, n_startup_trials=6, n_min_trials=4)


def fingerprint(settings: Settings, space: Space) -> dict[str, str]:
    """Digests of everything that makes trials comparable, by kind. Flags that change only what a run prints and writes
    are not in it, nor the number of workers, nor CUDA_VISIBLE_DEVICES: processes share a search with a GPU each."""
    config, schedule = start_of(settings.config)
    flags = config.training_fields([]) | {name: getattr(config, name) for name in SPEED}
    phases = repr((schedule.data, schedule.lr, schedule.momentum))
    gpus = [] if config.device == "cpu" else sorted(set(gpu_names()))
    facts = {
        "version": VERSION,
        "settings": [flags, phases, loader_name(config, schedule), settings.target],
        "space": space.lines(),
        "data": [load_manifest(folder).sha256 for folder in folders_of(config, schedule)],
        "code": {flag: found["sha256"] for flag, found in own_code(config).items()},
        "hardware": [cpu_name(), default_workers(), gpus],
    }
    texts = {kind: json.dumps(found, sort_keys=True) for kind, found in facts.items()}
    return {kind: hashlib.sha256(text.encode()).hexdigest() for kind, text in texts.items()}


def check_same(study: Study, mine: dict[str, str], place: str) -> None:
    """Raises: ConfigError."""
    found = study.user_attrs.get("search")
    if found is None:
        study.set_user_attr("search", mine)
    elif found != mine:
        known = found if isinstance(found, dict) else mine | {"version": ""}
        other = ", ".join(kind for kind in mine if known.get(kind) != mine[kind])
        raise ConfigError(
            f"--storage {place}: holds another search (other {other}). Its trials cannot be compared with these: name "
            "another --logdir or --storage"
        )


# ---- trials that are under way, and those whose process is gone


@contextmanager
def at_work(folder: Path) -> Iterator[str]:
    """The name of this process, whose file is locked until the process ends."""
    name = uuid.uuid4().hex
    (folder / WORKERS).mkdir(parents=True, exist_ok=True)
    with open(folder / WORKERS / name, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield name
        finally:
            (folder / WORKERS / name).unlink(missing_ok=True)


def next_trial(study: Study, space: Space, folder: Path, worker: str) -> Trial:
    """Of the process `worker`. It has the trial and its name in one step: a trial without a name is lost."""
    with one_writer(folder, wait=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Heartbeat of storage")  # Optuna misses its own loop
        warnings.filterwarnings("ignore", message="Fixed parameter")  # the start may lie outside of the default ranges
        trial = study.ask(fixed_distributions=space.distributions)
        beat(trial)
        trial.set_user_attr("worker", worker)
    return trial


def beat(trial: Trial) -> None:
    """Tell the database that the trial's process is alive. A journal needs no heartbeat."""
    if not isinstance(trial.storage, JournalStorage):
        trial.storage.record_heartbeat(trial._trial_id)


def free_lost_trials(study: Study, folder: Path) -> int:
    """Their number. They are failed, and their choices come again. `folder`: of the search."""
    with one_writer(folder, wait=True):
        lost = without_lock(study, folder) if isinstance(study._storage, JournalStorage) else without_heartbeat(study)
        return sum(freed(study, trial) for trial in lost)


def without_lock(study: Study, folder: Path) -> list[FrozenTrial]:
    living = {path.name for path in (folder / WORKERS).glob("*") if is_locked(path)}
    return [trial for trial in running(study) if trial.user_attrs.get("worker") not in living]


def without_heartbeat(study: Study) -> list[FrozenTrial]:
    """A trial whose process may have ended before its first heartbeat gets one here: if it stays the only one, the
    trial is lost as well."""
    for trial in running(study):
        if "worker" not in trial.user_attrs:
            with suppress(UpdateFinishedTrialError):
                study._storage.record_heartbeat(trial._trial_id)
                study._storage.set_trial_user_attr(trial._trial_id, "worker", "")
    stale = study._storage._get_stale_trial_ids(study._study_id)
    return [trial for trial in running(study) if trial._trial_id in stale]


def running(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def is_locked(path: Path) -> bool:
    """Whether its process lives, which holds the lock."""
    try:
        with open(path, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # it has just ended
        pass
    return False


def freed(study: Study, trial: FrozenTrial) -> bool:
    """False where another process was first, or the trial has come to its end in the meantime. Choices that were
    enqueued are told in full, also of a trial that did not live to take them all."""
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, UpdateFinishedTrialError):
        return False
    study.enqueue_trial(trial.system_attrs.get("fixed_params", {}) | trial.params)
    return True
