"""The panel of what --inspect left in the run folders: what the network confuses, its classes, calibration, pictures.

training/inspect writes the files after a run."""

import base64
import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dawn.page.beside import Broken, picture_tag, read_png
from dawn.page.data import Shown
from dawn.page.html import Cell, details, note, section, table, text

FOLDER = "inspect"  # in the run folder
TABLES = ("confusion.csv", "classes.csv", "calibration.csv", "worst.csv")
CLASSES = ("class", "precision", "recall", "f1", "average_precision", "roc_auc", "images", "predicted", "not_finite")
CALIBRATION = ("from", "to", "images", "right", "mean_probability")
WORST = ("file", "label", "prediction", "probability", "loss")
SUSPECTS = ("file", "label", "prediction", "score", "validations_wrong", "validations")
MOST_CLASSES = 30  # in a map; of more the most confused pairs
MOST_PAIRS, MOST_SUSPECTS = 30, 100
MOST_CSV_BYTES = 64 * 2**20
PICTURE_BYTES = 4 * 2**20  # of all pictures of a page, which stays under 12 MB with them
PICTURES = {
    "gradients": "Gradients of the layers over time",
    "curves": "Precision and recall of the classes",
    "predicted": "Images and predictions of the classes",
}
SHEETS = {
    "grad-cam": "Where the network looks (Grad-CAM)",
    "grad-cam-worst": "Grad-CAM of the images with the largest loss",
    "validation-largest-loss": "Validation batch of the largest loss",
    "validation-smallest-loss": "Validation batch of the smallest loss",
    "training-largest-loss": "Training batch of the largest loss",
    "training-smallest-loss": "Training batch of the smallest loss",
}


def inside_section(shown: Sequence[Shown]) -> str:
    """Empty where no run was inspected."""
    found = [(item, item.run.path.parent / FOLDER) for item in shown]
    found = [(item, folder) for item, folder in found if folder.is_dir()]
    if not found:
        return ""
    share = PICTURE_BYTES // len(found)
    parts = [(item.name, inside(folder, share)) for item, folder in found]
    if len(shown) == 1:
        return section("inside", "Inside", parts[0][1])
    return section("inside", "Inside", "".join(details(name, part, i == 0) for i, (name, part) in enumerate(parts)))


def inside(folder: Path, picture_bytes: int) -> str:
    """Everything of one run."""
    if not any((folder / name).exists() for name in TABLES):
        words = "No tables of the inspection are here: they are written when a run ends that has a validation."
        return note(words) + f"<div class=inside>{gallery(folder, picture_bytes)}</div>\n"
    strips_bytes = picture_bytes // 4
    parts: tuple[Callable[[Path], str], ...] = (partial(confusion, most_bytes=strips_bytes), classes, calibration)
    body = "".join(told(part, folder) for part in parts)
    picture_bytes -= strips_bytes
    return (
        f"<div class=inside>{body}{gallery(folder, picture_bytes)}{told(suspects, folder)}{told(worst, folder)}</div>\n"
    )


def told(part: Callable[[Path], str], folder: Path) -> str:
    """What `part` makes of a folder, or the line of what is wrong with it."""
    try:
        return part(folder)
    except Broken as error:
        return note(str(error))


# what the network confuses


class Confusion(NamedTuple):
    names: list[str]
    counts: list[list[int]]  # rows: labels, columns: predictions

    def share(self, label: int, predicted: int) -> float:
        """Of the images of the label."""
        return self.counts[label][predicted] / max(1, sum(self.counts[label]))


