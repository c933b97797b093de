"""The values of the phase language: one data phase, one lr phase, one error. No parsing here."""

from dataclasses import dataclass, field

# 2018 validation batch: at least this many images per device at these training sizes, 128 at any other.
VALIDATION_BATCH = {128: 512, 224: 256}


class PhaseError(ValueError):
    """Bad user input: one line with place, value and remedy."""


@dataclass(frozen=True)
class DataPhase:
    """What the loaders deliver from `epoch` on, until the next data phase begins. `keep_dl` is already merged."""

    epoch: float  # an int, or a half more
    sz: int  # pixels, side of the square training crop
    bs: int  # training images per device and step
    trndir: str = ""  # glued to the data folder: '-sz/160' on DATA gives DATA-sz/160/train
    valdir: str = ""
    min_scale: float = 0.08  # smallest area of a random crop, as a share of the image
    rect_val: bool = False
    keep_dl: bool = False  # only `bs` differs from the data phase before
    val_sz: int = 0  # pixels
    val_bs: int = 0  # validation images per device and step
    aug: float = 1.0  # strength of the augmentation, 0 to 1
    val_resize: float | None = None  # short side before the centre crop in sizes; None: the trainer's own


@dataclass(frozen=True)
class LrPhase:
    """What one dict says about learning rate and momentum; either may be absent (None).

    `end` is None when `ep` is one epoch. `lr1` (`mom1`) is None when `lr` (`mom`) is one number, which then
    holds until the next lr (momentum) phase begins.
    """

    start: float
    end: float | None
    lr0: float | None = None
    lr1: float | None = None
    mom0: float | None = None
    mom1: float | None = None
    curve: str = "linear"  # or 'cos', 'pow2'
    epoch_step: bool = False  # True: constant inside an epoch
    over: tuple[float, float] | None = None  # epochs of the whole curve; None: those of this phase
    index: int = field(default=0, compare=False)  # place in the list as written, from 0
    text: str = field(default="", compare=False)  # the dict as written, shortened


def default_val_bs(sz: int, bs: int) -> int:
    """Validation images per device and step when `val_bs` is not given (the 2018 rule)."""
    return max(bs, VALIDATION_BATCH.get(sz, 128))


def shown_path(path: object) -> str:
    """A path as it is, unless it would break the line."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def shown(value: object, width: int = 80) -> str:
    """`value` in one line of at most `width` characters, for error messages."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python refuses to print integers of more than 4300 digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= width else text[: width - 3] + "..."
