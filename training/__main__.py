"""`python -m training DATA --recipe NAME ...`, and the subcommands recipes, flags, demo, probe, plan, evaluate, export,
search, suspects, diagnose and detect."""

import os
import sys
from collections.abc import Callable
from importlib import import_module

from data_prep import DataError
from data_prep.interrupt import own_interrupts
from dawn import RunError
from dawn.commandline import ended, is_about_files, refusal
from phases import PhaseError, Schedule
from training.config.config import Config
from training.config.parser import Parser, config_from
from training.config.recipes.registry import recipe_lines
from training.config.schedule import resolved_schedule
from training.distributed.launcher import rank_word, ranks, warn
from training.distributed.process import leave, stop_with_launcher
from training.errors import INTERRUPTED, ConfigError, PeerFailed, WorkerLost, error_code


def main(argv: list[str] | None = None) -> int:
    """The exit code (docs/exit-codes.md); 2 after one line about bad input."""
    arguments = sys.argv[1:] if argv is None else argv
    return exit_code_of(lambda: dispatch(arguments), output_is_result=first_word(arguments) in PRINTED)


def exit_code_of(action: Callable[[], int], output_is_result: bool = False) -> int:
    """What `action` returns, or the code for the input error it raises, after one line that says it. A run has a folder
    and keeps its exit code where its output cannot be written."""
    return ended(lambda: input_errors_told(action), output_is_result)


def input_errors_told(action: Callable[[], int]) -> int:
    try:
        with own_interrupts():
            return action()
    except (ConfigError, PhaseError, DataError, RunError, WorkerLost) as error:
        say_of_rank(f"error: {error}")
        return error_code(error)
    except OSError as error:
        if not is_about_files(error):
            raise
        say_of_rank(f"error: {refusal(error)}")
        return error_code(error)
    except PeerFailed as error:
        say_once(f"error: {error}", error.said_by_all)
        return error.exit_code
    except KeyboardInterrupt:  # before the run can save anything
        print("interrupted before the first step", file=sys.stderr)
        return INTERRUPTED


def say_of_rank(text: str) -> None:
    """What a rank finds before it meets the others is its own, and says whose."""
    rank = rank_word()
    print(text if rank == "0" else f"rank {rank}: {text}", file=sys.stderr)


def say_once(text: str, by_all: bool = False) -> None:
    """Rank 0 speaks for all ranks, which end alike (training.distributed.group); each for itself with `by_all`."""
    if by_all or rank_word() == "0":
        print(text, file=sys.stderr)


def dispatch(arguments: list[str]) -> int:
    """The first word may be a subcommand; everything else trains."""
    if (word := first_word(arguments)) in SUBCOMMANDS:
        return SUBCOMMANDS[word](arguments[1:])
    if any(word == "--seeds" or word.startswith("--seeds=") for word in arguments):
        from training.runs.seeds import train_seeds

        return train_seeds(arguments)
    return start(config_from(arguments))


def first_word(arguments: list[str]) -> str:
    return arguments[0] if arguments else ""


def recipes(arguments: list[str]) -> int:
    parser = Parser(prog="python -m training recipes", description="List the recipes.")
    parser.add_argument("--markdown", action="store_true", help="as docs/recipes.md, with sources and differences")
    if parser.parse_args(arguments).markdown:
        from training.config.recipes.registry import recipes_markdown

        return show(recipes_markdown())
    return show("\n".join(recipe_lines()))


def flags(arguments: list[str]) -> int:
    from training.config.flag_table import flags_markdown

    parser = Parser(prog="python -m training flags", description="Every flag with its default, as docs/flags.md.")
    parser.add_argument("--markdown", action="store_true", help="a table in Markdown, which is the only form")
    parser.parse_args(arguments)
    return show(flags_markdown())


def probe(arguments: list[str]) -> int:
    """The flags of a run, and --seconds."""
    parser = Parser(prog="python -m training probe", add_help=False, allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=3.0)
    own, others = parser.parse_known_args(arguments)
    if not 0 < own.seconds <= 3600:  # NaN fails too
        raise ConfigError(f"--seconds {own.seconds}: must be above 0 and up to 3600")
    config = config_from(others)
    schedule = resolved_schedule(config, ranks().world_size, warn)
    from training.runs.probe import probe as measured

    for line in measured(config, schedule, own.seconds):
        print(line, flush=True)
    return 0


def start(config: Config) -> int:
    """Train with this configuration. Also what train_imagenet_nv does."""
    here = ranks()
    schedule = resolved_schedule(config, here.world_size, warn)
    if config.dry_run:
        from training.runs.dry_run import dry_run  # imports torch

        show(dry_run(config, schedule, here.world_size))
        return show_plan(config, schedule) if here.world_size == 1 else 0
    if here.world_size > 1:  # a rank that loses another says so in one line, not in torch's twenty
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    stop_with_launcher()
    from training.runs.session import run

    return run(config, schedule)


def show_plan(config: Config, schedule: Schedule) -> int:
    """After a dry run, what is known of the run's cost."""
    from training.plan.planner import known_total

    line = known_total(config, schedule, warn)
    return show(line) if line else 0


def show(text: str) -> int:
    print(text, flush=True)
    return 0


def imported(module: str, name: str) -> Callable[[list[str]], int]:
    """A subcommand of another module, which is imported when it runs: most need torch."""
    return lambda arguments: getattr(import_module(module), name)(arguments)


SUBCOMMANDS = {
    "recipes": recipes,
    "flags": flags,
    "probe": probe,
    "plan": imported("training.plan.command", "plan"),
    "demo": imported("training.runs.demo", "demo"),
    "export": imported("training.export.command", "export"),
    "evaluate": imported("training.evaluation.command", "evaluate"),
    "suspects": imported("training.inspect.suspects", "show_suspects"),
    "search": imported("training.search.command", "search"),
    "diagnose": imported("training.diagnosis.command", "diagnose"),
    "detect": imported("training.detection.command", "detect"),
}
PRINTED = ("recipes", "flags", "plan", "probe", "evaluate", "suspects")  # subcommands whose result is what they print


if __name__ == "__main__":
    leave(main())
