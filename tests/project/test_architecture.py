"""The rules of the layout, read from the source: who imports whom, how large things are, what is never used."""

import ast
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = {"training", "phases", "dawn", "data_prep"}
MAY_IMPORT = {"training": {"phases", "data_prep", "dawn"}, "phases": {"dawn"}, "data_prep": {"dawn"}, "dawn": set()}
SHARED = {"dawn.filekind", "dawn.commandline"}  # all that phases and data_prep take of another package
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
DEPENDENCIES |= {"isal", "safetensors", "onnx", "onnxruntime", "pycocotools", "optuna", "ray", "fsspec"}
FILES = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))
REGISTRY = ("__init__", "registry")  # beside the recipes
MAX_FUNCTION, MAX_FILE, MAX_ROOM = 60, 500, 15  # lines, lines, Python files
FLOORS = {  # an import between the rooms of a package goes only to the right; rooms that stand together do not meet
    "training": "train_imagenet_nv __main__ search detection export evaluation diagnosis plan runs inspect engine logs "
    "data distributed models config errors",
    "dawn": "__main__ commands report prepare_dawn_tsv,prepare_dawn_bs,prepare_dawn_is,prepare_dawn_lr page "
    "importers,reports,leaderboard,stats dawnbench files runlog,tables filekind commandline",
    "data_prep": "__main__ commands sources trees stores,crops formats engines files,workers errors,progress,interrupt",
    "phases": "__main__ chart,table parts schedule source,ramps language values,catalog,arithmetic,quotes phase",
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
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


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree(path)))


def outside_functions(path: Path) -> ast.Module:
    return ast.Module([node for node in tree(path).body if not isinstance(node, ast.FunctionDef)], [])


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def test_all_files_are_found():
    assert {package_of(path) for path in FILES} == OURS and len(FILES) > 150


def test_arrows_go_down():
    upward = {name_of(path): imports(tree(path)) & OURS - MAY_IMPORT[package_of(path)] for path in FILES}
    assert not {name: found for name, found in upward.items() if found - {name.split("/")[0]}}


def test_phases_and_data_prep_take_one_module_of_another_package():
    for path in FILES:
        if package_of(path) in ("phases", "data_prep"):
            others = {name for name in modules_imported(path) if not name.startswith(f"{package_of(path)}")}
            assert others <= SHARED, name_of(path)


def test_torch_stays_in_training():
    others = [path for path in FILES if package_of(path) != "training"]
    assert not [name_of(path) for path in others if imports(tree(path)) & TRAINING_ONLY]


def test_tensorboard_is_for_training_and_inside_functions_of_dawn():
    sources = {path: outside_functions(path) if package_of(path) == "dawn" else tree(path) for path in FILES}
    only = {"tensorboard", "google", "scipy"}
    others = {name_of(path): source for path, source in sources.items() if package_of(path) != "training"}
    assert not [name for name, source in others.items() if imports(source) & only]


def test_imports_are_declared():
    declared = set(sys.stdlib_module_names) | OURS | DEPENDENCIES
    undeclared = {name_of(path): imports(tree(path)) - declared for path in FILES}
    assert not {name: found for name, found in undeclared.items() if found}


def test_phases_is_standard_library_with_matplotlib_inside_functions():
    phases = [path for path in FILES if package_of(path) == "phases"]
    foreign = {name_of(path): imports(tree(path)) - set(sys.stdlib_module_names) for path in phases}
    assert not {name: found for name, found in foreign.items() if found - {"phases", "dawn", "matplotlib"}}
    assert not [name_of(path) for path in phases if "matplotlib" in imports(outside_functions(path))]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


