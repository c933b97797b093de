"""Curves from what training scripts print: torchvision's references, DeiT, and the ImageNet example of PyTorch."""

import re
from collections.abc import Iterable
from dataclasses import replace

from dawn.importers.curve import Curve, Point, Points
from dawn.importers.lines import Line
from dawn.importers.options import Options
from dawn.tables import counted

EPOCH = re.compile(r"\bEpoch: \[(\d{1,9})\]")
TOTAL = re.compile(r"\b(?:Epoch: \[\d{1,9}\]|Test:.{0,40}?) Total time: (?:(\d{1,6}) days?, )?(\d{1,2}):(\d\d):(\d\d)")
ACCURACY = re.compile(
    r"(?:\bTest: (?P<label>.{0,40}?)|\*\s{1,9})Acc@1\s{1,9}(?P<top1>\d{1,3}\.\d+)"
    r"(?:\s{1,9}Acc@5\s{1,9}(?P<top5>\d{1,3}\.\d+))?"
)


def is_console_line(line: Line) -> bool:
    return EPOCH.search(line.text) is not None


def console_curve(name: str, where: str, lines: Iterable[Line], options: Options) -> list[Curve]:
    """`Epoch: [0] Total time: 0:01:02`, `Test:  Total time: 0:00:05`, `Test:  Acc@1 71.2 Acc@5 90.1`; DeiT and the
    example print `* Acc@1 71.2 Acc@5 90.1`. Epochs count from 0, percents, times to the second.

    The hours are the sum of all times up to an evaluation, those of work that a resume has lost too.
    """
    found, epoch, seconds, others = Points(), None, 0, 0
    for line in lines:
        if match := EPOCH.search(line.text):
            before, epoch = epoch, int(match[1]) + 1
            if before is not None and epoch < before:
                found.resume_at(epoch)
        if match := TOTAL.search(line.text):
            days, hours, minutes, rest = (int(part or 0) for part in match.groups())
            seconds += ((days * 24 + hours) * 60 + minutes) * 60 + rest
        if (match := ACCURACY.search(line.text)) and epoch is not None:
            if (match["label"] or "").strip():  # "EMA": weights of another kind, of the same epoch
                others += 1
            else:
                top5 = float(match["top5"]) if match["top5"] else None
                found.add(Point(epoch, seconds / 3600, float(match["top1"]), top5))
    if others:
        found.notes.append(
            f"{counted(others, 'evaluation')} of averaged weights (EMA) left out: of an epoch the first counts"
        )
    if seconds or not found.points:
        clock = "the printed times of epochs and evaluations, to the second each; no set-up, no checkpoints"
        return [Curve(name, "console", tuple(found.points), clock, True, False, tuple(found.notes))]
    points = tuple(replace(point, hours=options.hours_at(point.epoch, where)) for point in found.points)
    return [Curve(name, "console", points, options.clock, None, None, tuple(found.notes))]
