"""Weights handed over: they load strictly where they are meant for, give the same logits, and the card says how."""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from data_prep import load_manifest
from data_prep.engines.local import Local
from data_prep.sources.toy import prepare_toy
from data_prep.trees.pack import pack_tree
from dawn import read_run
from training.__main__ import main
from training.config.config import Config
from training.data.transforms import MEAN, STD
from training.engine.checkpoint import Saver
from training.evaluation.trained import load_trained, plain
from training.export.formats import check_same, onnx_bytes, safetensors_bytes, torch_bytes
from training.export.networks import loaded_difference, receiver
from training.models.build import build_model

PHASES = "[{'ep': 0, 'sz': 32, 'bs': 12}, {'ep': (0, 1), 'lr': (0.05, 0.0)}]"
MACHINE = ["--precision", "fp32", "--device", "cpu", "--threads", "1", "--no-tensorboard", "--no-chart"]
IMAGES = torch.randn(2, 3, 40, 56, generator=torch.Generator().manual_seed(3))


def trained_run(toy: Path, folder: Path, *more: str) -> Path:
    code = main([str(toy), "--phases", PHASES, "--flip", "random", "--logdir", str(folder), *MACHINE, *more])
    assert code == 0
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """48 training images and 12 to validate, packed as a tree too. Read only."""
    root = tmp_path_factory.mktemp("datasets") / "few"
    prepare_toy(root, images=48)
    pack_tree(root, Local(1))
    return root


@pytest.fixture(scope="module")
def resnet_run(few, tmp_path_factory):
    """A ResNet-18 in channels_last that is evaluated by its average. Read only."""
    folder = tmp_path_factory.mktemp("runs") / "resnet18"
    return trained_run(few, folder, "--model", "resnet18", "--ema-decay", "0.5", "--ema-every", "2", "--init-bn0")


@pytest.fixture(scope="module")
def cifarnet_run(few, tmp_path_factory):
    return trained_run(few, tmp_path_factory.mktemp("runs") / "cifarnet", "--width", "0.125")


def export(*arguments) -> int:
    return main(["export", *map(str, arguments)])


def loading_code(card: Path) -> str:
    return re.search(r"```python\n(.*?)\n```", card.read_text(), re.DOTALL)[1]


def loaded_as_the_card_says(file: Path, monkeypatch) -> dict:
    """The names that the card's three lines make, executed in the folder of the file."""
    code, names = loading_code(file.with_name(f"{file.name}.md")), {}
    assert len(code.splitlines()) == 3
    monkeypatch.chdir(file.parent)
    exec(code, names)
    return names


def logits(network: torch.nn.Module) -> list:
    torch.manual_seed(5)
    with torch.no_grad():
        return network(torch.randn(1, 3, 32, 32)).tolist()


@pytest.mark.parametrize(
    "format",
    ["torchvision", pytest.param("timm", marks=pytest.mark.slow), pytest.param("safetensors", marks=pytest.mark.slow)],
)
def test_the_cards_three_lines_load_the_evaluated_weights(resnet_run, tmp_path, monkeypatch, format):
    file = tmp_path / f"w.{'safetensors' if format == 'safetensors' else 'pt'}"
    assert export(resnet_run, "--format", format, "--out", file) == 0
    expected = torch.tensor(logits(load_trained(resnet_run, "ema", pytest.fail).network))
    found = torch.tensor(logits(loaded_as_the_card_says(file, monkeypatch)["model"]))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_onnx_has_a_free_batch_and_the_same_logits(resnet_run, tmp_path, monkeypatch):
    import onnx

    file = tmp_path / "w.onnx"
    assert export(resnet_run, "--format", "onnx", "--out", file) == 0
    model = onnx.load(file)
    (entry,) = model.graph.input
    shape = [d.dim_param or d.dim_value for d in entry.type.tensor_type.shape.dim]
    assert entry.name == "images" and isinstance(shape[0], str) and shape[1:] == [3, 32, 32]
    assert {p.key: p.value for p in model.metadata_props}["weights"] == "ema"
    images = torch.randn(3, 3, 32, 32)
    found = torch.from_numpy(loaded_as_the_card_says(file, monkeypatch)["logits"](images))
    with torch.no_grad():
        expected = load_trained(resnet_run, "ema", pytest.fail).network(images)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("format", ["torch", "safetensors"])
