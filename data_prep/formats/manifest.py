"""The manifest: what a dataset is, and the proof that it is whole. ROOT/manifest.json, written last.

A preparation removes the old manifest first and writes the new one last, so a folder with a manifest is complete.
Everything read here is checked: the file may come from elsewhere.
"""

import json
import platform
import re
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

from data_prep.errors import DataError
from data_prep.files import MANIFEST, PARTIAL, file_digest, write_atomically
from dawn.commandline import quoted
from dawn.filekind import wrong_kind, wrong_kind_of

FORMAT = 1
MAX_BYTES = 16 * 2**20  # lists of images live in index files, so a manifest is small
KINDS = {".npz": "zip", ".npy": "npy", ".bin": "raw"}  # what dawn.filekind calls our files
COPIES = "-sz"  # ROOT-sz/160 holds the images of ROOT with a short side of 160 pixels
CROPS = "-crops"  # ROOT-crops holds the images of ROOT laid out for cuts
MADE_BY = {  # beginning of a folder's name: the command that makes such a dataset; the first that fits
    "cifar10": "cifar10 {}",
    "toy": "toy {}",
    "imagenette": "imagenette {}",
    "imagewoof": "imagewoof {}",
    "imagenet": "imagenet TRAIN_TAR VAL_TAR {}",
}


@dataclass(frozen=True)
class Split:
    images: int
    per_class: tuple[int, ...]  # images of each class, in the order of Manifest.classes
    width: tuple[int, int]  # pixels, smallest and largest; of the image files where there are any,
    height: tuple[int, int]  # else of the packed images
    files: dict[str, dict]  # name relative to ROOT -> {"bytes": int, "sha256": hex}


@dataclass(frozen=True)
class Manifest:
    name: str  # "cifar10"
    task: str  # "CIFAR10", the DAWNBench task where there is one
    source: str  # where the data came from
    classes: tuple[str, ...]  # label -> name
    splits: dict[str, Split]  # "train", "validation"
    sha256: str  # over pixels and labels (packed.content_digest), or of the image index (index_digest)
    created_by: str  # versions of the tools


def load_manifest(root: str | Path) -> Manifest:
    """The manifest of the dataset at `root`. DataError when it is missing, unreadable or half written."""
    root = Path(root)
    path = root / MANIFEST
    remedy = how_to_make(root)
    try:
        with open(path, "rb") as handle:
            text = handle.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        state = f"{MANIFEST} is missing" if root.is_dir() else "there is no such folder"
        if (root / PARTIAL).exists():
            state = "the preparation was not finished; the same command goes on"
        raise DataError(f"no dataset at {root}: {state}. {remedy}") from None
    except OSError as error:
        raise DataError(f"no dataset at {root}: {MANIFEST} cannot be read ({error.strerror}). {remedy}") from error
    try:
        _need(len(text) <= MAX_BYTES, f"larger than {MAX_BYTES} bytes")
        return _from_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        if text and (kind := wrong_kind_of(text, path)):
            raise DataError(f"no dataset at {root}: {path}: {kind}.") from None
        reason = str(error).splitlines()[0][:200] or type(error).__name__
        raise DataError(f"no dataset at {root}: {MANIFEST} is damaged ({reason}). {remedy}") from error


def save_manifest(root: Path, manifest: Manifest) -> None:
    """Declare the dataset complete: call it last, when every other file is on disk."""
    text = json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1) + "\n"
    assert _from_json(json.loads(text)) == manifest, "a manifest that cannot be read back"
    write_atomically(root / MANIFEST, text.encode())


def check_files(root: str | Path, manifest: Manifest, hashes: bool = True, only: set[str] | None = None) -> None:
    """Compare the files of the manifest (or those named in `only`) with the disk, by size and (`hashes`) SHA-256.

    DataError names the first that differs.
    """
    for split in manifest.splits.values():
        for name, expected in split.files.items():
            path = Path(root) / name
            reason = _difference(path, expected, hashes) if only is None or name in only else ""
            if reason:
                reason = wrong_kind(path, KINDS.get(path.suffix, "")) or reason
                remedy = how_to_make(root, manifest.name, packed=".pixels." in name)
                raise DataError(f"{path}: {reason}. {remedy}")


def describe_files(root: Path, names: list[str]) -> dict[str, dict]:
    """The `files` entry of a Split, from what lies in `root`."""
    return {name: {"bytes": (root / name).stat().st_size, "sha256": file_digest(root / name)} for name in names}


def tool_versions() -> str:
    """Versions that decide the bytes of a dataset."""
    try:
        own = metadata.version("dawn-harness")
    except metadata.PackageNotFoundError:
        own = "not installed"
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "pillow"))
    return f"dawn-harness {own}, {libraries}, Python {platform.python_version()}"


