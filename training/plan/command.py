"""`python -m training plan DATA --recipe R | --phases X`: what a run will cost here, before it runs."""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dawn.files import write_atomic
from dawn.tables import plain, print_tables
from phases import Schedule
from training.config.config import Config
from training.config.parser import Parser, config_from
from training.config.schedule import resolved_schedule
from training.distributed.launcher import ranks, warn
from training.errors import ConfigError
from training.plan.elsewhere.extrapolate import FROM_HERE, HERE, Basis, images_per_second
from training.plan.elsewhere.hardware import TABLE_DATE, Hardware, hardware_named
from training.plan.forecast import Forecast
from training.plan.planner import Planned, Planner
from training.plan.report import accuracy_line, as_json, comparison, tables

DESCRIPTION = """What a run will cost on this machine, before it runs: seconds on every clock, with an interval.

  python -m training plan DATA --recipe NAME [any flag of a run]
  python -m training plan DATA --recipe NAME --compare a.json b.json     schedules side by side"""


def plan_parser() -> argparse.ArgumentParser:
    """The flags beside those of a run."""
    parser = Parser(
        prog="python -m training plan",
        description=DESCRIPTION,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--compare", nargs="+", default=[], metavar="X", help="more schedules, as --phases takes them, side by side")
    add("--no-measure", action="store_true", help="from the cache alone; what it lacks is told")
    add("--cost-per-hour", type=float, metavar="DOLLARS", help="price of all the hardware: dollars beside the seconds")
    add("--hardware", default="", metavar="NAME", help="hardware of the table, which is not here: an extrapolation")
    add("--scale-from", default="", metavar="RUN", help="with the efficiency of this run, not of this machine")
    add("--json", default="", metavar="FILE", help="the plan as JSON, T_total first")
    add(
        "--png",
        default="",
        metavar="FILE",
        help="a picture of the plan: seconds of each phase and their use",
    )
    return parser


def plan(arguments: list[str]) -> int:
    """The exit code. Raises: ConfigError, PhaseError, DataError, RunError."""
    own, others = plan_parser().parse_known_args(arguments)
    check_options(own)
    config = config_from(others)
    if config.resume or config.evaluate:
        raise ConfigError("plan: plans whole runs, from their beginning. Leave out --resume and --evaluate")
    hardware = hardware_named(own.hardware) if own.hardware else None
    price = own.cost_per_hour
    if price is None and hardware and hardware.price:
        price = hardware.price.dollars_per_hour
    basis = basis_of(own.scale_from)
    found = list(plans(own, config, hardware, basis))
    forecasts = [item.forecast for item in found]
    write_files(own, forecasts, price)
    print_tables([table for item in forecasts for table in tables(item, price)])
    if own.compare:
        print_tables([comparison(forecasts)])
    told = extrapolation_notes(hardware, basis, found, own.cost_per_hour) if hardware else notes(found, config)
    lines = [f"note: {line}" for item in found for line in item.notes] + list(map(accuracy_line, forecasts))
    print("\n".join([*lines, *told]))
    return 0


def basis_of(run: str) -> Basis | None:
    if not run:
        return None
    from training.plan.elsewhere.scale import seen_in  # imports torch

    return seen_in(run)


def write_files(own: argparse.Namespace, forecasts: list[Forecast], price: float | None) -> None:
    if own.json:
        content = as_json(forecasts[0], price)
        content |= {"compared": [as_json(other, price) for other in forecasts[1:]]} if own.compare else {}
        write_atomic(Path(own.json), (json.dumps(content, indent=1) + "\n").encode())
    if own.png:
        from training.plan.picture import plan_png

        write_atomic(Path(own.png), plan_png(forecasts))


def check_options(own: argparse.Namespace) -> None:
    if ranks().world_size > 1:
        raise ConfigError("plan: measures one process. Start it without a launcher such as torchrun")
    if own.scale_from and not own.hardware:
        raise ConfigError("--scale-from: needs --hardware, the hardware to plan for")
    price = own.cost_per_hour
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise ConfigError(f"--cost-per-hour {price}: must be US dollars per hour, 0 or more")


def plans(own: argparse.Namespace, config: Config, hardware: Hardware | None, basis: Basis | None) -> Iterator[Planned]:
    """Of the run's own schedule, then of each of --compare."""
    planner = Planner(warn)
    for number, phases in enumerate([config.phases, *own.compare]):
        asked = replace(config, phases=phases) if number else config
        schedule = resolved_schedule(asked, hardware.count if hardware else 1, warn)
        name = name_of(asked, schedule, number)
        if hardware:
            yield planner.extrapolated(name, asked, schedule, hardware, basis, not own.no_measure)
            continue
        yield planner.planned(name, asked, schedule, not own.no_measure)


def name_of(config: Config, schedule: Schedule, number: int) -> str:
    """The recipe, the preset or the file; of a text the sizes."""
    if not number and config.recipe:
        return config.recipe
    text = config.phases.strip()
    if text.startswith(("[", "(", "{")):
        return " > ".join(f"{phase.sz} px" for phase in schedule.data)
    return plain(text, 40)


def notes(found: list[Planned], config: Config) -> Iterator[str]:
    when = found[0].found.utc
    yield f"measured {'now' if found[0].is_new else f'at {when}, from the cache'}; ~ marks a step that was fitted"
    if config.stop_at_target:
        yield "the whole schedule is planned: the run ends earlier where it reaches its target"
    if config.inspect != "off":
        yield f"--inspect {config.inspect} is not planned"


def extrapolation_notes(
    hardware: Hardware, basis: Basis | None, found: list[Planned], price: float | None
) -> Iterator[str]:
    factor, told = (basis.factor, basis.told) if basis else (FROM_HERE, HERE)
    chip, plan = hardware.chip, found[0].forecast
    yield f"EXTRAPOLATED to {hardware.count} x {chip.name}, with {told}. A factor of {factor:g} either way is assumed"
    yield f"waiting for images is not planned: the loaders must give {images_per_second(plan, hardware):,.0f} images/s"
    peak = f"{chip.tera_flops[plan.precision]:g} TFLOP/s in {plan.precision}, {chip.gigabytes_per_second:,.0f} GB/s"
    yield f"{peak}, {chip.gigabytes:g} GB: {chip.source}; table of {TABLE_DATE}"
    if price is None and hardware.price:
        cost = hardware.price
        yield f"{cost.dollars_per_hour:g} dollars an hour on {cost.date}: {cost.source}"
    elif price is None:
        yield "the table has no price for it: --cost-per-hour gives dollars"
