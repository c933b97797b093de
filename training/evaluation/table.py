"""What an evaluation prints: a line for each way, as it is measured, or CSV."""

import csv
import io
from collections.abc import Iterable

from training.evaluation.measure import Measured

COLUMNS = (
    "",
    "size",
    "shape",
    "tta",
    "weights",
    "top-1 %",
    "top-5 %",
    "correct",
    "of images",
    "GFLOP/image",
    "seconds",
)
WIDTHS = (1, 4, 11, 13, 7, 8, 8, 14, 9, 11, 8)
LEFT = ("shape", "tta", "weights")
CSV_COLUMNS = (
    *("size", "shape", "tta", "weights", "top1_percent", "top5_percent"),
    *("correct1", "correct5", "k5", "images", "flops_per_image", "seconds", "own"),
)


def head() -> str:
    return laid_out(COLUMNS)


def row(item: Measured, own: bool) -> str:
    """`own`: the setting that the run validates with."""
    seen = item.seen
    return laid_out(
        (
            "*" if own else "",
            f"{item.way.size}",
            item.way.shape,
            item.way.tta,
            seen.weights,
            f"{seen.percent('top1'):.3f}",
            f"{seen.percent('top5'):.3f}",
            f"{seen.correct1}, {seen.correct5}",
            f"{seen.images}",
            f"{item.flops / 1e9:.4g}",
            f"{item.seconds:.2f}",
        )
    )


def laid_out(cells: Iterable[str]) -> str:
    parts = [
        cell.ljust(width) if name in LEFT else cell.rjust(width)
        for cell, width, name in zip(cells, WIDTHS, COLUMNS, strict=True)
    ]
    return "  ".join(parts).rstrip()


def csv_head() -> str:
    return ",".join(CSV_COLUMNS)


def csv_row(item: Measured, own: bool) -> str:
    seen, out = item.seen, io.StringIO()
    values = (
        *(*item.way, seen.weights, f"{seen.percent('top1'):.6f}", f"{seen.percent('top5'):.6f}"),
        *(seen.correct1, seen.correct5, seen.k5, seen.images),
        *(f"{item.flops:.0f}", f"{item.seconds:.3f}", int(own)),
    )
    csv.writer(out, lineterminator="").writerow(values)
    return out.getvalue()
