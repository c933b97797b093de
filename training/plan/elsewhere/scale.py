"""The efficiency of a run that has been: its arithmetic against the peak of its hardware."""

from pathlib import Path

from dawn import read_run
from dawn.runlog.records import device_count
from dawn.runlog.run import Run, divided
from training.config.config import Config
from training.config.saved import read_config
from training.errors import ConfigError
from training.plan.elsewhere.extrapolate import FROM_RUN, Basis
from training.plan.elsewhere.hardware import TABLE, chip_of
from training.plan.flops import counted


def seen_in(path: str) -> Basis:
    """Of the run folder `path`. Raises: RunError, ConfigError for a run that does not tell it."""
    run, config = read_run(path), read_config(Path(path))
    if not run.rows:
        raise ConfigError(f"--scale-from {path}: no epoch of this run has ended. Give a run with one")
    logged = str(run.latest.hardware["name"])
    chip = chip_of(logged)
    if chip is None or run.start.precision not in chip.tera_flops:
        known = ", ".join(dict.fromkeys(item.chip.name for item in TABLE))
        where = f"ran in {run.start.precision} on {logged}, whose peak is not in the table"
        raise ConfigError(f"--scale-from {path}: {where}, which has {known}")
    peak = chip.tera_flops[run.start.precision] * 1e12 * device_count(run.latest.hardware)
    efficiency = arithmetic_of(run, config) / (peak * sum(row.seconds["train"] for row in run.rows))
    if not 0 < efficiency <= 1:
        raise ConfigError(f"--scale-from {path}: {efficiency:.2g} of the peak of {chip.name}, which cannot be")
    epochs, setup = len(run.rows), run.start.setup_seconds
    return Basis(
        f"{efficiency:.1%} of the peak of {logged}, as in {path}",
        FROM_RUN,
        *(setup.get(label, 0.0) for label in ("init", "prepare", "warm")),
        sum(row.seconds["checkpoint"] for row in run.rows) / epochs,
        sum(row.seconds["switch"] for row in run.rows) / len({(row.size, row.batch_size) for row in run.rows}),
        efficiency,
    )


def arithmetic_of(run: Run, config: Config) -> float:
    """FLOPs of all training steps, also of epochs within which the size changes."""
    classes, rows = int(run.start.dataset["classes"]), divided(run.rows)
    per_image = {size: counted(config, classes, size, False)[0] for size in {row.size for row in rows}}
    return float(sum(row.images * per_image[row.size] for row in rows))