@cache
def modules_imported(path: Path) -> set[str]:
    """Our modules that a file imports, at its top or inside functions."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in OURS:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (members & MODULES.keys()) or {node.module}
    return found


def test_imports_between_rooms_go_down():
    upward = []
    for path in FILES:
        package, here = package_of(path), module_of(path)
        floors = [floor.split(",") for floor in FLOORS[package].split()]
        floor = {room: number for number, rooms in enumerate(floors) for room in rooms}
        for other in modules_imported(path):
            rooms = [name.split(".")[1] for name in (here, other) if name.startswith(f"{package}.")]
            if here != package and len(rooms) == 2 and rooms[0] != rooms[1] and floor[rooms[0]] >= floor[rooms[1]]:
                upward.append(f"{here} imports {other}")
    assert not upward


def test_a_recipe_knows_only_the_configuration():
    recipes = [path for path in (ROOT / "training/config/recipes").glob("*.py") if path.stem not in REGISTRY]
    assert not [name_of(path) for path in recipes if modules_imported(path) - {"training.config.config"}]


def test_another_room_is_entered_by_its_public_modules():
    wrong = []
    for path in FILES:
        here = module_of(path)
        for other in modules_imported(path):
            room = other.rpartition(".")[0]
            if room in OURS or room == here or here.startswith(f"{room}.") or room not in MODULES:
                continue
            if other.rpartition(".")[2] not in public_names(room):
                wrong.append(f"{here} imports {other}, which {room} does not name")
    assert not wrong


@cache
def public_names(room: str) -> list[str]:
    assigned = [node for node in tree(MODULES[room]).body if isinstance(node, ast.Assign)]
    return ast.literal_eval(next(node.value for node in assigned if node.targets[0].id == "__all__"))


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


def test_files_and_functions_are_small():
    large = {name_of(path): count for path in FILES if (count := len(path.read_text().splitlines())) > MAX_FILE}
    for path in FILES:
        functions = [node for node in nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        for node in functions:
            if (count := node.end_lineno - node.lineno + 1) > MAX_FUNCTION:
                large[f"{name_of(path)}: {node.name}"] = count
    assert not large


def test_no_module_beside_a_script_is_named_like_another_library():
    """A script that is run by path has its own folder first on sys.path."""
    taken = set(sys.stdlib_module_names) | {name.lower() for name in DEPENDENCIES} | OURS
    beside = [path for path in FILES if len(path.relative_to(ROOT).parts) == 2 and path.stem[:2] != "__"]
    assert not [name_of(path) for path in beside if path.stem in taken]


def forbidden(node: ast.Call) -> bool:
    """Whether a call runs text, unpickles, starts a shell or unpacks what lies outside its folder."""
    if isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec", "compile", "__import__"):
        return True
    given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
    if given.get("weights_only") is False or given.get("allow_pickle") or given.get("shell"):
        return True
    if not isinstance(node.func, ast.Attribute):
        return False
    called = f"{getattr(node.func.value, 'id', '')}.{node.func.attr}"
    return (
        (called == "torch.load" and given.get("weights_only") is not True)
        or (called == "np.load" and given.get("allow_pickle") is not False)
        or (called.endswith(".extractall") and given.get("filter") != "data")
    )


def test_nothing_runs_text_or_unpickles():
    calls = [(path, node) for path in FILES for node in nodes(path) if isinstance(node, ast.Call)]
    assert not [f"{name_of(path)}:{node.lineno}: {ast.unparse(node)}" for path, node in calls if forbidden(node)]
    unpicklers = {"shelve", "marshal", "dill", "cloudpickle", "joblib"}
    assert not [name_of(path) for path in FILES if imports(tree(path)) & unpicklers]


def test_of_pickle_only_the_name_of_its_error_is_used():
    wrong = []
    for path in FILES:
        for node in nodes(path):
            taken = isinstance(node, ast.ImportFrom) and node.module == "pickle"
            of_pickle = isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "pickle"
            if taken or (of_pickle and node.attr != "UnpicklingError"):
                wrong.append(f"{name_of(path)}:{node.lineno}")
    assert not wrong


def test_every_file_says_what_it_is():
    assert not [name_of(path) for path in FILES if not ast.get_docstring(tree(path))]
