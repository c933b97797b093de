"""`python -m training suspects RUN`: validation images that the network keeps calling something else."""

import argparse
import html
import sys
from pathlib import Path

from data_prep.files import write_atomically
from dawn import RunError, read_run
from training.config.parser import Parser
from training.config.saved import read_config
from training.errors import ConfigError
from training.inspect.history import Suspect, suspects
from training.inspect.predictions import FOLDER
from training.inspect.stored import Names, Stored, dataset_folder, keep_names, names_of, read_stored
from training.inspect.tables import suspects_csv

MOST_IN_GALLERY = 200


def suspects_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m training suspects", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="folder of a run with --inspect light or full")
    parser.add_argument("--top", type=int, default=20, metavar="N", help="lines to print")
    parser.add_argument("--html", action="store_true", help="also write RUN/inspect/suspects.html, a gallery")
    return parser


def show_suspects(arguments: list[str]) -> int:
    """Print the most suspicious, write all to RUN/inspect/suspects.csv. Raises: ConfigError."""
    options = suspects_parser().parse_args(arguments)
    if options.top < 1:
        raise ConfigError(f"--top {options.top}: must be at least 1")
    run = Path(options.run)
    stored, config = read_stored(run), read_config(run)
    data = Path(dataset_folder(config))
    if not stored.tells_rows:
        raise ConfigError(f"{run}: its loader does not tell which images it gave. Let it set `rows` of each Batch")
    names, found = names_of(run, config, stored), suspects(stored.images)
    keep_names(stored.folder, names)
    write(stored.folder / "suspects.csv", suspects_csv(found, names.classes, names.files))
    for line in lines(found[: options.top], names):
        print(line)
    images = len(stored.images[max(stored.images)].rows)
    print(
        f"{len(found)} of {images} validation images disagreed with their label in the second half of the validations; "
        f"all: {stored.folder / 'suspects.csv'}"
    )
    if lost := lost_validations(run, stored):
        print(
            f"note: no file in {stored.folder / FOLDER} of the validation after epoch {lost}: it does not count",
            file=sys.stderr,
        )
    if not names.known:
        print(f"note: {data}: not the run's dataset, so names are numbers. Move it back there", file=sys.stderr)
    if options.html:
        page = stored.folder / "suspects.html"
        write(page, gallery(found[:MOST_IN_GALLERY], names, data))
        print(page)
        if found and not any((data / names.files[s.row]).is_file() for s in found[:MOST_IN_GALLERY]):
            why = "has no image files" if data.is_dir() else "is not there any more"
            print(f"note: {page} shows no picture: {data} {why}", file=sys.stderr)
    return 0


def lost_validations(run: Path, stored: Stored) -> str:
    """Epochs, counted from 1: a file is gone, or the run was not inspected then. Empty where the log does not tell."""
    try:
        validated = {row.epoch for row in read_run(run).rows if row.validation}
    except RunError:
        return ""
    return ", ".join(str(epoch + 1) for epoch in sorted(validated - stored.images.keys()))


def lines(found: list[Suspect], names: Names) -> list[str]:
    rows = [("score", "wrong", "label", "prediction", "file")]
    rows += [
        (f"{s.score:.3f}", f"{s.wrong}/{s.of}", names.classes[s.label], names.classes[s.predicted], names.files[s.row])
        for s in found
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows]


def gallery(found: list[Suspect], names: Names, data: Path) -> str:
    """Pictures are linked, not copied: the page shows them where the dataset is."""
    cells = "".join(
        f'<figure><img loading="lazy" src="{html.escape(place.as_uri())}" alt="">'
        f"<figcaption>labelled <b>{html.escape(names.classes[s.label])}</b><br>"
        f"looks like <b>{html.escape(names.classes[s.predicted])}</b> ({s.wrong} of {s.of}, score {s.score:.2f})<br>"
        f"<code>{html.escape(names.files[s.row])}</code></figcaption></figure>"
        for s in found
        for place in [(data / names.files[s.row]).absolute()]
    )
    style = (
        "body{font:15px system-ui;margin:1.5rem;color-scheme:light dark}main{display:grid;gap:1rem;"
        "grid-template-columns:repeat(auto-fill,minmax(180px,1fr))}figure{margin:0}img{width:100%;max-height:220px;"
        "object-fit:contain;background:#8881}figcaption{font-size:13px}code{font-size:11px;word-break:break-all}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Suspects</title><style>{style}</style><h1>Images that may be mislabelled</h1>"
        f"<main>{cells}</main></html>\n"
    )


def write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}). Give a run in a folder that can") from None
