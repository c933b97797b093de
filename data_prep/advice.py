"""Which command makes, or makes again, the dataset of a folder: the last sentence of many an error."""

from pathlib import Path

from data_prep.files import MANIFEST, PARTIAL

COPIES = "-sz"  # ROOT-sz/160 holds the images of ROOT with a short side of 160 pixels
MADE_BY = {  # beginning of a folder's name: the command that makes such a dataset; the first that fits
    "cifar10": "cifar10 {}",
    "toy": "toy {}",
    "imagenette": "imagenette {}",
    "imagewoof": "imagewoof {}",
    "imagenet": "imagenet TRAIN_TAR VAL_TAR {}",
}


def how_to_make(root: str | Path, name: str = "", packed: bool = False) -> str:
    """The command for the dataset at `root`, called `name` in its manifest ("": there is none), or for its pixels."""
    root, command = Path(root), "python -m data_prep"
    if packed:
        return f"Pack it again with: {command} pack {root}"
    of_user = not name and (root / "train").is_dir() and not (root / PARTIAL).exists()
    if root.parent.name.endswith(COPIES) and root.name.isdigit() and not of_user:
        source = root.parent.with_name(root.parent.name.removesuffix(COPIES))
        unknown = (source / "train").is_dir() and not (source / MANIFEST).exists()
        first = f"{command} adopt {source} && " if unknown else ""
        return f"Make it with: {first}{command} resize {source} --sizes {root.name}"
    if name in ("cifar10", "toy"):
        return f"Make the dataset again: {command} {name} {root}"
    if (root / "train").is_dir():
        return f"Index its images {'anew ' if name else ''}with: {command} adopt {root}{' --again' if name else ''}"
    if name:
        return f"Make the dataset again: {command} {name} {root}"
    maker = next((text for start, text in MADE_BY.items() if root.name.lower().startswith(start)), "")
    made = f"Make it with: {command} {maker.format(root)}" if maker else f"Make one: {command} --help lists how"
    return f"{made}; or put train/ and validation/ there and index them: {command} adopt {root}"
