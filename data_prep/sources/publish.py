"""How a dataset comes into being: built in ROOT/.partial, moved into place, declared complete by the manifest.

A kill at any point leaves a folder without a manifest; the same command then goes on (finished downloads are kept)
or builds again.
"""

import os
import shutil
import sys
from pathlib import Path

from data_prep.errors import DataError
from data_prep.files import PARTIAL, sync_folder
from data_prep.formats.manifest import MANIFEST, Manifest, check_files, load_manifest, save_manifest
from dawn.commandline import quoted


def existing(root: Path, name: str) -> Manifest | None:
    """The manifest when dataset `name` is complete at `root`, None when it has to be made (again).

    DataError when the folder holds another dataset.
    """
    if not (root / MANIFEST).exists():
        return None
    try:
        manifest = load_manifest(root)
        if manifest.name == name:
            check_files(root, manifest)
    except DataError as error:
        print(f"making the dataset again: {error}", file=sys.stderr)
        return None
    if manifest.name != name:
        raise DataError(f"{root}: holds the dataset '{manifest.name}'. Choose another folder for '{name}'.")
    shutil.rmtree(root / PARTIAL, ignore_errors=True)  # left when a run was killed right after publishing
    return manifest


def refuse_foreign_tree(root: Path) -> None:
    """DataError when image folders lie at `root` that no unfinished preparation has put there."""
    for name in ("train", "validation", "val"):
        if (root / name).exists() and not (root / PARTIAL).exists():
            raise DataError(
                f"{root / name}: is there already. To use these images: python -m data_prep adopt {quoted(root)}; "
                "else choose another folder."
            )


def start(root: Path) -> Path:
    """Make sure no half dataset looks whole; returns the folder to build in."""
    (root / MANIFEST).unlink(missing_ok=True)
    sync_folder(root)
    (root / PARTIAL).mkdir(exist_ok=True)
    return root / PARTIAL


def publish(root: Path, manifest: Manifest) -> None:
    """Move the files of the manifest from ROOT/.partial into place and write the manifest, last."""
    for split in manifest.splits.values():
        for name in split.files:
            os.replace(root / PARTIAL / name, root / name)
    sync_folder(root)
    save_manifest(root, manifest)
    shutil.rmtree(root / PARTIAL, ignore_errors=True)
