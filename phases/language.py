"""From a list of dicts to checked records. Every error names the phase (counted from 0), the value and a remedy."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from phases.catalog import near_match
from phases.phase import DataPhase, LrPhase, PhaseError, default_val_bs, shown
from phases.values import check_value, epoch_number, is_number

# what `keep_dl` keeps
LOADER_KEYS = ("sz", "trndir", "valdir", "min_scale", "rect_val", "val_sz", "val_bs", "aug", "val_resize")
DATA_KEYS = ("bs", "keep_dl", *LOADER_KEYS)
RATE_KEYS = ("lr", "mom", "curve", "epoch_step", "over")
KEYS = ("ep", *DATA_KEYS, *RATE_KEYS)


@dataclass(frozen=True)
class Entry:
    """One dict of the list; its values are checked one by one, but not yet against the other phases."""

    index: int
    keys: dict
    start: float
    end: float | None  # None: `ep` is one epoch

    @property
    def text(self) -> str:
        return shown(self.keys)

    @property
    def place(self) -> str:
        return f"phase {self.index} {self.text}"


def parse_phases(phases: list) -> tuple[tuple[DataPhase, ...], tuple[LrPhase, ...]]:
    """Both views of the list, each sorted by epoch. A dict with data and lr keys is in both. Raises PhaseError."""
    if not phases:
        raise PhaseError("phases: the list is empty. It needs at least one data phase and one lr phase.")
    entries = sorted((read_entry(i, phase) for i, phase in enumerate(phases)), key=lambda entry: entry.start)
    rates = tuple(lr_phase(entry) for entry in entries if "lr" in entry.keys or "mom" in entry.keys)
    data = data_phases([entry for entry in entries if any(key in entry.keys for key in DATA_KEYS)], last_epoch(rates))
    return data, rates


def last_epoch(rates: tuple[LrPhase, ...]) -> float:
    """Epochs trained, an int where they are whole: the largest `ep` of the lr phases. As in 2018 a last lr phase with
    one epoch trains nothing."""
    ends = [phase.start if phase.end is None else phase.end for phase in rates if phase.lr0 is not None]
    if not ends:
        raise PhaseError("phases: no phase has 'lr'. Add one, for instance {'ep': (0, 10), 'lr': (0.1, 0.0)}.")
    if max(ends) == 0:
        raise PhaseError("phases: nothing is trained, the schedule ends at epoch 0. Write a range: 'ep': (0, 10).")
    return max(ends)


# ---- one dict


def read_entry(index: int, phase: object) -> Entry:
    place = f"phase {index} {shown(phase)}"
    if not isinstance(phase, dict):
        raise PhaseError(f"{place}: not a dict. Write each phase as {{'ep': ..., ...}}.")
    for key in phase:
        # In 2018 a misspelt key did nothing, or failed when its phase began.
        if key not in KEYS:
            hint = near_match(str(key), KEYS) if isinstance(key, str) else ""
            raise PhaseError(f"{place}: unknown key {shown(key, 30)}.{hint} Known keys: {', '.join(KEYS)}.")
    check_complete(place, phase)
    start, end = epochs(place, phase["ep"])
    for key, value in phase.items():
        check_value(place, key, value)
    if end is not None and "lr" not in phase and "mom" not in phase:
        raise PhaseError(f"{place}: a data phase has one epoch; it lasts until the next one begins. Use 'ep': {start}.")
    return Entry(index, phase, start, end)


def check_complete(place: str, phase: dict) -> None:
    """Every key is used: 2018 silently ignored a dict or a key that had no effect."""
    if "ep" not in phase:
        raise PhaseError(f"{place}: 'ep' is missing. Say at which epoch the phase begins: 'ep': 0.")
    given = [key for key in DATA_KEYS if key in phase]
    if not given and "lr" not in phase and "mom" not in phase:
        raise PhaseError(f"{place}: neither 'bs' nor 'lr' nor 'mom' is set, so nothing changes. Remove it or add one.")
    if given and "bs" not in phase:
        name = "sz" if "sz" in phase else given[0]
        raise PhaseError(
            f"{place}: 'bs' is missing. A phase that sets {name!r} also sets 'bs'; "
            "to change only the batch size use 'keep_dl': True."
        )
    if given and "sz" not in phase and phase.get("keep_dl") is not True:
        raise PhaseError(
            f"{place}: 'sz' is missing. A phase that sets 'bs' also sets 'sz'; "
            "to change only the batch size use 'keep_dl': True."
        )
    for key in ("curve", "epoch_step", "over"):
        if key in phase and "lr" not in phase and "mom" not in phase:
            raise PhaseError(f"{place}: {key!r} needs 'lr' or 'mom' in the same phase. Move it there.")


def epochs(place: str, ep: object) -> tuple[float, float | None]:
    """`ep` as (start, end), end None for one epoch."""
    if not isinstance(ep, (list, tuple)):
        return epoch_number(place, "ep", ep), None
    return span(place, "ep", ep, "one epoch or (start, end)")


def span(place: str, key: str, value: list | tuple, what: str) -> tuple[float, float]:
    """Two places in epochs, the second later."""
    if len(value) != 2:
        raise PhaseError(f"{place}: {key!r} must be {what}, not {len(value)} values.")
    start, end = (epoch_number(place, key, epoch) for epoch in value)
    if start >= end:
        raise PhaseError(
            f"{place}: the range begins at {start} and ends at {end}. Write {key!r} as (start, later end)."
        )
    return start, end


def drawn_over(entry: Entry) -> tuple[float, float] | None:
    """`over`: the epochs of the whole curve, of which this phase shows the piece that `ep` cuts out."""
    value = entry.keys.get("over")
    if "over" not in entry.keys:
        return None
    what = "the (start, end) of the whole curve"
    if not isinstance(value, (list, tuple)):
        raise PhaseError(f"{entry.place}: 'over' must be {what}, not {shown(value, 30)}.")
    start, end = span(entry.place, "over", value, what)
    if not any(isinstance(entry.keys.get(key), (list, tuple)) for key in ("lr", "mom")):
        raise PhaseError(f"{entry.place}: 'over' needs a curve, but no value is a range. Write 'lr': (from, to).")
    if entry.end is None or not start <= entry.start < entry.end <= end:
        raise PhaseError(f"{entry.place}: 'ep' must be a range inside 'over'. Widen 'over' or shorten 'ep'.")
    return start, end


# ---- lr and momentum


def lr_phase(entry: Entry) -> LrPhase:
    keys = entry.keys
    return LrPhase(
        entry.start,
        entry.end,
        *numbers(entry, "lr", math.inf),
        *numbers(entry, "mom", 1.0),
        curve=keys.get("curve", "linear"),
        epoch_step=keys.get("epoch_step", False),
        over=drawn_over(entry),
        index=entry.index,
        text=entry.text,
    )


def numbers(entry: Entry, key: str, limit: float) -> tuple[float | None, float | None]:
    """(value, None) of a number, (first, last) of a pair, (None, None) when absent; all in [0, limit)."""
    value = entry.keys.get(key)
    if key not in entry.keys:
        return None, None
    values = value if isinstance(value, (list, tuple)) else (value,)
    bounds = "a finite number of 0 or more" if math.isinf(limit) else f"a number in [0, {limit:g})"
    for number in values:
        if not (is_number(number) and 0 <= number < limit):
            raise PhaseError(f"{entry.place}: {key!r} must be {bounds} or a pair of them, not {shown(number, 30)}.")
    if isinstance(value, (list, tuple)) and len(value) != 2:
        raise PhaseError(f"{entry.place}: {key!r} has {len(value)} values. Give one number or (first, last).")
    if len(values) == 1:
        return float(value), None
    if entry.end is None:
        raise PhaseError(f"{entry.place}: {key!r} is a range, so 'ep' must be one too: 'ep': ({entry.start}, END).")
    return float(values[0]), float(values[1])


# ---- data


def data_phases(entries: list[Entry], total: float) -> tuple[DataPhase, ...]:
    """Entries sorted by epoch -> data phases with `keep_dl` merged and every default filled in."""
    if not entries:
        raise PhaseError("phases: no phase has 'sz' and 'bs'. Add one, for instance {'ep': 0, 'sz': 128, 'bs': 512}.")
    if entries[0].start != 0:
        raise PhaseError(f"{entries[0].place}: the first data phase begins at epoch {entries[0].start}. Start it at 0.")
    for before, entry in pairwise(entries):
        if before.start == entry.start:
            raise PhaseError(
                f"phases {before.index} {before.text} and {entry.index} {entry.text}: "
                f"two data phases begin at epoch {entry.start}. Remove one of them."
            )
    result: list[DataPhase] = []
    for entry in entries:
        if entry.start * 2 % 1:
            raise PhaseError(
                f"{entry.place}: a data phase begins at a whole or half epoch, not at {entry.start:g}. "
                f"Use 'ep': {round(entry.start * 2) / 2:g}."
            )
        if entry.start >= total:
            raise PhaseError(
                f"{entry.place}: begins at epoch {entry.start}, but the learning rates end at epoch {total}. "
                "Start it earlier or extend the last lr phase."
            )
        result.append(kept(entry, result) if entry.keys.get("keep_dl") else opened(entry))
    return tuple(result)


def opened(entry: Entry) -> DataPhase:
    """A data phase with loaders of its own."""
    keys = {"trndir": "", "min_scale": 0.08, "rect_val": False, **entry.keys}
    return DataPhase(
        epoch=entry.start,
        sz=keys["sz"],
        bs=keys["bs"],
        trndir=keys["trndir"],
        valdir=keys.get("valdir", keys["trndir"]),
        min_scale=float(keys["min_scale"]),
        rect_val=keys["rect_val"],
        val_sz=keys.get("val_sz", keys["sz"]),
        val_bs=keys.get("val_bs", default_val_bs(keys["sz"], keys["bs"])),
        aug=float(keys.get("aug", 1.0)),
        val_resize=float(keys["val_resize"]) if "val_resize" in keys else None,
    )


def kept(entry: Entry, before: list[DataPhase]) -> DataPhase:
    """The data phase before with another batch size. A loader key may be repeated, not changed."""
    if not before:
        raise PhaseError(f"{entry.place}: 'keep_dl' keeps the loaders of the phase before; here is none. Use 'sz'.")
    for key in LOADER_KEYS:
        old = getattr(before[-1], key)
        if entry.keys.get(key, old) != old:
            raise PhaseError(
                f"{entry.place}: 'keep_dl' keeps the loaders, so {key!r} stays {shown(old, 30)}. "
                f"Remove {key!r}, or 'keep_dl' to change it."
            )
    return replace(before[-1], epoch=entry.start, bs=entry.keys["bs"], keep_dl=True)
