"""What plan-storage tells is what the commands then write."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from picture_tree import make_tree
from segmented_jpeg import segmented

from data_prep import DataError
from data_prep.__main__ import main
from data_prep.trees.adopt import adopt
from data_prep.trees.index_crops import index_crops
from data_prep.trees.pack import pack_tree
from data_prep.trees.resize import resize_tree
from data_prep.trees.source_tree import copy_root
from data_prep.trees.storage import Form, plan_storage

NEEDS_JPEGTRAN = pytest.mark.skipif(not shutil.which("jpegtran"), reason="needs jpegtran")
ALL = 1000


@pytest.fixture
def tree(tmp_path) -> Path:
    """Ten images of 16 to 24 px, one of 90 x 200."""
    root = make_tree(tmp_path / "photos", ("ant", "bee"))
    (root / "train/ant/large.JPEG").write_bytes(segmented(90, 200, "4:2:0", 1))
    adopt(root)
    return root


def by_name(forms: list[Form]) -> dict[str, Form]:
    """photos, photos-sz/12, photos-sz/12 packed ..."""
    names = ("/".join(form.path.parts[-2 if form.path.name.isdigit() else -1 :]) for form in forms)
    return {name + " packed" * form.packed: form for name, form in zip(names, forms, strict=True)}


def written(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern))


@NEEDS_JPEGTRAN
def test_a_sample_of_all_images_tells_what_the_commands_write(tree):
    plan = plan_storage(tree, [12, 40], ALL)
    planned = by_name(plan.forms)
    assert plan.sampled == 11 and not plan.note
    assert [form.there for form in plan.forms] == [True] + [False] * 6
    resize_tree(tree, [12, 40])
    pack_tree(copy_root(tree, 40)), pack_tree(tree), index_crops(tree)
    made = by_name(plan_storage(tree, [40, 12, 12], ALL).forms)
    assert made.keys() == planned.keys() and [name for name, form in made.items() if not form.there] == [
        "photos-sz/12 packed"
    ]
    for size in (12, 40):
        assert planned[f"photos-sz/{size}"].bytes == written(copy_root(tree, size), "*/*/*.JPEG")
    assert planned["photos-sz/40 packed"].bytes == written(copy_root(tree, 40), "*.pixels.bin")
    packed, crops = plan.forms[1:3]
    assert packed.bytes == written(tree, "*.pixels.bin")
    heads = sum(path.stat().st_size - np.load(path).nbytes for path in crops.path.glob("*.npy"))
    files = (written(crops.path, pattern) for pattern in ("*/*/*.JPEG", "*.crops.npy", "*.segments.npy"))
    assert crops.bytes + heads == sum(files) == made["photos-crops"].bytes


def test_a_part_of_the_images_tells_the_pixels_of_all(tree):
    few, all_ = (by_name(plan_storage(tree, [12], sample).forms) for sample in (3, ALL))
    assert few["photos-sz/12 packed"].bytes == all_["photos-sz/12 packed"].bytes
    assert few["photos-sz/12"].bytes == pytest.approx(all_["photos-sz/12"].bytes, rel=0.5)


def test_without_jpegtran_the_rest_is_told(tree, monkeypatch, capsys):
    from data_prep.trees.jpegtran import jpegtran_version

    monkeypatch.setenv("PATH", "/nowhere")
    jpegtran_version.cache_clear()
    assert main(["plan-storage", str(tree), "--sizes", "12"]) == 0
    jpegtran_version.cache_clear()
    output = capsys.readouterr().out.splitlines()
    assert any(line.split()[:3] == [f"{tree}-crops", "not", "known"] for line in output)
    assert output[-1].startswith(f"{tree}-crops is not known: jpegtran") and "Install it: " in output[-1]
    assert any(line.startswith(f"{tree}-sz/12 ") and "estimated" in line for line in output)


@pytest.mark.parametrize("options", [["--sizes", "0"], ["--sizes", "5000"], ["--sample", "0"]], ids=" ".join)
def test_what_cannot_be_planned_is_one_line(tree, capsys, options):
    assert main(["plan-storage", str(tree), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {' '.join(options)}: choose ") and error.count("\n") == 1


def test_an_image_of_the_sample_that_has_changed_is_named(tree):
    path = tree / "train/ant/large.JPEG"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"large\.JPEG has \d+ bytes, the index says \d+"):
        plan_storage(tree, [12], ALL)
