"""The batch sizes of a run from TensorBoard events as JSON lines: batch of all devices, images seen.

A script of the 2018 code, called as it was: `python dawn/prepare_dawn_bs.py --events_path=PATH [--ignore-eval]`.
"""

import sys
from pathlib import Path

if not __package__:  # run by path: import from the repository's root, and never dawn/ itself as a place of modules
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from dawn.importers import prepare_dawn as prepare


def main(argv: list[str] | None = None) -> int:
    return prepare.main(prepare.batch_lines, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