def confusion(folder: Path, most_bytes: int) -> str:
    head, *rows = read_csv(folder / "confusion.csv")
    names = head[1:]
    if [row[0] for row in rows] != names or any(len(row) != len(head) for row in rows):
        raise Broken("confusion.csv is damaged: its rows and columns are not the same classes.")
    found = Confusion(names, [[whole(cell, "confusion.csv") for cell in row[1:]] for row in rows])
    strips = strips_of(folder, most_bytes)
    images = sum(map(sum, found.counts))
    right = sum(row[i] for i, row in enumerate(found.counts))
    words = f"Labels and predictions of {images:,} validation images, {images - right:,} of them wrong."
    if len(names) > MOST_CLASSES:
        return "<h3>Most confused pairs</h3>\n" + note(words) + pairs_table(found) + pairs_gallery(found, strips)
    hint = " A row is a label, a column a prediction. Point at a cell or tap it for the pair and its worst images."
    return "<h3>Confusion</h3>\n" + note(words + hint) + heat_map(found, strips)


def strips_of(folder: Path, most_bytes: int) -> dict[tuple[int, int], bytes]:
    """Pictures of the images of a confused pair, by its numbers: (label, prediction). Raises: Broken."""
    found, left = {}, most_bytes
    for path in sorted((folder / "pairs").glob("*.png")):
        label, _, predicted = path.stem.partition("-")
        content = read_png(path)
        if len(content) <= left and label.isdecimal() and predicted.isdecimal():
            found[int(label), int(predicted)] = content
            left -= len(content)
    return found


def pairs_gallery(found: Confusion, strips: dict[tuple[int, int], bytes]) -> str:
    """A strip for each, the largest pair first."""
    known = [pair for pair in strips if max(pair) < len(found.names)]
    pairs = sorted(known, key=lambda pair: -found.counts[pair[0]][pair[1]])
    shown = (thumbnail(strips[i, j], f"{found.names[i]} called {found.names[j]}") for i, j in pairs)
    return f"<div class=gallery>{''.join(shown)}</div>\n" if pairs else ""


def pairs_table(found: Confusion) -> str:
    wrong = [(n, -i, -j) for i, row in enumerate(found.counts) for j, n in enumerate(row) if n and i != j]
    rows: list[list[Cell]] = [
        [found.names[-i], found.names[-j], n, f"{100 * found.share(-i, -j):.1f}"]
        for n, i, j in sorted(wrong, reverse=True)[:MOST_PAIRS]
    ]
    return table(("label", "prediction", "images", "% of the label"), [("", rows)], "Most confused pairs")


def heat_map(found: Confusion, strips: dict[tuple[int, int], bytes]) -> str:
    """The script tells of a cell what its row, its column and its number say."""
    head = "".join(f"<th scope=col><span>{text(name)}</span>" for name in found.names)
    lines = "".join(
        f"\n<tr><th scope=row><span>{text(name)}</span>"
        + "".join(heat_cell(found, label, predicted, strips) for predicted in range(len(found.names)))
        for label, name in enumerate(found.names)
    )
    return (
        '<div class=scroll tabindex=0 role=region aria-label="Confusion matrix"><table class=heat><thead><tr><td>'
        f"{head}</thead><tbody>{lines}</table></div>\n<output class=cell></output>\n"
    )


def heat_cell(found: Confusion, label: int, predicted: int, strips: dict[tuple[int, int], bytes]) -> str:
    if not (count := found.counts[label][predicted]):
        return "<td>"
    share = found.share(label, predicted)
    kind = " class=strong" if share > 0.5 else ""
    strip = strips.get((label, predicted))
    images = f' data-images="{base64.b64encode(strip).decode()}"' if strip else ""
    return f'<td{kind} style="--share:{max(4, round(100 * share))}%"{images}>{count}'


# classes and calibration


def classes(folder: Path) -> str:
    rows = columns(folder / "classes.csv", CLASSES)
    percents = [
        [
            name,
            *(percent(cell, "classes.csv") for cell in cells[:5]),
            *(whole(cell, "classes.csv") for cell in cells[5:7]),
        ]
        for name, *cells in rows
    ]
    lost = sum(whole(cells[-1], "classes.csv") for cells in rows)
    header = ("class", "precision %", "recall %", "F1 %", "average precision %", "ROC AUC %", "images", "predictions")
    words = "The class with the lowest F1 comes first. Click on a heading to sort by it."
    if lost:
        words += f" Images whose logits are not finite: {lost:,}. They count as wrong, and have no prediction."
    hint, shown = note(words), table(header, [("", percents)], "Classes")
    return f'<h3>Classes</h3>\n{hint}<div class="sorts">{shown}</div>'


