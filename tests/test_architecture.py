"""The rules of the layout, read from the source: who imports whom, how large things are, what is never used."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
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
MAX_FUNCTION, MAX_FILE = 60, 250  # lines


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


@each_file()
def test_files_and_functions_are_small(path):
    assert len(path.read_text().splitlines()) <= MAX_FILE
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno + 1 <= MAX_FUNCTION, f"{node.name} is too long"


@each_file()
def test_no_module_is_named_like_another_library(path):
    if path.stem not in ("__init__", "__main__"):
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
