"""The wheel: what is in it, and the four commands from it in an environment of its own, away from the repository."""

import configparser
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("training", "phases", "dawn", "data_prep", "tests")
COMMANDS = ("dawn-train", "dawn-phases", "dawn-data", "dawn-report")
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]


def run(command: list[str | Path], folder: Path) -> str:
    """Standard output of a command that must succeed, with the repository nowhere on Python's path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built without a network from a copy, so that the work tree stays clean."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*ROOT.glob("*.cfg"), *ROOT.glob("*.toml"), *ROOT.glob("*.md"), ROOT / "LICENSE"]:
        shutil.copy(path, copy)
    run([*PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", out, copy], out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A clean virtual environment: the wheel, and the third-party packages of this one (they are 3 GB)."""
    home = tmp_path_factory.mktemp("clean") / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", home], home.parent)
    run([*PIP, "--python", home / "bin" / "python", "install", "--no-deps", "--no-index", wheel], home.parent)
    (site,) = home.glob("lib/python*/site-packages")
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "third_party.pth").write_text("\n".join(sorted(here)) + "\n")  # after ours; its own .pth files are not read
    return home


@pytest.mark.slow
def test_the_wheel_holds_the_packages_their_presets_and_the_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    presets = {f"phases/presets/{path.name}" for path in (ROOT / "phases" / "presets").glob("*.json")}
    modules = {str(path.relative_to(ROOT)) for name in SOURCES[:4] for path in (ROOT / name).rglob("*.py")}
    data = {"data_prep/sources/imagenet_validation.npz", "dawn/leaderboard/historical.json", "dawn/reports/prices.json"}
    data |= {f"dawn/page/{name}" for name in ("page.css", "page.js", "page_charts.js", "inside.css", "inside.js")}
    assert len(presets) >= 9 and presets | modules | data <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_holds_nothing_else(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(SOURCES[:4])


def test_the_wheel_names_the_four_commands(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("/entry_points.txt"))
    commands = configparser.ConfigParser()
    commands.read_string(archive.read(name).decode())
    assert set(commands["console_scripts"]) == set(COMMANDS)
    assert set(commands["console_scripts"].values()) == {f"{package}.__main__:main" for package in SOURCES[:4]}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_answer_help_from_another_folder(environment, tmp_path, command):
    assert run([environment / "bin" / command, "--help"], tmp_path).startswith("usage: ")


@pytest.mark.slow
def test_commands_find_their_presets_and_recipes(environment, tmp_path):
    assert "DATA-sz/352" in run([environment / "bin" / "dawn-phases", "show", "imagenet18-1"], tmp_path)
    assert "cifar10-demo" in run([environment / "bin" / "dawn-train", "recipes"], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_installed_code_runs_not_the_repositorys(environment, tmp_path):
    code = "import training, phases, dawn, data_prep; print(*{m.__file__ for m in (training, phases, dawn, data_prep)})"
    places = run([environment / "bin" / "python", "-c", code], tmp_path).split()
    assert len(places) == 4 and all(Path(place).is_relative_to(environment) for place in places)


@pytest.mark.slow
def test_a_package_that_shadows_ours_is_named(environment, tmp_path):
    """`phases` and its like are generic names: another one must not be imported in silence."""
    (tmp_path / "phases").mkdir()
    (tmp_path / "phases" / "__init__.py").write_text("")
    command = [environment / "bin" / "python", "-c", "import training"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1 and "another distribution shadows it" in done.stderr