def percent(cell: str, where: str) -> str | None:
    return None if not cell else f"{100 * fraction(cell, where):.2f}"


def calibration(folder: Path) -> str:
    where = "calibration.csv"
    bins = [
        (whole(images, where), whole(right, where), fraction(mean or "0", where))
        for _, _, images, right, mean in columns(folder / where, CALIBRATION)
    ]
    total = sum(images for images, *_ in bins)
    if any(right > images for images, right, _ in bins):
        raise Broken(f"{where} is damaged: it counts more right images than there are.")
    if not total:
        raise Broken(f"{where} counts no images: none has finite logits.")
    error = sum(abs(right - mean * images) for images, right, mean in bins) / total
    words = (
        f"Expected calibration error {100 * error:.2f} %. Points: the share of right images over the highest "
        "probability; on the dotted line the network is as sure as it is right. Bars: right (blue) and wrong (orange) "
        "images."
    )
    return f"<h3>Calibration</h3>\n{note(words)}{calibration_svg(bins)}"


WIDE, HIGH, LEFT, BOTTOM = 560, 240, 34, 22  # of the drawing, and the room for its axes


def calibration_svg(bins: list[tuple[int, int, float]]) -> str:
    most = max(images for images, *_ in bins)
    step = (WIDE - LEFT) / len(bins)
    bars = "".join(
        f"<g><title>{images} images, {right} right, mean probability {mean:.3f}</title>"
        f"{bar(LEFT + i * step, step, 0, right / most, 'right')}"
        f"{bar(LEFT + i * step, step, right / most, images / most, 'wrong')}</g>"
        for i, (images, right, mean) in enumerate(bins)
        if images
    )
    points = [(LEFT + mean * (WIDE - LEFT), HIGH * (1 - right / images)) for images, right, mean in bins if images]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in points)
    marks = "".join(
        f'<text x="{LEFT - 5}" y="{HIGH * (1 - i / 4) + 4:.0f}" text-anchor="end">{i / 4:g}</text>'
        f'<text x="{LEFT + i / 4 * (WIDE - LEFT):.0f}" y="{HIGH + 16}" text-anchor="middle">{i / 4:g}</text>'
        for i in range(5)
    )
    return (
        f'<svg class=calibration viewBox="0 -8 {WIDE + 12} {HIGH + BOTTOM + 8}" role=img '
        f'aria-label="Accuracy over the highest probability of the validation images">'
        f'<path class=axis d="M{LEFT} 0V{HIGH}H{WIDE}"/>{bars}<path class=ideal d="M{LEFT} {HIGH}L{WIDE} 0"/>'
        f'<polyline points="{line}"/>{dots}{marks}</svg>\n'
    )


def bar(left: float, step: float, low: float, high: float, kind: str) -> str:
    """Heights as shares of the drawing's."""
    size = f'width="{0.9 * step:.1f}" height="{HIGH * (high - low):.1f}"'
    return f'<rect class={kind} x="{left + 0.05 * step:.1f}" y="{HIGH * (1 - high):.1f}" {size}/>'


# pictures


def gallery(folder: Path, most_bytes: int) -> str:
    """Thumbnails that open, as long as they fit into the page; the files of the others are named."""
    cells, lines, left = [], [], most_bytes
    for path, words in [*figures(folder), *sheets(folder / "sheets")]:
        try:
            content = read_png(path)
        except Broken as error:
            lines.append(str(error))
            continue
        if len(content) > left:
            lines.append(f"{path.name} is left out, so that the page stays small. It lies in {FOLDER}/ of the run.")
            continue
        left -= len(content)
        cells.append(thumbnail(content, words))
    shown = f"<h3>Pictures</h3>\n<div class=gallery>{''.join(cells)}</div>\n" if cells else ""
    return shown + "".join(map(note, lines))


