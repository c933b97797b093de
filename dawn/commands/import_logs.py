"""The command import: results of other training codes in one comparable form."""

import argparse
import re
import sys
from pathlib import Path

from dawn.commands.command import Command
from dawn.runlog.writer import RunError

SUFFIXES = (".json", ".tsv")


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", nargs="+", metavar="FILE", help="a log, an event file, or the folder of one")
    words = "which column of a table is what: epoch=NAME, hours=NAME or seconds=NAME, top1=NAME, top5=NAME"
    command.add_argument("--columns", default="", metavar="ROLE=NAME,...", help=words)
    command.add_argument("--hours-per-epoch", type=float, metavar="HOURS", help="for a log that holds no times")
    command.add_argument("--out", metavar="PATH", help="a folder for NAME.curve.json files, or one .json or .tsv file")


def import_command(args: argparse.Namespace) -> None:
    """Everything is read before anything is written. Without --out the curves are printed, one JSON object a line."""
    from dawn.files import write_atomic
    from dawn.importers.curve import curve_json, curve_tsv
    from dawn.importers.options import options_of
    from dawn.importers.read import read_curves

    options = options_of(args.columns, args.hours_per_epoch)
    curves = [curve for file in args.files for curve in read_curves(file, options)]
    for curve in curves:
        for note in curve.notes:
            print(f"note: {curve.name}:", " ".join(note.split()), file=sys.stderr)
    if args.out is None:
        print("\n".join(map(curve_json, curves)))
        return
    out = Path(args.out)
    if out.suffix in SUFFIXES and not out.is_dir():
        if len(curves) != 1:
            raise RunError(f"--out {out}: one file for {len(curves)} runs. Name a folder.")
        text = curve_tsv(curves[0]) if out.suffix == ".tsv" else curve_json(curves[0]) + "\n"
        print(write_atomic(out, text.encode()))
        return
    if not out.is_dir():
        raise RunError(f"--out {out}: no such folder, and no name ending in .json or .tsv. Make the folder first.")
    for name, curve in zip(file_names([curve.name for curve in curves]), curves, strict=True):
        print(write_atomic(out / name, (curve_json(curve) + "\n").encode()))


def file_names(names: list[str]) -> list[str]:
    """NAME.curve.json for each; what a file name should not hold is replaced, the second of a name gets a number."""
    found: dict[str, None] = {}
    for name in names:
        safe = re.sub(r"[^\w.-]+", "_", name).strip("._") or "curve"
        numbered = (f"{safe}-{number}" if number > 1 else safe for number in range(1, len(names) + 1))
        found[next(candidate for candidate in numbered if candidate not in found)] = None
    return [f"{name}.curve.json" for name in found]


IMPORT = Command("turn logs of other training codes into one comparable form", add_arguments, import_command)
