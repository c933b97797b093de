"""The command line of `python -m training`, generated from the fields of Config."""

import argparse
import difflib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NoReturn

from dawn.commandline import quoted
from phases.quotes import split_schedule
from training.config.config import Config, with_values
from training.config.own_code import FLAGS, absolute, call, is_own, kind, own_function
from training.config.recipes.registry import RECIPES, recipe_config, recipe_name
from training.config.saved import read_config
from training.errors import ConfigError

IN_LOGDIR = "\0"  # --resume without a PATH: the run in --logdir; no path holds this character


class Parser(argparse.ArgumentParser):
    """Raises ConfigError, so that every input error ends in the same single line."""

    def error(self, message: str) -> NoReturn:
        remedy = split_schedule(message) or f"See {self.prog} --help"
        raise ConfigError(f"{' '.join(message.split())}. {remedy}")


def build_parser(
    prog: str = "python -m training", description: str = "", defaults: Config | None = None
) -> argparse.ArgumentParser:
    """Flags for every field; a flag that is not given leaves no trace, so that recipes show through. `defaults` are
    only told in the help."""
    defaults = defaults or Config()
    parser = Parser(
        prog=prog,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        description=description or DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", nargs="?", help="dataset folder, as prepared by `python -m data_prep`")
    for item in fields(Config):
        if item.name != "data":
            flags = f"--{item.name.replace('_', '-')}", *item.metadata["flags"]
            parser.add_argument(*flags, **arguments_of(item, getattr(defaults, item.name)))
    return parser


class Switch(argparse.BooleanOptionalAction):
    """--x and --no-x; for a field that is a no already (--no-bn-wd) its other form is without it (--bn-wd).

    argparse's own takes every flag that begins with --no- for a false.
    """

    def __init__(self, option_strings: list[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, **settings)
        if dest.startswith("no_"):
            self.option_strings = [*option_strings, f"--{dest.removeprefix('no_').replace('_', '-')}"]

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        is_no = option_string.startswith("--no-")
        setattr(namespace, self.dest, is_no == self.dest.startswith("no_"))


def arguments_of(item, default: Any) -> dict[str, Any]:
    kind, text = item.metadata["kind"], item.metadata["help"]
    default = "" if text == argparse.SUPPRESS or default == "" else f" (default: {default})"
    common = {"dest": item.name, "help": text + default if text != argparse.SUPPRESS else text}
    if kind is bool:
        return common | {"action": Switch}
    if item.name == "resume":
        return common | {"nargs": "?", "const": IN_LOGDIR, "metavar": "PATH"}
    if item.metadata["own"] and item.metadata["choices"]:  # Config checks it
        return common | {"metavar": f"{{{','.join(item.metadata['choices'])}}}"}
    if item.metadata["choices"]:
        return common | {"choices": item.metadata["choices"]}
    return common | {"type": kind, "metavar": kind.__name__.upper()}


def config_from(argv: list[str]) -> Config:
    """The resolved configuration of a command line. Raises: ConfigError."""
    return config_of(vars(build_parser().parse_args(argv)))


def config_of(given: dict[str, Any], defaults: Config | None = None) -> Config:
    """The fields that were given on top of the run to be resumed, of the recipe, or of `defaults`. Raises:
    ConfigError."""
    base = saved_config(given) if given.get("resume") else base_of(given, defaults)
    if given.get("data") and "://" not in given["data"]:  # its copies are called by its name
        path = Path(given["data"])
        given["data"] = str(path.resolve() if path.name in ("", "..") else path)
    return runnable(with_values(base, given))


def base_of(given: dict[str, Any], defaults: Config | None) -> Config:
    """What the given flags go on top of in a new run."""
    name = given.pop("recipe", "")
    return defaults if defaults and not name else new_base(name)


def new_base(recipe: str) -> Config:
    """The Config of a recipe, ours or the user's own; the plain defaults for ''. Raises: ConfigError."""
    return own_recipe(recipe) if is_own(recipe) else recipe_config(known_recipe(recipe))


def own_recipe(name: str) -> Config:
    """The Config that a user's function returns, called after the function. Raises: ConfigError."""
    config = call("recipe", name, f"{name.rpartition(':')[2]}()")
    if not isinstance(config, Config):
        raise ConfigError(f"--recipe {name}: returned {kind(config)}, not a Config")
    own = recipe_name(own_function("recipe", name))
    if own in RECIPES:
        raise ConfigError(f"--recipe {name}: {own} is a recipe of ours. Give the function another name")
    return replace(config, recipe=own)


def runnable(config: Config) -> Config:
    """With the whole path of own files. Raises: ConfigError for a Config that names no data or no schedule."""
    config = replace(config, **{flag: absolute(getattr(config, flag)) for flag in FLAGS})
    if not config.data:
        raise ConfigError(
            "no dataset folder given. Usage: python -m training DATA --recipe NAME; "
            "make one: python -m data_prep cifar10 DATA"
        )
    if "://" in config.data:
        raise ConfigError(
            f"{config.data}: training reads from a disk only. Make copies there: python -m data_prep resize "
            f"{quoted(config.data)} --sizes N --to FOLDER; or copy all: aws s3 sync {quoted(config.data)} FOLDER"
        )
    if not config.phases:
        raise ConfigError("no schedule: give --recipe NAME (see `python -m training recipes`) or --phases PHASES")
    return config


def saved_config(given: dict[str, Any]) -> Config:
    """The configuration that a run to be resumed was started with; settles what --resume names."""
    given["resume"] = given.get("logdir", "") if given["resume"] == IN_LOGDIR else given["resume"]
    if not given["resume"]:
        raise ConfigError("--resume: name a run folder, as --resume RUN or with --logdir RUN")
    path = Path(given["resume"])
    folder = path if path.is_dir() else path.parent.parent
    if not path.exists():
        advice = "Give the folder of a run, such as runs/cifar10-demo-001"
        raise ConfigError(f"--resume {path}: there is no such folder or file. {advice}")
    given.setdefault("logdir", str(folder))
    return read_config(folder)


def known_recipe(name: str) -> str:
    if name and name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"--recipe {name}: unknown recipe.{hint} Known: {', '.join(RECIPES)}")
    return name


DESCRIPTION = """Train DATA through a phase schedule to a target, on an honest clock.

  python -m training DATA --recipe cifar10-demo     train, time, report
  python -m training --resume RUN                   go on with an interrupted run, bit for bit
  python -m training DATA --recipe NAME --seeds 0-9 a run per seed, into one folder (python -m dawn study FOLDER)
  python -m training recipes                        list the recipes
  python -m training flags                          every flag with its default, as docs/flags.md
  python -m training probe DATA --phases X          what limits each phase: its loader or its model (--seconds 3)
  python -m training evaluate RUN --sizes 128 160   other sizes, shapes, mirror images in a table (evaluate --help)
  python -m training plan DATA --recipe NAME        what a run will cost here
  python -m training search DATA --target T ...     the schedule that reaches a target soonest here
  python -m training suspects RUN                   validation images whose label may be wrong (with --inspect)
  python -m training diagnose RUN                   why a run diverged, step by step (diagnose --help)
  python -m training export RUN --format timm       the weights for others, with a model card (export --help)
  python -m training detect COCO --weights RUN      the weights as a detector's backbone, COCO mAP (detect --help)
  python -m training demo                           CIFAR-10 from a download to a report in one command
(a dataset folder with one of these names: write ./recipes, ./flags, ./demo, ./probe and so on)"""
