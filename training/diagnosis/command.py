"""`python -m training diagnose RUN`: replay a diverged run to its bad step, and say where and why it went wrong."""

import argparse
import json
import os
from pathlib import Path

from data_prep.files import write_atomically
from training.config.parser import Parser
from training.config.saved import read_config
from training.diagnosis.findings import findings_of
from training.diagnosis.log import Ended, check_same_dataset, good_checkpoint, read_ended, warn_of_other_code
from training.diagnosis.record import Record, names_of, record_of, told
from training.diagnosis.replay import replayed
from training.diagnosis.report import batch_sheet, cause_lines, document, headline
from training.distributed.env import Env, open_env
from training.distributed.launcher import warn
from training.distributed.process import stop_with_launcher
from training.errors import ConfigError

NAME = "diagnosis"


def diagnose_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m training diagnose", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="folder of a run that ended as diverged (exit code 4)")
    return parser


def diagnose(arguments: list[str]) -> int:
    """Write RUN/diagnosis.json, .md and .png, print the short form. A run of several processes takes as many, which
    all read RUN. Raises: ConfigError, DataError, RunError; PeerFailed for those of another rank."""
    folder = Path(diagnose_parser().parse_args(arguments).run)
    config = read_config(folder)
    stop_with_launcher()
    with open_env(config) as env:
        ended, checkpoint = env.group.from_main(lambda: start_of(folder, env.world_size))
        if env.rank == 0:
            place = checkpoint or "the first step: there is no checkpoint with finite weights"
            print(f"replaying from {place}", flush=True)
        record, picture = diagnosis(ended, checkpoint, env)
        env.group.from_main(lambda: write(folder, record, picture))
    if env.rank == 0:
        for line in [headline(record), *(f"cause {n}: {text}" for n, text in enumerate(cause_lines(record), start=1))]:
            print(line)
        print(folder / f"{NAME}.md")
    return 0


def start_of(folder: Path, world_size: int) -> tuple[Ended, Path | None]:
    """The diverged run, and the checkpoint to begin at. Raises: ConfigError for a folder that cannot be written."""
    ended = read_ended(folder, world_size)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder}: cannot be written, and the diagnosis goes there. Copy it to where it can")
    check_same_dataset(ended)
    warn_of_other_code(ended, warn)
    return ended, good_checkpoint(folder, warn)


def diagnosis(ended: Ended, checkpoint: Path | None, env: Env) -> tuple[Record, bytes | None]:
    """Of the rank that has the most to say, with its picture of the batch; the same on all ranks."""
    with replayed(ended, checkpoint, env) as bad:
        found = findings_of(ended, bad)
        names = names_of(bad)
        record = told(env.group.gather(record_of(found, names)))
        is_shown = record["rank"] == env.rank
        pictures = env.group.gather(batch_sheet(found, names) if is_shown else None)
    picture = pictures[record["rank"]]
    return record | {"picture": f"{NAME}.png" if picture else None}, picture


def write(folder: Path, record: Record, picture: bytes | None) -> None:
    """The document last: with it everything is there."""
    if picture:
        write_atomically(folder / f"{NAME}.png", picture)
    write_atomically(folder / f"{NAME}.json", json.dumps(record, indent=1, allow_nan=False).encode())
    write_atomically(folder / f"{NAME}.md", document(record).encode())
