"""What one value of a phase may be. Each check raises PhaseError with place, value and remedy."""

import math

from phases.phase import PhaseError, shown

CURVES = ("linear", "cos", "pow2")
MAX_EPOCH = 100_000  # so that epoch + step/steps keeps 10 digits for the step
MAX_SIZE = 8_192  # pixels
MAX_BATCH = 1_000_000
MAX_RESIZE = 4  # short side before the centre crop, in validation sizes


def check_value(place: str, key: str, value: object) -> None:
    if key in ("sz", "val_sz"):
        whole(place, key, value, 8, MAX_SIZE)
    elif key in ("bs", "val_bs"):
        whole(place, key, value, 1, MAX_BATCH)
    elif key in ("rect_val", "keep_dl", "epoch_step") and not isinstance(value, bool):
        raise PhaseError(f"{place}: {key!r} must be True or False, not {shown(value, 30)}.")
    elif key in ("trndir", "valdir") and not (isinstance(value, str) and value.isprintable()):
        raise PhaseError(f"{place}: {key!r} must be a text such as '-sz/160', not {shown(value, 30)}.")
    elif key == "min_scale" and not (is_number(value) and 0 < value < 1):
        raise PhaseError(f"{place}: 'min_scale' must lie between 0 and 1, not {shown(value, 30)}. The default is 0.08.")
    elif key == "aug" and not (is_number(value) and 0 <= value <= 1):
        raise PhaseError(f"{place}: 'aug' must lie between 0 and 1, not {shown(value, 30)}. The default is 1.")
    elif key == "val_resize" and not (is_number(value) and 1 <= value <= MAX_RESIZE):
        raise PhaseError(f"{place}: 'val_resize' must lie between 1 and {MAX_RESIZE}, not {shown(value, 30)}.")
    elif key == "curve" and value not in CURVES:
        raise PhaseError(f"{place}: 'curve' must be 'linear', 'cos' or 'pow2', not {shown(value, 30)}.")


def whole(place: str, key: str, value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise PhaseError(f"{place}: {key!r} must be a whole number from {low} to {high}, not {shown(value, 30)}.")
    return value


def epoch_number(place: str, key: str, value: object) -> int | float:
    """A place in the run in epochs: an int where it is whole, else a float of nine decimals."""
    if not (is_number(value) and 0 <= value <= MAX_EPOCH):
        raise PhaseError(f"{place}: {key!r} must be a number from 0 to {MAX_EPOCH}, not {shown(value, 30)}.")
    return int(value) if value == int(value) else round(value, 9)


def is_number(value: object) -> bool:
    """A finite int or float; True and False are not numbers here."""
    return (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) < 10**300)
