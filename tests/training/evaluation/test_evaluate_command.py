"""`python -m training evaluate`: the same counts as the run's, whatever the batch; kept beside the log, never in it."""

import csv
import io
import json
import shutil

import pytest
from refusals import training_refused
from tiny_run import events, train

from data_prep.engines.local import Local
from data_prep.trees.resize import resize_tree
from dawn.runlog.evaluations import read_evaluations
from training.__main__ import main
from training.config.config import Config
from training.evaluation.trained import load_trained
from training.models.build import build_model
from training.models.flops import multiply_adds

TREE = ["--loader", "threads", "--workers", "1"]


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    """Two epochs from the memory loader, evaluated by the average, with mirror images."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train(toy, folder, "--ema-decay", "0.5", "--ema-every", "2", "--tta", "flip") == 0
    return folder


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluations.json"))


@pytest.fixture
def rows(capsys):
    """The rows of an evaluation by --csv."""

    def evaluated(*arguments) -> list[dict]:
        capsys.readouterr()
        assert main(["evaluate", *map(str, arguments), "--csv"]) == 0
        return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    return evaluated


def counts(found: list[dict]) -> list[tuple]:
    return [
        tuple(row[n] for n in ("size", "shape", "tta", "weights", "correct1", "correct5", "images")) for row in found
    ]


def test_the_runs_own_setting_is_marked_and_counts_as_logged(copy, capsys):
    log = (copy / "run.jsonl").read_bytes()
    assert main(["evaluate", str(copy)]) == 0
    logged = events(copy)[-1]["validation"]
    lines = capsys.readouterr().out.splitlines()
    (own,) = [line.split() for line in lines if line.startswith("*  ")]
    assert own[1:5] == ["16", "square", "flip", "ema"]
    assert own[7:10] == [f"{logged['correct1']},", f"{logged['correct5']}", f"{logged['images']}"]
    assert lines[-1] == f"* as the run validates, which logged {logged['correct1']}, {logged['correct5']} in fp32"
    assert (copy / "run.jsonl").read_bytes() == log  # and so no clock knows of it
    assert [(item.size, item.tta, item.own) for item in read_evaluations(copy)] == [
        (16, "none", False),
        (16, "flip", True),
    ]


def test_counts_are_the_same_for_every_batch(run, rows):
    ways = ["--sizes", "24", "--square", "--rect", "--resize", "1.25", "--tta", "flip", *TREE]
    one, many = (counts(rows(run, *ways, "--val-batch", batch)) for batch in (7, 64))
    assert one == many and len(one) == len(set(one)) == 2
    assert {row[-1] for row in one} == {"60"}


def test_arithmetic_is_that_of_the_network_and_twice_for_mirror_images(run, rows):
    network = build_model(Config(width=0.125), 6).eval().to("meta")
    flops = {(row["size"], row["tta"]): int(row["flops_per_image"]) for row in rows(run, "--sizes", "16", "24")}
    for size in (16, 24):
        assert flops[str(size), "none"] == 2 * multiply_adds(network, size)
        assert flops[str(size), "flip"] == 4 * multiply_adds(network, size)


@pytest.mark.slow
def test_both_kinds_of_weights_are_measured(run, rows):
    found = rows(run, "--weights", "model", "ema", "--tta", "none")
    assert [row["weights"] for row in found] == ["model", "ema"] and not any(int(row["own"]) for row in found)


def test_a_repeated_measurement_replaces_the_one_before(copy, rows):
    rows(copy, "--sizes", "16", "24", "--tta", "none")
    rows(copy, "--sizes", "24", "40", "--tta", "none", "--val-batch", "7")
    assert [item.size for item in read_evaluations(copy)] == [16, 24, 40]


@pytest.mark.slow
def test_another_loader_is_normalised_as_the_run_was(run, toy, rows):
    """The memory loader has its mean from the dataset, the others ImageNet's: pictures at their stored size would else
    count very differently."""
    memory, tree = (rows(run, "--tta", "none", *more) for more in ([], [*TREE, "--square", "--resize", "1"]))
    assert load_trained(run, "", pytest.fail).mean != (0.0, 0.0, 0.0)
    assert abs(int(memory[0]["correct1"]) - int(tree[0]["correct1"])) <= 6


def test_an_export_tells_its_network_and_counts_as_its_run(run, toy, tmp_path, rows):
    """Its width, its weights and the mean of its images are in the header."""
    file = tmp_path / "weights.safetensors"
    assert main(["export", str(run), "--format", "safetensors", "--out", str(file)]) == 0
    told = [
        {name: row[name] for name in ("size", "tta", "correct1", "correct5", "flops_per_image")}
        for found in (rows(run), rows("--weights-file", file, "--data", toy, "--loader", "memory"))
        for row in found
    ]
    assert told[:2] == told[2:] and len(told) == 4


BAD = {
    "nothing": ([], "give the folder of a run, or --model NAME"),
    "no run": (["/usr"], "/usr: no run there"),
    "a size that the network cannot take": (
        ["RUN", "--sizes", "24", "4"],
        "--sizes 4: cifarnet cannot take images of 4 x 4 px",
    ),
    "a size of 0": (["RUN", "--sizes", "0"], "--sizes 0: must be from 1"),
    "no dataset": (["RUN", "--data", "/nowhere"], "no dataset at /nowhere"),
    "rectangles of the memory loader": (
        ["RUN", "--rect"],
        "--rect: the memory loader has images of one shape",
        "--loader threads",
    ),
    "resizing of the memory loader": (["RUN", "--resize", "1.2"], "--resize 1.2: the memory loader"),
    "a resize below the crop": (["RUN", "--resize", "0.5"], "--resize 0.5: must be from 1 to 4"),
    "an unknown loader": (["RUN", "--loader", "synthetic"], "--loader synthetic: choose from auto, dali"),
    "no batch": (["RUN", "--val-batch", "0"], "--val-batch 0: must be from 1"),
    "no resize": (["RUN", "--resize", "0"], "--resize 0: must be from 1"),
    "a run and a model": (["RUN", "--model", "resnet18"], "--model resnet18: a run was given too"),
    "a model without images": (["--model", "resnet18"], "Give --data DATA"),
    "weights of a model": (["--model", "resnet18", "--data", "TOY", "--weights", "ema"], "only a run has two"),
    "a model of one's own": (["--model", "net.py:build", "--data", "TOY"], "Give the folder of its run"),
    "an unknown tag": (
        ["--model", "resnet18.V9", "--data", "TOY"],
        "torchvision has no such weights. It has: resnet18.IMAGENET1K_V1",
    ),
    "an unknown tag of timm": (
        ["--model", "timm/resnet18.zz", "--data", "TOY"],
        "timm has no such weights. It has: resnet18.",
    ),
    "no file": (
        ["--model", "resnet18", "--weights-file", "/no.pt", "--data", "TOY"],
        "--weights-file /no.pt: not a file of weights",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case, run, toy, capsys):
    arguments, *words = BAD[case]
    places = {"RUN": str(run), "TOY": str(toy)}
    training_refused(capsys, ["evaluate", *(places.get(word, word) for word in arguments)], *words)


def test_a_run_without_a_checkpoint_is_one_line(copy, capsys):
    shutil.rmtree(copy / "checkpoints")
    training_refused(capsys, ["evaluate", str(copy)], "no whole checkpoint")


def test_a_dataset_of_other_classes_is_one_line(copy, toy, tmp_path, capsys):
    shutil.copytree(toy, tmp_path / "other")
    path = tmp_path / "other" / "manifest.json"
    manifest = json.loads(path.read_text())
    for change, words in (
        ({"classes": [*manifest["classes"][:-1], "zebra"]}, "class 5 is 'zebra', the run learned 'triangle'"),
        ({"classes": manifest["classes"][::-1]}, "class 0 is"),
    ):
        path.write_text(json.dumps(manifest | change | {"sha256": "0" * 64}))
        training_refused(capsys, ["evaluate", str(copy), "--data", str(tmp_path / "other")], words)


@pytest.mark.slow
def test_the_own_dataset_is_that_of_the_last_validation(toy, tmp_path, capsys):
    """A first phase on smaller copies, as in 2018, and a part held out of the originals."""
    root, folder = shutil.copytree(toy, tmp_path / "toy"), tmp_path / "run"
    resize_tree(root, [24], Local(1))
    sizes = "{'ep': 0, 'sz': 16, 'bs': 60, 'trndir': '-sz/24'}, {'ep': 1, 'sz': 16, 'bs': 60}"
    phases = f"[{sizes}, {{'ep': [0, 2], 'lr': 0.1}}]"
    more = ("--loader", "threads", "--shift", "0", "--flip", "random", "--holdout", "0.1", "--phases", phases)
    assert train(root, folder, *more) == 0
    for data, images, own in ((root, 24, 1), (f"{root}-sz/24", 60, 0)):
        capsys.readouterr()
        assert main(["evaluate", str(folder), "--square", "--tta", "none", "--data", str(data)]) == 0
        out = capsys.readouterr().out
        assert f"{images} " in out and out.count("\n*  ") == own, out


def test_a_damaged_result_is_told_before_anything_is_measured(copy, capsys):
    (copy / "evaluations.json").write_text("[1]")
    training_refused(capsys, ["evaluate", str(copy)], "evaluations.json: entry 1: is 1. It must be an object")


def test_a_run_with_a_holdout_is_measured_on_its_part_and_on_request_on_the_validation_images(toy, tmp_path, capsys):
    folder = tmp_path / "run"
    assert train(toy, folder, "--holdout", "0.1") == 0
    logged = events(folder)[-1]["validation"]
    for more, images, kind, own in (([], 24, "held-out training", 1), (["--holdout", "0"], 60, "validation", 0)):
        capsys.readouterr()
        assert main(["evaluate", str(folder), "--tta", "none", *more]) == 0
        out = capsys.readouterr().out
        assert f"{images} {kind} images" in out and out.count("\n*  ") == own
    found = read_evaluations(folder)
    assert [(item.images, item.holdout, item.own) for item in found] == [(24, 0.1, True), (60, 0.0, False)]
    assert (found[0].correct1, found[0].correct5) == (logged["correct1"], logged["correct5"])