def test_cifarnet_is_handed_over_for_this_harness(cifarnet_run, tmp_path, monkeypatch, format):
    file = tmp_path / f"w.{'safetensors' if format == 'safetensors' else 'pt'}"
    assert export(cifarnet_run, "--format", format, "--out", file) == 0
    expected = logits(load_trained(cifarnet_run, "model", pytest.fail).network)
    assert logits(loaded_as_the_card_says(file, monkeypatch)["model"]) == expected


@pytest.mark.slow
def test_both_kinds_of_weights_can_be_had_and_differ(resnet_run, tmp_path):
    files = [tmp_path / f"{kind}.pt" for kind in ("model", "ema")]
    for file in files:
        assert export(resnet_run, "--format", "torchvision", "--out", file, "--weights", file.stem) == 0
    model, average = (torch.load(file, weights_only=True) for file in files)
    assert model.keys() == average.keys() and not torch.equal(model["fc.weight"], average["fc.weight"])
    assert all(value.is_contiguous() and value.dtype in (torch.float32, torch.int64) for value in model.values())


QUICK = ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)]
SLOW = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("resnet34", "resnet101", "wide_resnet50_2", "densenet121")
]


@pytest.mark.parametrize("name", QUICK + SLOW)
@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_network_of_both_libraries_goes_to_either(name, library):
    from torchvision import models

    torch.manual_seed(1)
    network = models.get_model(name, num_classes=7).to(memory_format=torch.channels_last)
    for module in network.modules():  # statistics and scales that a mistake would not survive
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.2, 0.6)
    found, difference = receiver(library, Config(model=name), network.eval(), 7, IMAGES)
    assert found.library == library and difference <= 1e-4


@pytest.mark.slow
def test_a_network_of_timms_alone_goes_to_timm_only(tmp_path):
    import timm

    from training.errors import ConfigError

    network = timm.create_model("resnet50d", num_classes=5).eval()
    found, _ = receiver("timm", Config(model="timm/resnet50d"), network, 5, IMAGES)
    assert found.make == 'timm.create_model("resnet50d", num_classes=5)'
    assert receiver("safetensors", Config(model="resnet50d"), network, 5, IMAGES)[0].library == "timm"
    with pytest.raises(ConfigError, match="torchvision has no network resnet50d"):
        receiver("torchvision", Config(model="resnet50d"), network, 5, IMAGES)


def test_a_network_that_only_has_the_name_is_refused():
    """Equal tensors and other arithmetic (anti-aliasing has no weights): only the logits tell."""
    import timm

    from training.errors import ConfigError

    blurred = timm.create_model("resnet18", num_classes=4, aa_layer=timm.layers.BlurPool2d).eval()
    with pytest.raises(ConfigError, match="not the network that torchvision has"):
        receiver("torchvision", Config(model="resnet18"), blurred, 4, IMAGES)


def test_settings_that_change_the_network_are_in_the_line_that_makes_it():
    from training.errors import ConfigError

    config = Config(model="resnet18", blurpool=True, seed=9)
    blurred = build_model(config, 4).eval()
    found, difference = receiver("safetensors", config, blurred, 4, IMAGES)
    assert found.make == "build_model(Config(model='resnet18', blurpool=True), 4)" and difference == 0
    with pytest.raises(ConfigError, match="not the network that timm has"):
        receiver("timm", config, blurred, 4, IMAGES)


def test_stochastic_depth_leaves_nothing_in_the_weights():
    config = Config(model="timm/resnet18", drop_path=0.5)
    found, _ = receiver("torchvision", config, build_model(config, 4).eval(), 4, IMAGES)
    assert found.make == 'torchvision.models.get_model("resnet18", num_classes=4)'


def test_names_of_wrappers_are_taken_off():
    state = {"module._orig_mod.a.weight": torch.ones(2, 3), "module.b": torch.tensor(3), "n_averaged": torch.tensor(1)}
    found = plain(state | {"module.module.c": torch.ones(2, dtype=torch.bfloat16)})
    assert {name: value.dtype for name, value in found.items()} == {
        "a.weight": torch.float32,
        "b": torch.int64,
        "c": torch.float32,
    }


