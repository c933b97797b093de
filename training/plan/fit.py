"""Step times of sizes and batches that were not measured, from those that were. No torch."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import replace

from training.plan.store import CheckTime, EntryTime, Measurements, StepTime
from training.plan.work import Checking, Entry, Training

REACH = 1.5  # times the arithmetic of the largest measured step, or that part of the smallest: beyond is no estimate
VIEWS = {"none": 1, "flip": 2, "flip-shift": 6, "flip-shift-25": 2.25}  # of an image in a validation


def interpolated(points: Mapping[float, float], x: float) -> float:
    """At `x` on the straight lines between measured `points`; beyond them on the last line, never below 0."""
    known = sorted(points.items())
    if len(known) == 1:
        return known[0][1]
    place = min(max(bisect_left([at for at, _ in known], x), 1), len(known) - 1)
    (x0, y0), (x1, y1) = known[place - 1], known[place]
    return max(0.0, y0 + (y1 - y0) * (x - x0) / (x1 - x0))


def in_proportion(points: Mapping[float, float], x: float) -> float:
    """As interpolated, but beyond `points` in proportion to the nearest: a line through two close ones would make much
    of how they differ by chance."""
    nearest = min(max(x, min(points)), max(points))
    return interpolated(points, nearest) * x / nearest


def step_time(found: Measurements, point: Training) -> tuple[StepTime | None, bool]:
    """What a step takes, and whether that was measured; None where the measurements do not tell. Fitted to steps that
    train the same layers, else to all of the folder."""
    if point in found.steps:
        return found.steps[point], True
    near = {other: time for other, time in found.steps.items() if other.folder == point.folder}
    alike = {other: time for other, time in near.items() if other.whitening == point.whitening}
    for known in (alike, near):
        if is_within(found, known, point):
            peak_bytes, image_bytes = peak(near, point)
            return replace(fitted(found, known, point), peak_bytes=peak_bytes, image_bytes=image_bytes), False
    return None, False


def fitted(found: Measurements, known: Mapping[Training, StepTime], point: Training) -> StepTime:
    """Without the memory, which does not end at 0 with the pixels."""
    work, wanted = {other: arithmetic(found, other) for other in known}, arithmetic(found, point)
    model = in_proportion({work[other]: time.model for other, time in known.items()}, wanted)
    step = in_proportion({work[other]: time.joint - time.wait for other, time in known.items()}, wanted)
    loader = in_proportion({pixels(other): time.loader for other, time in known.items()}, pixels(point))
    wait = in_proportion({pixels(other): time.wait for other, time in known.items()}, pixels(point))
    return StepTime(loader, model, step + wait, wait, max(time.spread for time in known.values()), 0)


def peak(near: Mapping[Training, StepTime], point: Training) -> tuple[int | None, float]:
    """Memory of the process, and of each image: it grows with the pixels of a batch, from what the network takes by
    itself."""
    known = {pixels(other): time.peak_bytes for other, time in near.items() if time.peak_bytes}
    slopes = {pixels(other): time.image_bytes / other.size**2 for other, time in near.items() if time.image_bytes}
    slope = slopes[max(slopes)] if slopes else 0.0  # bytes a pixel
    if len(known) > 1:
        return round(interpolated(known, pixels(point))), slope * point.size**2
    if not known or not slope:
        return None, 0.0
    (at, value), *_ = known.items()
    return round(max(0.0, value + slope * (pixels(point) - at))), slope * point.size**2


def is_within(found: Measurements, known: Iterable[Training], point: Training) -> bool:
    """Whether `known` steps are near enough to tell what a step of `point` takes."""
    wanted, work = arithmetic(found, point), [arithmetic(found, other) for other in known]
    return bool(work) and None not in (wanted, *work) and min(work) / REACH <= wanted <= max(work) * REACH


def arithmetic(found: Measurements, point: Training) -> float | None:
    """FLOPs of a step."""
    per_image = found.flops.get((point.size, point.whitening))
    return None if per_image is None else per_image * point.batch


def pixels(point: Training | Checking) -> float:
    return point.size**2 * point.batch


def check_time(found: Measurements, point: Checking) -> tuple[CheckTime | None, bool]:
    """What a pixel of a validation takes, and whether that was measured; of others the one of the nearest size. Their
    memory is at least that of smaller ones."""
    if point in found.checks:
        return found.checks[point], True
    near = [other for other in found.checks if other.rectangular == point.rectangular]
    if not near:
        return None, False
    other = min(near, key=lambda other: (abs(other.size - point.size), other.tta != point.tta))
    time, views = found.checks[other], VIEWS[point.tta] / VIEWS[other.tta]
    smaller = (time.peak_bytes for other, time in found.checks.items() if pixels(other) <= pixels(point))
    return replace(time, per_pixel=time.per_pixel * views, peak_bytes=max(smaller, default=0)), False


def entry_time(found: Measurements, entry: Entry) -> EntryTime | None:
    """Of a phase that was not entered the longest of its kind, and the least memory."""
    if entry in found.entries:
        return found.entries[entry]
    alike = [time for other, time in found.entries.items() if other.first == entry.first]
    if not alike:
        return None
    return EntryTime(max(time.seconds for time in alike), min(time.peak_bytes for time in alike))
