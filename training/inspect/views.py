"""Tables and pictures of an inspected run, made after it from what was stored."""

from pathlib import Path

from data_prep.files import write_atomically
from training.config.config import Config
from training.inspect.board import write_board
from training.inspect.figures import (
    calibration_figure,
    confusion_figure,
    curves_figure,
    gradients_figure,
    predicted_figure,
)
from training.inspect.gradients import FILE as GRADIENTS
from training.inspect.gradients import read_gradients
from training.inspect.history import worst_images
from training.inspect.stored import Names, Stored, has_validation, keep_names, names_of, read_stored
from training.inspect.tables import calibration_csv, classes_csv, confusion_csv, worst_csv
from training.logs.logbook import Logbook
from training.logs.metrics import INSPECTION

MOST_WORST = 200  # images in worst.csv


def write_views(run: Path, config: Config, book: Logbook) -> None:
    """Everything under RUN/inspect that people look at, and the same in TensorBoard; nothing of a run that stored
    nothing before it ended. Raises: ConfigError for what was stored and is damaged."""
    folder = run / INSPECTION
    if not has_validation(folder):
        if (folder / GRADIENTS).is_file():
            write_atomically(folder / "gradients.png", gradients_figure(**read_gradients(folder / GRADIENTS)))
            book.say(f"{folder}: gradients.png; the run has no validation that could be shown")
        return
    stored = read_stored(run)
    names = names_of(run, config, stored)
    keep_names(stored.folder, names)
    made = views(stored, names, config.inspect == "full")
    for name, content in made.items():
        write_atomically(stored.folder / name, content)
    if book.scalars.writer:
        drawn = {name: content for name, content in made.items() if name.endswith(".png")}
        write_board(book.scalars.writer, run, config, stored, names.classes, drawn)
    book.say(f"{stored.folder}: confusion.csv, classes.csv, worst.csv and pictures of the inspection")


def views(stored: Stored, names: Names, full: bool) -> dict[str, bytes]:
    """By file name."""
    counts, classes = stored.counts, names.classes
    worst = worst_images(stored.images, MOST_WORST) if stored.tells_rows else []
    found = {
        "confusion.csv": confusion_csv(counts, classes).encode(),
        "classes.csv": classes_csv(counts, classes).encode(),
        "calibration.csv": calibration_csv(counts).encode(),
        "worst.csv": worst_csv(worst, classes, names.files, sorted(stored.images)).encode(),
        "confusion.png": confusion_figure(counts, classes),
        "calibration.png": calibration_figure(counts),
        "predicted.png": predicted_figure(counts, classes),
    }
    if full:
        found["curves.png"] = curves_figure(counts, classes)
        if (stored.folder / GRADIENTS).is_file():  # none of a run whose steps were all before a restart
            found["gradients.png"] = gradients_figure(**read_gradients(stored.folder / GRADIENTS))
    return found