def figures(folder: Path) -> Iterator[tuple[Path, str]]:
    """Those that the run has: most need --inspect full."""
    for name, words in PICTURES.items():
        if (path := folder / f"{name}.png").exists():
            yield path, words


def sheets(folder: Path) -> Iterator[tuple[Path, str]]:
    """Of the last epoch; of Grad-CAM also the first and the middle one, which show what changed."""
    for name, words in SHEETS.items():
        paths = sorted(folder.glob(f"{name}-[0-9][0-9][0-9][0-9].png"))
        places = {0, len(paths) // 2, len(paths) - 1} if name == "grad-cam" else {len(paths) - 1}
        for place in sorted(places) if paths else ():
            yield paths[place], f"{words}, epoch {int(paths[place].stem[-4:])}"


def thumbnail(content: bytes, words: str) -> str:
    return f"<details><summary>{picture_tag(content, words)}<span>{text(words)}</span></summary></details>\n"


# images


def suspects(folder: Path) -> str:
    """Of the command that looks for them; empty where nobody ran it."""
    path = folder / "suspects.csv"
    if not path.exists():
        return ""
    rows = [[*row[:4], f"{row[4]} of {row[5]}"] for row in columns(path, SUSPECTS)]
    header = ("file", "label", "prediction", "score", "validations wrong")
    hint = note(
        "Images that the late validations keep calling something else. The score is the mean margin. Look whether "
        f"their labels are right. {min(len(rows), MOST_SUSPECTS)} of {len(rows)} are shown, suspects.csv has all."
    )
    shown = table(header, [("", rows[:MOST_SUSPECTS])], "Suspects")
    return f"<h3>Suspects</h3>\n{hint}{shown}"


def worst(folder: Path) -> str:
    rows = columns(folder / "worst.csv", WORST)
    shown = table(WORST, [("", rows)], "Worst validation images")
    return f"<h3>Worst validation images</h3>\n<div class=worst>{shown}</div>"


# reading


def columns(path: Path, names: Sequence[str]) -> list[list[str]]:
    """These columns of a table, whatever others it has. Raises: Broken."""
    head, *rows = read_csv(path)
    lacking = [name for name in names if name not in head]
    if lacking or any(len(row) != len(head) for row in rows):
        raise Broken(
            f"{path.name} is damaged: {f'it has no column {lacking[0]}' if lacking else 'a row of it is cut'}."
        )
    return [[row[head.index(name)] for name in names] for row in rows]


def read_csv(path: Path) -> list[list[str]]:
    """At least a heading. Raises: Broken."""
    try:
        if path.stat().st_size > MOST_CSV_BYTES:
            raise Broken(f"{path.name} is too large to be shown here.")
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""), strict=True))
    except FileNotFoundError:
        raise Broken(f"{path.name} is missing. Train with --inspect to the end, or restore the file.") from None
    except UnicodeDecodeError:
        raise Broken(f"{path.name} is damaged: it is no UTF-8 text.") from None
    except (OSError, ValueError, csv.Error) as error:
        raise Broken(f"{path.name} cannot be read: {str(error)[:80]}.") from None
    if not rows or not all(rows):
        raise Broken(f"{path.name} is damaged: it is empty or has an empty line.")
    return rows


def whole(cell: str, where: str) -> int:
    if not (cell.isascii() and cell.isdecimal() and len(cell) <= 15):
        raise Broken(f"{where} is damaged: {cell[:20]!r} is no count.")
    return int(cell)


def fraction(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise Broken(f"{where} is damaged: {cell[:20]!r} is not between 0 and 1.")
    return value
