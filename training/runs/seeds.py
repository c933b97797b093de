"""`--seeds 0-9`: one run after the other, a seed each, in folders beside each other; the same command goes on where it
stopped. `python -m dawn study FOLDER` says what they show together."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dawn.commandline import quoted
from training.config.parser import Parser, config_from
from training.config.saved import check_settings
from training.distributed.launcher import ranks
from training.errors import EXIT_CODES, ConfigError, Outcome
from training.runs.folder import RESUMABLE, begun, ending

LAST_SEED = 2**63 - 1
MOST_RUNS = 10_000
FINAL = {outcome.exit_code for outcome in EXIT_CODES if outcome.value not in RESUMABLE}


def train_seeds(arguments: list[str]) -> int:
    """The exit code: 0 when every run came to its own end, whatever it was; else that of the run that did not."""
    parser = Parser(prog="python -m training", add_help=False, allow_abbrev=False)
    parser.add_argument("--seeds", required=True)
    parser.add_argument("--logdir", default="")
    own, others = parser.parse_known_args(arguments)
    config = config_from(others)  # bad input is told before the first run
    if ranks().world_size > 1:
        raise ConfigError("--seeds: starts its runs itself, one process each. Under torchrun, start a run per --seed")
    if config.resume or config.evaluate or config.dry_run or any(re.match("--seed(=|$)", word) for word in others):
        others = "--seed, --resume, --evaluate and --dry-run"
        raise ConfigError(f"--seeds: makes or goes on with its runs itself. Leave out {others}")
    base, seeds = Path(own.logdir or f"runs/{config.recipe or 'run'}-seeds"), parse_seeds(own.seeds)
    check_earlier_runs(base, seeds, others)
    for seed in seeds:
        code = train_seed(base, seed, others)
        if code not in FINAL:
            print(f"{base}: stopped at seed {seed}; the same command goes on from there", file=sys.stderr)
            return code
    print(f"all runs are in {base}; what they show together: python -m dawn study {quoted(base)}")
    return 0


def check_earlier_runs(base: Path, seeds: list[int], arguments: list[str]) -> None:
    """Raises: ConfigError where one of the runs in `base` was started with other settings."""
    for seed in seeds:
        check_settings(base / f"seed-{seed}", config_from([*arguments, "--seed", str(seed)]))


def train_seed(base: Path, seed: int, arguments: list[str]) -> int:
    """Exit code of the run base/seed-N: started, resumed, or already there."""
    folder = base / f"seed-{seed}"
    has_begun = begun(folder)
    if has_begun and (outcome := ending(folder)) not in ("", *RESUMABLE):
        print(f"seed {seed}: {outcome} ({folder})", flush=True)
        return Outcome(outcome).exit_code
    print(f"seed {seed}: {'going on' if has_begun else 'training'} in {folder}", flush=True)
    more = ["--resume", str(folder)] if has_begun else [*arguments, "--seed", str(seed), "--logdir", str(folder)]
    with subprocess.Popen([sys.executable, "-m", "training", *more]) as process, sigterm_passed_on(process):
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # Ctrl-C reaches the run as well, which saves
                continue


@contextmanager
def sigterm_passed_on(process: subprocess.Popen) -> Iterator[None]:
    """`kill` and batch systems may tell this process alone. The run saves and ends, and so does this one then."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def parse_seeds(text: str) -> list[int]:
    """'0-3,7' -> [0, 1, 2, 3, 7]. Raises: ConfigError."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,19})(?:-(\d{1,19}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= LAST_SEED or last - first >= MOST_RUNS:
            raise ConfigError(f"--seeds {text}: write seeds as 0-9 or 0,3,7, from 0 to 2^63 - 1, at most {MOST_RUNS}")
        seeds.extend(range(first, last + 1))
    return list(dict.fromkeys(seeds))