def _difference(path: Path, expected: dict, hashes: bool) -> str:
    try:
        size = path.stat().st_size
        if size != expected["bytes"]:
            return f"{size} bytes, the manifest says {expected['bytes']}"
        if hashes and file_digest(path) != expected["sha256"]:
            return "SHA-256 differs from the manifest: the file was changed or damaged"
    except OSError as error:
        return f"listed in the manifest but not readable ({error.strerror})"
    return ""


def _from_json(data: object) -> Manifest:
    """ValueError (with the reason) when `data` is not a manifest."""
    _need(isinstance(data, dict), "not an object")
    _need(data.get("format") == FORMAT, f"format {data.get('format')!r}, this version reads {FORMAT}")
    texts = {key: data.get(key, "") for key in ("name", "task", "source", "created_by", "sha256")}
    for key, value in texts.items():
        _need(isinstance(value, str) and value.isprintable(), f"'{key}' is not a line of text")
    _need(re.fullmatch(r"[a-z0-9-]+", texts["name"]), f"bad name {texts['name']!r}")
    _need(_is_sha256(texts["sha256"]), "'sha256' is not a SHA-256")
    classes = data.get("classes")
    _need(isinstance(classes, list) and classes, "'classes' is not a list of names")
    _need(all(isinstance(name, str) and name.isprintable() for name in classes), "a class name is not printable text")
    _need(len(set(classes)) == len(classes), "a class name occurs twice")
    splits = data.get("splits")
    _need(isinstance(splits, dict) and set(splits) == {"train", "validation"}, "'splits' are not train and validation")
    return Manifest(
        classes=tuple(classes), splits={name: _split(name, splits[name], len(classes)) for name in splits}, **texts
    )


def _split(name: str, data: object, classes: int) -> Split:
    _need(isinstance(data, dict), f"split '{name}' is not an object")
    per_class, files = data.get("per_class"), data.get("files")
    _need(_are_counts(per_class, classes), f"'per_class' of '{name}' is not {classes} numbers")
    _need(
        _are_counts([data.get("images")], 1) and sum(per_class) == data["images"] > 0,
        f"'images' of '{name}' is not the sum of 'per_class'",
    )
    for side in ("width", "height"):
        _need(_are_counts(data.get(side), 2), f"'{side}' of '{name}' is not two numbers")
    _need(isinstance(files, dict) and files, f"'files' of '{name}' is not a table of files")
    for file, facts in files.items():
        _need(_is_inside(file), f"file name {file!r} leaves the folder")
        _need(
            isinstance(facts, dict) and _are_counts([facts.get("bytes")], 1) and _is_sha256(facts.get("sha256")),
            f"no size and SHA-256 of {file!r}",
        )
    return Split(data["images"], tuple(per_class), tuple(data["width"]), tuple(data["height"]), files)


def _need(condition: object, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


def _are_counts(values: object, length: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == length
        and all(type(value) is int and 0 <= value < 2**63 for value in values)
    )


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and name.isprintable() and not path.is_absolute() and ".." not in path.parts


def how_to_make(root: str | Path, name: str = "", packed: bool = False) -> str:
    """The command for the dataset at `root`, called `name` in its manifest ("": there is none), or for its pixels."""
    root, command = Path(root), "python -m data_prep"
    if packed:
        return f"Pack it again with: {command} pack {quoted(root)}"
    of_user = not name and (root / "train").is_dir() and not (root / PARTIAL).exists()
    if not of_user and (copy := _copy_of(root)):
        source, making = copy
        unknown = (source / "train").is_dir() and not (source / MANIFEST).exists()
        first = f"{command} adopt {quoted(source)} && " if unknown else ""
        return f"Make it with: {first}{command} {making}"
    if name in ("cifar10", "toy"):
        return f"Make the dataset again: {command} {quoted(name)} {quoted(root)}"
    if (root / "train").is_dir():
        adopt = f"{command} adopt {quoted(root)}"
        return f"Index its images anew with: {adopt} --again" if name else f"Index its images with: {adopt}"
    if name:
        return f"Make the dataset again: {command} {quoted(name)} {quoted(root)}"
    maker = next((text for start, text in MADE_BY.items() if root.name.lower().startswith(start)), "")
    made = f"Make it with: {command} {maker.format(quoted(root))}" if maker else f"Make one: {command} --help lists how"
    return f"{made}; or put train/ and validation/ there and index them: {command} adopt {quoted(root)}"


def _copy_of(root: Path) -> tuple[Path, str] | None:
    """The tree that `root` is a copy of by its name, and the command that makes the copy."""
    if root.parent.name.endswith(COPIES) and root.name.isdigit():
        source = root.parent.with_name(root.parent.name.removesuffix(COPIES))
        return source, f"resize {quoted(source)} --sizes {root.name}"
    if root.name.endswith(CROPS) and root.name != CROPS:
        source = root.with_name(root.name.removesuffix(CROPS))
        return source, f"index-crops {quoted(source)}"
    return None
