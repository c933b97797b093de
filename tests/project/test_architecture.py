"""The rules of the layout, read from the source: who imports whom, how large things are, what is never used."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"training", "phases", "dawn", "data_prep"}
MAY_IMPORT = {"training": {"phases", "data_prep", "dawn"}, "phases": set(), "data_prep": set(), "dawn": set()}
TRAINING_ONLY = {"torch", "torchvision", "timm", "nvidia"}
DEPENDENCIES = TRAINING_ONLY | {"numpy", "PIL", "simplejpeg", "cykooz_resizer", "matplotlib", "rich", "pytest", "ruff"}
DEPENDENCIES |= {
    "setuptools",
    "tensorboard",
    "google",
    "pynvml",
    "scipy",
    "plotly",
    "mlperf_logging",
}  # google.protobuf comes with tensorboard
DEPENDENCIES |= {"safetensors", "onnx", "onnxruntime", "pycocotools"}
FILES = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))
MAX_FUNCTION, MAX_FILE, MAX_ROOM = 60, 500, 15  # lines, lines, Python files
FLOORS = {  # an import between the rooms of a package goes only to the right; rooms that stand together do not meet
    "training": "train_imagenet_nv __main__ detection export runs engine logs data distributed models config errors",
    "dawn": "__main__ commands report prepare_dawn_tsv,prepare_dawn_bs,prepare_dawn_is,prepare_dawn_lr page "
    "importers,reports,leaderboard,stats dawnbench files runlog,tables",
    "data_prep": "__main__ commands sources trees formats files,workers errors,progress,interrupt",
    "phases": "__main__ chart,table schedule source,ramps language values,catalog phase",
}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(node: ast.AST) -> set[str]:
    """Top-level names of everything imported inside `node`, at any depth."""
    names = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Import):
            names |= {alias.name.split(".")[0] for alias in part.names}
        elif isinstance(part, ast.ImportFrom):
            assert part.level == 0, "relative import"
            names.add((part.module or "").split(".")[0])
    return names


def each_file(argument: str = "path"):
    return pytest.mark.parametrize(argument, FILES, ids=lambda path: str(path.relative_to(ROOT)))


@each_file()
def test_arrows_go_down(path):
    package = path.relative_to(ROOT).parts[0]
    assert imports(tree(path)) & OURS <= MAY_IMPORT[package] | {package}


@each_file()
def test_torch_stays_in_training(path):
    if path.relative_to(ROOT).parts[0] != "training":
        assert not imports(tree(path)) & TRAINING_ONLY


@each_file()
def test_tensorboard_is_for_training_and_inside_functions_of_dawn(path):
    source = tree(path)
    package = path.relative_to(ROOT).parts[0]
    if package == "dawn":
        source = ast.Module([node for node in source.body if not isinstance(node, ast.FunctionDef)], [])
    if package != "training":
        assert not imports(source) & {"tensorboard", "google", "scipy"}


@each_file()
def test_imports_are_declared(path):
    assert imports(tree(path)) <= set(sys.stdlib_module_names) | OURS | DEPENDENCIES


@pytest.mark.parametrize("path", sorted((ROOT / "phases").rglob("*.py")), ids=lambda path: path.name)
def test_phases_is_standard_library_with_matplotlib_inside_functions(path):
    source = tree(path)
    assert imports(source) - set(sys.stdlib_module_names) <= {"phases", "matplotlib"}
    outside = ast.Module([node for node in source.body if not isinstance(node, ast.FunctionDef)], [])
    assert "matplotlib" not in imports(outside)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def modules_imported(path: Path) -> set[str]:
    """Our modules that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in OURS:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (members & MODULES.keys()) or {node.module}
    return found


@each_file()
def test_imports_between_rooms_go_down(path):
    package, here = path.relative_to(ROOT).parts[0], module_of(path)
    floors = [floor.split(",") for floor in FLOORS[package].split()]
    floor = {room: number for number, rooms in enumerate(floors) for room in rooms}
    for other in modules_imported(path):
        rooms = [name.split(".")[1] for name in (here, other) if name.startswith(f"{package}.")]
        if here != package and len(rooms) == 2 and rooms[0] != rooms[1]:
            assert floor[rooms[0]] < floor[rooms[1]], f"{here} imports {other}"


@each_file()
def test_a_recipe_knows_only_the_configuration(path):
    if path.parent == ROOT / "training" / "config" / "recipes" and path.stem not in ("__init__", "registry"):
        assert modules_imported(path) <= {"training.config.config"}


@each_file()
def test_another_room_is_entered_by_its_public_modules(path):
    here = module_of(path)
    for other in modules_imported(path):
        room = other.rpartition(".")[0]
        if room in OURS or room == here or here.startswith(f"{room}.") or room not in MODULES:
            continue
        names = next(
            n.value for n in tree(MODULES[room]).body if isinstance(n, ast.Assign) and n.targets[0].id == "__all__"
        )
        assert other.rpartition(".")[2] in ast.literal_eval(names), (
            f"{here} imports {other}, which {room} does not name"
        )


def test_no_circle_of_imports():
    waiting = {name: modules_imported(path) & MODULES.keys() - {name} for name, path in MODULES.items()}
    while free := [name for name, others in waiting.items() if not others & waiting.keys()]:
        for name in free:
            del waiting[name]
    assert not waiting


def test_rooms_are_small():
    rooms = {path.parent for path in FILES}
    counts = {str(room.relative_to(ROOT)): len(list(room.glob("*.py"))) for room in rooms}
    assert not {room: count for room, count in counts.items() if count > MAX_ROOM}


@each_file()
def test_files_and_functions_are_small(path):
    assert len(path.read_text().splitlines()) <= MAX_FILE
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno + 1 <= MAX_FUNCTION, f"{node.name} is too long"


@each_file()
def test_no_module_beside_a_script_is_named_like_another_library(path):
    """A script that is run by path has its own folder first on sys.path."""
    if len(path.relative_to(ROOT).parts) == 2 and path.stem not in ("__init__", "__main__"):
        assert path.stem not in set(sys.stdlib_module_names) | {name.lower() for name in DEPENDENCIES} | OURS


@each_file()
def test_nothing_runs_text_or_unpickles(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            assert name not in ("eval", "exec", "compile", "__import__"), f"{name}( in line {node.lineno}"
            given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            assert given.get("weights_only") is not False and not given.get("allow_pickle") and not given.get("shell")
            if ast.unparse(node.func) == "torch.load":
                assert given.get("weights_only") is True
            if ast.unparse(node.func) == "np.load":
                assert given.get("allow_pickle") is False
            if ast.unparse(node.func).endswith(".extractall"):
                assert given.get("filter") == "data"
    assert not imports(tree(path)) & {"shelve", "marshal", "dill", "cloudpickle", "joblib"}


@each_file()
def test_of_pickle_only_the_name_of_its_error_is_used(path):
    source = tree(path)
    assert not any(isinstance(node, ast.ImportFrom) and node.module == "pickle" for node in ast.walk(source))
    used = {ast.unparse(node) for node in ast.walk(source) if isinstance(node, ast.Attribute)}
    assert {name for name in used if name.startswith("pickle.")} <= {"pickle.UnpicklingError"}


@each_file()
def test_every_file_says_what_it_is(path):
    assert ast.get_docstring(tree(path))
