"""`python -m training diagnose RUN`: replay a diverged run to its bad step, and say where and why it went wrong."""

import argparse
from pathlib import Path

from data_prep.files import write_atomically
from training.config.parser import Parser
from training.diagnosis.findings import findings_of
from training.diagnosis.log import check_same_dataset, good_checkpoint, read_ended, warn_of_other_code
from training.diagnosis.replay import replayed
from training.diagnosis.report import NAME, batch_sheet, cause_lines, document, headline, names_of
from training.distributed.launcher import warn


def diagnose_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m training diagnose", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="folder of a run that ended as diverged (exit code 4)")
    return parser


def diagnose(arguments: list[str]) -> int:
    """Write RUN/diagnosis.md and its picture, print the short form. Raises: ConfigError, DataError, RunError."""
    folder = Path(diagnose_parser().parse_args(arguments).run)
    ended = read_ended(folder)
    check_same_dataset(ended)
    warn_of_other_code(ended, warn)
    checkpoint = good_checkpoint(folder, warn)
    print(f"replaying from {checkpoint or 'the first step: there is no checkpoint with finite weights'}", flush=True)
    with replayed(ended, checkpoint) as bad:
        found = findings_of(ended, bad)
        names = names_of(bad)
        picture = batch_sheet(found, names)
        text = document(found, names, picture is not None)
    for suffix, data in ((".png", picture), (".md", text.encode())):
        if data is not None:
            write_atomically(folder / f"{NAME}{suffix}", data)
    for line in [headline(found), *(f"cause {n}: {text}" for n, text in enumerate(cause_lines(found), start=1))]:
        print(line)
    print(folder / f"{NAME}.md")
    return 0