def test_the_weights_that_are_handed_over_replace_others_and_have_to_fit(resnet_run):
    network, other = (load_trained(resnet_run, kind, pytest.fail).network for kind in ("model", "ema"))
    assert loaded_difference(network, other, IMAGES) == 0
    assert torch.equal(network.fc.weight, other.fc.weight)
    assert loaded_difference(torch.nn.Linear(2, 2), other, IMAGES) is None


def test_a_file_that_holds_other_weights_or_names_is_noticed():
    network = torch.nn.Linear(2, 2)
    state = network.state_dict()
    check_same(network, state)
    with pytest.raises(AssertionError, match="weights changed"):
        check_same(network, state | {"bias": state["bias"] + 1e-7})
    with pytest.raises(AssertionError, match="names changed"):
        check_same(network, {"weight": state["weight"]})


@pytest.mark.slow
def test_files_are_made_from_a_network_alone(cifarnet_run):
    network = load_trained(cifarnet_run, "model", pytest.fail).network
    assert torch_bytes(network) == torch_bytes(network)
    assert len(safetensors_bytes(network, {"a": "b"})) < len(torch_bytes(network)) + 4096
    data, how = onnx_bytes(network, torch.randn(2, 3, 20, 20), {"a": "b"})
    assert len(data) > 1000 and ("onnxruntime, whose" in how) == bool(importlib.util.find_spec("onnxruntime"))


def test_safetensors_tells_recipe_accuracy_and_input(cifarnet_run, tmp_path):
    from safetensors import safe_open

    file = tmp_path / "w.safetensors"
    assert export(cifarnet_run, "--format", "safetensors", "--out", file) == 0
    with safe_open(file, "pt") as opened:
        told = opened.metadata()
    start, row = read_run(cifarnet_run).start, read_run(cifarnet_run).rows[-1]
    assert told["top1_percent"] == f"{row.validation.percent('top1'):.3f}" and told["classes"] == "6"
    assert told["blurpool"] == "False"
    assert (told["commit"].split()[0], told["dataset_sha256"]) == (start.commit or "unknown", start.dataset["sha256"])
    assert len(told["mean_0_to_255"].split()) == 3


def test_the_card_measures_again_as_the_run_did(cifarnet_run, few, tmp_path, capsys):
    file = tmp_path / "w.pt"
    assert export(cifarnet_run, "--format", "torch", "--out", file, "--evaluate", few) == 0
    rows = [line for line in (tmp_path / "w.pt.md").read_text().splitlines() if line.startswith("| square")]
    logged, again, flipped = (row.split("|") for row in rows)
    assert logged[4:6] == again[4:6] and "these weights" in logged[6] and "mirror" in flipped[3]
    assert not capsys.readouterr().err


def test_the_card_has_clocks_hardware_versions_and_dataset(cifarnet_run, tmp_path):
    assert export(cifarnet_run, "--format", "torch", "--out", tmp_path / "w.pt") == 0
    text, run = (tmp_path / "w.pt.md").read_text(), read_run(cifarnet_run)
    for clock, seconds in run.stop.clock.items():
        assert f"| `T_{clock}` | {seconds:.1f} s |" in text
    for fact in (run.start.dataset["sha256"], run.start.versions["torch"], run.start.hardware["name"], "Apache-2.0"):
        assert str(fact) in text
    assert "| `width` | 0.125 |" in text and "cross, disc, ring" in text


def test_trees_are_measured_in_every_shape(few, tmp_path):
    settings = ["--loader", "packed", "--workers", "1", "--width", "0.125"]
    folder = trained_run(few, tmp_path / "tree", *settings)
    assert export(folder, "--format", "torch", "--out", tmp_path / "w.pt", "--evaluate", few) == 0
    text = (tmp_path / "w.pt.md").read_text()
    assert "Validated at 32 px: the short side resized to 36 px (bilinear, antialiased), the centre cut out." in text
    assert [text.count(f"\n| {shape} |") for shape in ("square", "rectangular")] == [3, 2]
    mean = ", ".join(f"{value / 255:.5f}" for value in MEAN)
    assert f"minus ({mean})" in text and f"{STD[0] / 255:.5f}" in text


