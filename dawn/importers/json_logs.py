"""Curves from logs of one JSON object a line: those of ffcv-imagenet and DeiT."""

from collections.abc import Iterable

from dawn.importers.curve import Curve, Point, Points
from dawn.importers.lines import TORN, Line, percent_of
from dawn.importers.options import Options
from dawn.runlog.fields import Fields

FFCV_KEYS = {"top_1", "top_5"}
DEIT_KEYS = {"test_acc1"}


def ffcv_curve(name: str, where: str, lines: Iterable[Line], options: Options) -> list[Curve]:
    """One object a line; accuracies are fractions, epochs count from 0. At its end a run evaluates once more."""
    found = Points()
    for line in lines:
        fields = fields_of(line, found)
        if FFCV_KEYS & fields.values.keys():
            top1, top5 = (percent_of(fields.number(key, 0, 1)) for key in ("top_1", "top_5"))
            found.add(Point(fields.count("epoch") + 1, fields.number("relative_time") / 3600, top1, top5))
    clock = "from the moment model and loaders were ready, evaluation inside"
    return [Curve(name, "ffcv", tuple(found.points), clock, True, False, tuple(found.notes))]


def deit_curve(name: str, where: str, lines: Iterable[Line], options: Options) -> list[Curve]:
    """One object for each epoch, counted from 0, with its evaluation in percent and no time (facebookresearch/deit,
    main.py; MAE, ConvNeXt and others write the same). A resumed run writes an epoch again: the later one counts."""
    found = Points()
    for line in lines:
        fields = fields_of(line, found)
        if not DEIT_KEYS & fields.values.keys():
            continue
        epoch = fields.count("epoch") + 1
        if found.points and epoch <= found.points[-1].epoch:
            found.resume_at(epoch)
        top5 = fields.optional_number("test_acc5", 0, 100)
        found.add(Point(epoch, options.hours_at(epoch, where), fields.number("test_acc1", 0, 100), top5))
    return [Curve(name, "deit", tuple(found.points), options.clock, None, None, tuple(found.notes))]


def fields_of(line: Line, found: Points) -> Fields:
    """The object of a line, empty for an empty line and a last one that is cut off, which is told."""
    fields = line.fields(line.text) if line.text.strip() else Fields(line.where, {})
    if fields is None:
        found.notes.append(TORN)
    return fields or Fields(line.where, {})
