"""The denominator audit: out of how many images an accuracy was counted, from its digits alone.

Every accuracy is k correct of N images. A column of accuracies therefore tells which N are possible: with three or
more decimals usually one. Entries of DAWNBench turn out to be counted on all 50,000 validation images of ImageNet, on
48,238 (without the 1,762 of the 2014 blacklist), with a last batch dropped, or padded by images counted twice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

NOISE = Fraction(400, 2**24)  # percent: running means in single precision are off by up to so much
REAL = 1e-9  # percent: a value this near to one with fewer decimals was that one, e.g. 15.828299999999999
SHARE = 0.1  # how far from the task's number of images is searched
BLACKLIST = 1762  # images, ImageNet 2014 development kit
BATCHES = tuple(base * 2**power for base in (1, 5, 25, 3) for power in range(3, 15))  # of the explanations


@dataclass(frozen=True)
class Column:
    """Accuracies in percent as they are printed, e.g. ("93.012", "93.116")."""

    texts: tuple[str, ...]

    @cached_property
    def scaled(self) -> tuple[tuple[int, ...], int]:
        """The values as whole numbers, and what they are multiplied by: a fraction for each of ten thousand numbers of
        images would take ten times as long."""
        values = [Fraction(text) for text in self.texts]
        scale = math.lcm(*(value.denominator for value in values))
        return tuple(int(value * scale) for value in values), scale

    @cached_property
    def tolerance(self) -> Fraction:
        """Percent: half of the last decimal of the longest value (others may have lost trailing zeros), or the noise
        of single precision where that is more."""
        return max(Fraction(1, 2 * 10 ** max(map(_decimals, self.texts))), NOISE)

    def fits(self, images: int) -> bool:
        """Whether each value is some k of `images`."""
        values, scale = self.scaled
        whole, slack = 100 * scale, int(self.tolerance * scale * images)
        return all(min(rest := value * images % whole, whole - rest) <= slack for value in values)

    def tells(self, images: int) -> bool:
        """Whether there are enough decimals: with fewer, every value is near to some k of `images`."""
        return 2 * self.tolerance * images < 100


def _decimals(text: str) -> int:
    value = float(text)
    return next((places for places in range(16) if abs(round(value, places) - value) <= REAL), 16)


@dataclass(frozen=True)
class Audit:
    """fits: does the claimed number fit; others: the other numbers near it that do; tells: could the digits tell?"""

    claimed: int
    fits: bool
    others: tuple[int, ...]
    tells: bool

    def text(self) -> str:
        """One line for people."""
        if not self.tells:
            return f"too few decimals to tell whether {self.claimed} images were counted"
        nearest = sorted(self.others, key=lambda n: (not explanation(n, self.claimed), abs(n - self.claimed)))
        named = [f"{images}{_bracket(explanation(images, self.claimed))}" for images in nearest[:3]]
        found = ", ".join(named) + (f" and {len(self.others) - 3} more" if len(self.others) > 3 else "")
        if self.fits:
            return f"the digits fit {self.claimed} images" + (f"; also {found}" if found else " and no number near it")
        return f"the digits do not fit {self.claimed} images; " + (f"they fit {found}" if found else "nor any near it")


def audit(columns: Sequence[Sequence[str]], claimed: int) -> Audit:
    """Which N from 0.9 to 1.1 times `claimed` fit every column. Each column is a list of decimal numbers."""
    checked = sorted((Column(tuple(dict.fromkeys(column))) for column in columns), key=lambda column: column.tolerance)
    telling = [column for column in checked if column.tells(claimed)]
    span = range(round(claimed * (1 - SHARE)), round(claimed * (1 + SHARE)) + 1)
    found = [images for images in span if all(column.fits(images) for column in telling)] if telling else []
    fits = all(column.fits(claimed) for column in checked)
    return Audit(claimed, fits, tuple(images for images in found if images != claimed), bool(telling))


def explanation(images: int, task_images: int) -> str:
    """What may have happened when `images` were counted instead of `task_images`; empty if nothing plain did."""
    if images == task_images - BLACKLIST:
        return "the blacklisted images left out"
    for batch in BATCHES:
        if images == task_images // batch * batch:
            return f"the last batch of {batch} dropped"
        if images == -(-task_images // batch) * batch:
            return f"padded to batches of {batch}"
    return ""


def _bracket(text: str) -> str:
    return f" ({text})" if text else ""


def correct_images(percent: str, images: int) -> int:
    """The k that is nearest to `percent` of `images`."""
    return round(Fraction(percent) * images / 100)


def margin_images(correct: int, images: int, target: float) -> int:
    """Images above the fewest that reach `target` percent; below 0: missing."""
    return correct - -(-Fraction(repr(target)) * images // 100)


def standard_error_images(correct: int, images: int) -> float:
    """Of a count: sqrt(N p (1 - p)), what drawing other images of the same kind would change it by."""
    return (correct * (images - correct) / images) ** 0.5
