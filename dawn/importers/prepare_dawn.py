"""What the four scripts dawn/prepare_dawn_*.py share: their arguments, the reading, and what they print."""

import argparse
import json
import struct
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

from dawn.commandline import ended
from dawn.dawnbench.tasks import TASKS, target_text
from dawn.importers.tfevents_file import Scalar
from dawn.importers.tfevents_scalars import EventLog, read_event_log
from dawn.importers.tfevents_tables import MOST, TEST_TAGS, Evaluation, batches, checked_value, evaluations, gap_note
from dawn.runlog.writer import RunError
from dawn.tables import percent_text

TARGETS = {task.metric: task.target for task in TASKS.values()}  # percent; DAWNBench's, by metric
TSV_HEADER = ("epoch", "hours", *(name for name, _ in TASKS["ImageNet"].columns))


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RunError(f"{message}. See {self.prog} --help.")


def main(lines_of: Callable[[EventLog, argparse.Namespace], list[str]], text: str, argv: list[str] | None) -> int:
    """Print the lines of one script; notes and errors go to standard error. Exit code 0, or 2 for bad input."""
    return ended(lambda: show(lines_of, text, argv))


def show(lines_of: Callable[[EventLog, argparse.Namespace], list[str]], text: str, argv: list[str] | None) -> int:
    try:
        args = parser(text, with_target=lines_of is tsv_lines).parse_args(argv)
        log = read_event_log(args.events_path)
        lines = lines_of(log, args)
    except RunError as error:
        say("error", str(error))
        return 2
    for note in log.notes:
        say("note", note)
    print("\n".join(lines))
    return 0


def say(kind: str, text: str) -> None:
    print(f"{kind}:", " ".join(text.split()), file=sys.stderr)


def parser(text: str, with_target: bool) -> argparse.ArgumentParser:
    top = Parser(description=text, allow_abbrev=False)
    names = ("--events_path", "--events-path")
    top.add_argument(*names, required=True, metavar="PATH", help="an event file, or the folder with those of a run")
    top.add_argument("--ignore-eval", action="store_true", help="leave the time of evaluations out of the hours")
    if with_target:
        metrics = tuple(TEST_TAGS)
        top.add_argument("--metric", choices=metrics, default="top5", help="which accuracy the target is of (top5)")
        top.add_argument("--target", type=float, metavar="PERCENT", help="where the table stops (top5: 93, top1: 94)")
    return top


def tsv_lines(log: EventLog, args: argparse.Namespace) -> list[str]:
    """The header and a row for each evaluation up to the first at the target."""
    target = TARGETS[args.metric] if args.target is None else args.target
    if not 0 <= target <= 100:
        raise RunError(f"--target {target}: not a percentage. Give a number from 0 to 100.")
    rows = evaluations(log)
    hits = [number for number, row in enumerate(rows, start=1) if row.percent(args.metric) >= as_single(target)]
    if not hits:
        best, wanted = max(row.percent(args.metric) for row in rows), target_text(args.metric, target)
        best_text = percent_text(best, target, decimals=3)
        log.notes.append(f"{wanted} was not reached (best: {best_text} %); the table has every evaluation.")
    rows = rows[: hits[0]] if hits else rows
    log.notes += gap_note(log, rows[-1].wall_time)
    return ["\t".join(TSV_HEADER), *(tsv_row(log, row, args.ignore_eval) for row in rows)]


def tsv_row(log: EventLog, row: Evaluation, ignore_eval: bool) -> str:
    """Hours with all their digits. RunError where the evaluation time is not known, or longer than the run."""
    hours = row.hours
    if ignore_eval:
        if row.eval_hours is None:
            raise RunError(f"{log.path}: no times/eval_sec beside epoch {row.epoch}. Leave out --ignore-eval.")
        hours -= row.eval_hours
    if hours <= 0:
        raise RunError(f"{log.path}: more evaluation than time at epoch {row.epoch}. Leave out --ignore-eval.")
    return f"{row.epoch}\t{hours!r}\t{row.top1!r}\t{row.top5!r}"


def as_single(target: float) -> float:
    """Scalars are mostly stored in 32 bits, in which 93.1 is a little less than 93.1; no accuracy lies between."""
    return min(target, struct.unpack("f", struct.pack("f", target))[0])


def batch_lines(log: EventLog, args: argparse.Namespace) -> list[str]:
    """The batch of all devices together, where it changes."""
    return change_lines(log, "batch_size", batches(log))


def size_lines(log: EventLog, args: argparse.Namespace) -> list[str]:
    """The image size, where it changes."""
    return change_lines(log, "image_size", log.of("sizes/image"))


def change_lines(log: EventLog, name: str, scalars: Iterable[Scalar]) -> list[str]:
    """A resumed run writes its sizes again where it goes on; that is no change."""
    lines, before = [], None
    for scalar in scalars:
        value = int(checked_value(log, scalar, 1, MOST))
        if value != before:
            lines.append(json_line(name, value, scalar.step))
        before = value
    return some(log, lines, name)


def rate_lines(log: EventLog, args: argparse.Namespace) -> list[str]:
    """Every learning rate: a repeated one marks where a ramp begins."""
    rates = ((checked_value(log, scalar, -MOST, MOST), scalar.step) for scalar in log.of("sizes/lr"))
    return some(log, [json_line("learning_rate", rate, step) for rate, step in rates], "learning_rate")


def json_line(name: str, value: float, step: int) -> str:
    """`example`: training images seen."""
    return json.dumps({name: value, "example": step})


def some(log: EventLog, lines: list[str], name: str) -> list[str]:
    if not lines:
        raise RunError(f"{log.path}: no {name} in it. Give the events of a run.")
    return lines
