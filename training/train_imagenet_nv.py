"""The command of the 2018 imagenet18 code, `train_imagenet_nv.py DATA --phases "[...]" --fp16 ...`, on today's engine:
its flags and its defaults, and every flag of `python -m training` beside them.

Runs by path from any folder, with -m, under torchrun, torch.distributed.launch and srun, and alone.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if not __package__:  # run by path: import from the folder above this one, also in worker processes that are spawned
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from training.__main__ import exit_code_of, start
from training.config.config import Config
from training.config.parser import Parser, build_parser, config_of
from training.distributed.launcher import ranks, warn
from training.distributed.process import leave
from training.errors import ConfigError

DEFAULTS = Config(model="resnet50", target="93", metric="top5", momentum=0.9, weight_decay=1e-4, print_freq=5)
# The 2018 code powered its machine off at the end, after a failure too. Accepted, and nothing happens.
SHUTDOWN = ("skip_auto_shutdown", "auto_shutdown_success_delay_mins", "auto_shutdown_failure_delay_mins")


def main(argv: list[str] | None = None) -> int:
    """The exit code (docs/exit-codes.md)."""
    arguments = sys.argv[1:] if argv is None else argv
    return exit_code_of(lambda: start(config_from_2018(arguments, warn)))


def config_from_2018(argv: list[str], tell: Callable[[str], None]) -> Config:
    """The configuration of a command line; `tell` gets a line for every flag without a meaning. Raises: ConfigError.

    Where the launcher left LOCAL_RANK out, --local_rank sets it in the environment.
    """
    given = vars(legacy_parser().parse_args(argv))
    os.environ.setdefault("LOCAL_RANK", str(given.pop("local_rank", 0)))
    ignored = [f"--{name.replace('_', '-')}" for name in SHUTDOWN if given.pop(name, None) is not None]
    if ignored:
        tell(f"{', '.join(ignored)}: ignored. This command never powers a machine off")
    if given.pop("distributed", False) and not launched():
        tell("--distributed: no launcher (torchrun, srun) started this process, so it trains alone, on one device")
    return config_of(given | precision(given), DEFAULTS)


def launched() -> bool:
    return "WORLD_SIZE" in os.environ or ranks().world_size > 1


def precision(given: dict[str, Any]) -> dict[str, str]:
    """--fp16, taken out of `given`, in today's word."""
    if not given.pop("fp16", False):
        return {}
    if given.get("precision", "fp16") != "fp16":
        raise ConfigError(f"--fp16 and --precision {given['precision']}: they contradict each other. Give one")
    return {"precision": "fp16"}


def legacy_parser() -> Parser:
    """Today's flags, told with the defaults of 2018, and those that only the 2018 command has."""
    parser = build_parser("train_imagenet_nv.py", __doc__, DEFAULTS)
    only = parser.add_argument_group("flags that only the 2018 command has")
    only.add_argument("--fp16", action="store_true", help="--precision fp16")
    only.add_argument("--distributed", action="store_true", help="does nothing: the launcher's environment decides")
    rank_help = "stands in for the environment's LOCAL_RANK where a launcher left that out"
    only.add_argument("--local_rank", "--local-rank", type=rank_number, metavar="N", help=rank_help)
    for name in SHUTDOWN:
        action = {"action": "store_true"} if name == "skip_auto_shutdown" else {"metavar": "MINUTES"}
        only.add_argument(f"--{name.replace('_', '-')}", help="ignored: no machine is ever powered off", **action)
    return parser


def rank_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 0")
    return int(text)


if __name__ == "__main__":
    leave(main())
