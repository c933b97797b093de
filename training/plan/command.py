"""`python -m training plan DATA --recipe R | --phases X`: what a run will cost here, before it runs."""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dawn import process_start_ns
from dawn.files import write_atomic
from dawn.tables import plain, print_tables
from phases import Schedule
from training.config.config import Config
from training.config.parser import Parser, config_from
from training.config.schedule import resolved_schedule
from training.distributed.launcher import ranks, warn
from training.errors import ConfigError
from training.plan.planner import Planned, Planner
from training.plan.report import as_json, comparison, tables

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
    add("--json", default="", metavar="FILE", help="the plan as JSON, T_total first")
    add(
        "--png",
        default="",
        metavar="FILE",
        help="a picture of the plan: seconds of each phase and their use",
    )
    return parser


def plan(arguments: list[str]) -> int:
    """The exit code. Raises: ConfigError, PhaseError, DataError."""
    own, others = plan_parser().parse_known_args(arguments)
    check_options(own)
    config = config_from(others)
    found = list(plans(own, config))
    forecasts = [item.forecast for item in found]
    if own.json:
        content = as_json(forecasts[0], own.cost_per_hour)
        content |= {"compared": [as_json(other, own.cost_per_hour) for other in forecasts[1:]]} if own.compare else {}
        write_atomic(Path(own.json), (json.dumps(content, indent=1) + "\n").encode())
    if own.png:
        from training.plan.picture import plan_png

        write_atomic(Path(own.png), plan_png(forecasts))
    print_tables([table for item in forecasts for table in tables(item, own.cost_per_hour)])
    if own.compare:
        print_tables([comparison(forecasts)])
    for line in notes(found, config):
        print(line)
    return 0


def check_options(own: argparse.Namespace) -> None:
    if ranks().world_size > 1:
        raise ConfigError("plan: measures one process. Start it without a launcher such as torchrun")
    price = own.cost_per_hour
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise ConfigError(f"--cost-per-hour {price}: must be US dollars per hour, 0 or more")


def plans(own: argparse.Namespace, config: Config) -> Iterator[Planned]:
    """Of the run's own schedule, then of each of --compare."""
    origin, planner = process_start_ns(), Planner(warn)
    for number, phases in enumerate([config.phases, *own.compare]):
        asked = replace(config, phases=phases) if number else config
        schedule = resolved_schedule(asked, 1, warn)
        name = name_of(asked, schedule, number)
        yield planner.planned(name, asked, schedule, not own.no_measure, None if number else origin)


def name_of(config: Config, schedule: Schedule, number: int) -> str:
    """The recipe, the preset or the file; of a text the sizes."""
    if not number and config.recipe:
        return config.recipe
    text = config.phases.strip()
    if text.startswith(("[", "(", "{")):
        return " > ".join(f"{phase.sz} px" for phase in schedule.data)
    return plain(text, 40)


def notes(found: list[Planned], config: Config) -> Iterator[str]:
    for item in found:
        yield from (f"note: {line}" for line in item.notes)
    when = found[0].found.utc
    yield f"measured {'now' if found[0].is_new else f'at {when}, from the cache'}; ~ marks a step that was fitted"
    if config.stop_at_target:
        yield "the whole schedule is planned: the run ends earlier where it reaches its target"
    if config.inspect != "off":
        yield f"--inspect {config.inspect} is not planned"