def test_of_another_dataset_all_validation_images_are_counted(toy, few, tmp_path, capsys):
    folder = trained_run(toy, tmp_path / "run", "--holdout", "0.1", "--width", "0.125")
    capsys.readouterr()
    assert export(folder, "--format", "torch", "--out", tmp_path / "w.pt", "--evaluate", few) == 0
    images = load_manifest(few).splits["validation"].images
    assert f" of {images}" in (tmp_path / "w.pt.md").read_text() and "not the dataset" in capsys.readouterr().err


def test_without_the_dataset_the_card_says_what_is_missing(cifarnet_run, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(cifarnet_run, folder)
    settings = json.loads((folder / "config.json").read_text()) | {"data": str(tmp_path / "gone")}
    (folder / "config.json").write_text(json.dumps(settings))
    assert export(folder, "--format", "torch") == 0
    assert "the numbers are missing" in (folder / "cifarnet.torch.pt.md").read_text()


@pytest.mark.slow
def test_an_older_checkpoint_serves_when_the_newest_is_damaged(resnet_run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(resnet_run, folder)
    newest = json.loads((folder / "checkpoints" / "checkpoints.json").read_text())[0]["file"]
    saver = Saver(folder)
    content = torch.load(folder / "checkpoints" / newest, weights_only=True)
    content["state"]["counters"]["step"] = 1
    damaged = saver.save(content)
    damaged.write_bytes(b"x")
    assert export(folder, "--format", "torchvision", "--out", tmp_path / "w.pt") == 0
    assert "damaged" in capsys.readouterr().err


@pytest.fixture
def bad(capsys):
    """The only line on standard error of an export that is refused."""

    def refused(*arguments) -> str:
        capsys.readouterr()
        assert export(*arguments) == 2
        out, err = capsys.readouterr()
        assert not out and err.startswith("error: ") and err.count("\n") == 1
        return err

    return refused


def test_bad_input_is_one_line(resnet_run, cifarnet_run, tmp_path, bad):
    assert "no run there" in bad(tmp_path, "--format", "torch")
    assert "invalid choice" in bad(resnet_run, "--format", "keras")
    assert "cifarnet is this harness's own" in bad(cifarnet_run, "--format", "timm")
    assert "kept no average" in bad(cifarnet_run, "--format", "torch", "--weights", "ema")
    assert "ends in .onnx" in bad(cifarnet_run, "--format", "onnx", "--out", tmp_path / "w.pt")
    assert "no folder" in bad(cifarnet_run, "--format", "torch", "--out", tmp_path / "none" / "w.pt")
    assert "no dataset" in bad(cifarnet_run, "--format", "torch", "--out", tmp_path / "w.pt", "--evaluate", tmp_path)
    (tmp_path / "v.pt").write_bytes(b"weights of somebody")
    assert "is no export" in bad(cifarnet_run, "--format", "torch", "--out", tmp_path / "v.pt")
    (tmp_path / "v.pt").unlink()
    (tmp_path / "w.pt.md").write_text("# My notes")
    assert "is no model card" in bad(cifarnet_run, "--format", "torch", "--out", tmp_path / "w.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt.md"]


def test_a_run_without_a_checkpoint_is_one_line(cifarnet_run, tmp_path, bad):
    shutil.copytree(cifarnet_run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    assert "no whole checkpoint" in bad(tmp_path / "run", "--format", "torch")


def test_a_missing_package_is_named_with_its_extra(cifarnet_run, bad, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)  # as Python marks what cannot be imported
    line = bad(cifarnet_run, "--format", "safetensors")
    assert "safetensors not installed" in line and "[handover]" in line


def test_onnx_of_a_small_network_of_named_outputs_has_its_logits():
    import onnx

    class Named(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(3, 5)

        def forward(self, images):
            return {"logits": self.head(images.mean((2, 3)))}

    data, checked = onnx_bytes(Named().eval(), torch.rand(2, 3, 8, 8), {"made by": "a test"})
    assert "onnxruntime" in checked
    model = onnx.load_from_string(data)
    assert [output.name for output in model.graph.output] == ["logits"]
    assert {entry.key: entry.value for entry in model.metadata_props} == {"made by": "a test"}
