"""A user's own model, optimizer, loader or recipe: `package.module:function` or `path/file.py:function` in place of a
name of ours.

The file is imported as Python imports it, never read as text, and the SHA-256 of its bytes says which code a run had.
What that file imports in turn is not in the hash.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from training.errors import ConfigError

FLAGS = ("model", "optimizer", "loader")  # fields of Config that may name own code
FORM = "package.module:function or path/file.py:function"


def is_own(name: str) -> bool:
    return ":" in name


def absolute(name: str) -> str:
    """The name with its file's whole path, so that it means the same in every folder."""
    place, _, function = name.rpartition(":")
    return f"{Path(place).resolve()}:{function}" if place.endswith(".py") else name


def short_name(name: str) -> str:
    """`file.py:function` without the folders; other names as they are. What logs and reports show."""
    return Path(name).name if is_own(name) and ".py:" in name else name


def own_function(flag: str, name: str) -> Callable:
    """Raises: ConfigError for a module, a file or a function that is not there or cannot be imported."""
    place, _, function = name.rpartition(":")
    if not place or not function.isidentifier():
        raise ConfigError(f"--{flag} {name}: not the name of a function. Write {FORM}")
    found = getattr(own_module(flag, name), function, None)
    if found is None:
        raise ConfigError(f"--{flag} {name}: there is no {function} in {own_file(flag, name)}. Check its name")
    if not callable(found):
        raise ConfigError(f"--{flag} {name}: {function} is {kind(found)} and cannot be called. Name a function")
    return found


def own_module(flag: str, name: str) -> ModuleType:
    place = name.rpartition(":")[0]
    try:
        return module_of_file(own_file(flag, name)) if place.endswith(".py") else importlib.import_module(place)
    except ConfigError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (place == error.name or place.startswith(f"{error.name}.")):
            raise no_module(flag, name) from None
        raise ConfigError(f"--{flag} {name}: its import fails: {said(error)}") from error
    except Exception as error:
        raise ConfigError(f"--{flag} {name}: its import fails: {said(error)}") from error


def module_of_file(path: Path) -> ModuleType:
    """Imported once for its content, under a name that no other module has."""
    name = f"own_{path.stem}_{hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def own_file(flag: str, name: str) -> Path:
    """The file with the code of a name. Raises: ConfigError where there is none."""
    place = name.rpartition(":")[0]
    if place.endswith(".py"):
        path = Path(place).resolve()
        if not path.is_file():
            raise ConfigError(f"--{flag} {name}: there is no file {path}. Check its path")
        return path
    try:
        spec = importlib.util.find_spec(place)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise no_module(flag, name)
    if not spec.origin or not Path(spec.origin).is_file():
        raise ConfigError(f"--{flag} {name}: {place} is a folder and has no file of its own. Write {FORM}")
    return Path(spec.origin).resolve()


def no_module(flag: str, name: str) -> ConfigError:
    place = name.rpartition(":")[0]
    return ConfigError(f"--{flag} {name}: there is no module {place} in {Path.cwd()} or installed. Write {FORM}")


def call(flag: str, name: str, wanted: str, *arguments: Any) -> Any:
    """What the named function returns for `arguments`, which `wanted` spells. Raises: ConfigError for one that takes
    others or that fails."""
    function = own_function(flag, name)
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        raise ConfigError(f"--{flag} {name}: must be callable as {wanted} ({error})") from None
    except ValueError:  # written in C: no signature to ask
        pass
    try:
        return function(*arguments)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"--{flag} {name}: {wanted} fails: {said(error)}") from error


def said(error: Exception) -> str:
    """One line: the class, the text, and the line of code that raised it."""
    last = (traceback.extract_tb(error.__traceback__) or [None])[-1]
    where = f" ({last.filename}, line {last.lineno})" if last else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{where}"


def kind(value: Any) -> str:
    """'a list', 'an int': for the end of a sentence."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def own_code(config: Any, flags: tuple[str, ...] = FLAGS) -> dict[str, dict[str, str]]:
    """By flag: the name, the file and the SHA-256 of the file, of every own part of a Config. Raises: ConfigError."""
    found = {}
    for flag in flags:
        name = getattr(config, flag)
        if is_own(name):
            path = own_file(flag, name)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[flag] = {"name": short_name(name), "sha256": digest, "file": str(path)}
    return found


def check_same_code(saved: dict[str, str], config: Any, place: str, flags: tuple[str, ...] = FLAGS) -> None:
    """`saved`: SHA-256 by flag, of the run in `place`. Raises: ConfigError that names a file whose content changed."""
    for flag, facts in own_code(config, flags).items():
        before = saved.get(flag, facts["sha256"])
        if before != facts["sha256"]:
            raise ConfigError(
                f"{place}: {facts['file']} of --{flag} is not the file that the run began with (SHA-256 "
                f"{before[:12]} then, {facts['sha256'][:12]} now). Restore it, or start a new run"
            )
