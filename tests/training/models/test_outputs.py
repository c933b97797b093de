"""Named outputs: dictionaries, torchvision's named tuples, and the loss of auxiliary heads."""

from pathlib import Path

import named_outputs
import pytest
import torch
from rank_processes import trained, world
from tiny_run import CPU, events, flags, train
from torch import nn

from dawn import Clock
from training.__main__ import main
from training.config.config import Config
from training.data.loader import Batch
from training.engine.checkpoint import load
from training.engine.evaluate import predict
from training.engine.precision import Precision, timed_step
from training.engine.state import new_state
from training.engine.step import backward
from training.errors import ConfigError
from training.models.build import build_model, check_heads, check_logits, check_model
from training.models.outputs import auxiliary_logits, logits_of, named

HEADS = f"{Path(named_outputs.__file__)}:heads"
FP32 = Precision("fp32", "cpu")


class Heads(nn.Module):
    """Two linear heads; the output is what `form` makes of their logits."""

    def __init__(self, form) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.main, self.aux, self.form = nn.Linear(12, 3), nn.Linear(12, 3), form

    def forward(self, images):
        flat = images.flatten(1)
        return self.form(self.main(flat), self.aux(flat))


FORMS = {
    "aux_logits": lambda main, aux: {"logits": main, "aux_logits": aux, "embedding": main * 2},
    "a list of heads": lambda main, aux: {"logits": main, "aux_logits": [aux]},
    "alone": lambda main, aux: main,
}


def loss_of(form, weight: float) -> float:
    config = Config(aux_weight=weight)
    state = new_state(config, Heads(form), CPU, FP32, Clock(), 3)
    images = torch.arange(24.0).reshape(2, 3, 2, 2) / 24
    return float(backward(config, state, Batch(images, torch.tensor([0, 2])), 1.0)[1])


def test_the_loss_of_auxiliary_heads_is_added_with_its_weight():
    only = loss_of(FORMS["alone"], 0.5)
    aux = loss_of(lambda main, aux: aux, 0.5)
    assert loss_of(FORMS["aux_logits"], 0.5) == pytest.approx(only + 0.5 * aux)
    assert loss_of(FORMS["a list of heads"], 0.5) == pytest.approx(only + 0.5 * aux)
    assert loss_of(FORMS["aux_logits"], 0.0) == only


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_predictions_are_those_of_the_logits(form):
    images = torch.ones(2, 3, 2, 2)
    expected = Heads(FORMS["alone"])(images)
    torch.testing.assert_close(predict(Heads(form), images, FP32, "flip"), expected)


def test_precision_auto_tries_a_network_of_named_outputs():
    """On a processor that has bf16."""
    assert timed_step(Heads(FORMS["aux_logits"]), FP32, torch.ones(2, 3, 2, 2)) > 0


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_torchvisions_named_tuples_have_their_heads(name):
    with torch.device("meta"):
        model = build_model(Config(model=name, aux_weight=0.3), 6)
        output = model.train()(torch.empty(2, 3, 299, 299))
    assert logits_of(output).shape == (2, 6)
    assert [head.shape for head in auxiliary_logits(output)] == [(2, 6)] * {"googlenet": 2, "inception_v3": 1}[name]
    assert set(named(output)) > {"logits"}


def test_without_the_weight_there_are_no_heads():
    assert not [name for name, _ in build_model(Config(model="googlenet"), 6).named_parameters() if "aux" in name]


@pytest.mark.parametrize("output", [{"scores": torch.ones(1, 3)}, (torch.ones(1, 3),), None, {"logits": 3}])
def test_other_outputs_are_refused_in_one_line(output):
    with pytest.raises(ConfigError, match="its outputs are") as caught:
        check_logits(Config(model="mine.py:net"), output, 3)
    assert "\n" not in str(caught.value) and "logits" in str(caught.value)


def test_a_weight_for_heads_that_are_not_there_or_do_not_fit_is_refused(toy, tmp_path, capsys):
    assert main(flags(toy, tmp_path / "run", "--aux-weight", "0.3")) == 2
    assert "--aux-weight 0.3: --model cifarnet has no auxiliary heads" in capsys.readouterr().err
    output = {"logits": torch.ones(2, 3), "aux_logits": [torch.ones(2, 3), torch.ones(2, 4)]}
    with pytest.raises(ConfigError, match=r"'aux_logits' for an image are \(4,\), not \(3,\)"):
        check_heads(Config(aux_weight=0.3), output, 3)
    check_heads(Config(), output, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_the_networks_with_heads_train(name, toy, tmp_path):
    phases = "[{'ep': 0, 'sz': 299, 'bs': 2}, {'ep': (0, 1), 'lr': (0.01, 0.0)}]"
    command = flags(toy, tmp_path / "run", "--model", name, "--aux-weight", "0.3", "--phases", phases, "--short-epoch")
    assert main([*command, "--shift", "0"]) in (0, 3)
    assert events(tmp_path / "run")[0]["validation"]["images"] == 60
    assert check_model(Config(model=name, aux_weight=0.3), 6, {299}) is None
    assert main(["export", str(tmp_path / "run"), "--format", "torchvision"]) == 0
    card = "".join(path.read_text() for path in (tmp_path / "run").rglob("*.md"))
    assert f'torchvision.models.get_model("{name}", num_classes=6, aux_logits=True' in card


def weights_after(folder) -> dict[str, torch.Tensor]:
    return load(folder, pytest.fail)["state"]["model"]


def test_a_network_of_named_outputs_trains_is_evaluated_and_exported(toy, tmp_path):
    """Its auxiliary head learns with --aux-weight, and what no loss takes keeps its values."""
    begin = build_model(Config(model=HEADS), 6).state_dict()
    assert train(toy, tmp_path / "run", "--model", HEADS, "--aux-weight", "0.3", "--shift", "0") in (0, 3)
    after = weights_after(tmp_path / "run")
    moved = {name for name in begin if not torch.equal(begin[name], after[name])}
    assert "aux.weight" in moved and "main.weight" in moved and not {"never.weight", "never.bias"} & moved
    assert main(["export", str(tmp_path / "run"), "--format", "torch"]) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(toy)]) == 0


@pytest.mark.slow
def test_a_network_of_named_outputs_is_exported_as_onnx(toy, tmp_path):
    """The file has the logits alone."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    assert train(toy, tmp_path / "run", "--model", HEADS, "--shift", "0") in (0, 3)
    assert main(["export", str(tmp_path / "run"), "--format", "onnx"]) == 0
    (path,) = (tmp_path / "run").rglob("*.onnx")
    assert [output.name for output in onnx.load(path).graph.output] == ["logits"]


@pytest.mark.slow
@pytest.mark.parametrize("weight", ["0", "0.3"])
def test_two_processes_train_heads_that_no_loss_takes_as_one_does(toy, tmp_path, weight):
    half = "[{'ep': 0, 'sz': 12, 'bs': 30}, {'ep': (0, 1), 'lr': (0.1, 0.02)}]"
    more = ("--model", HEADS, "--aux-weight", weight, "--shift", "0", "--flip", "none", "--weight-decay", "0.01")
    with world(2) as two:
        ended = two.call(trained, flags(toy, tmp_path / "two", *more, "--phases", half))
    assert [one.code for one in ended] == [0, 0], ended[0].err
    assert train(toy, tmp_path / "one", *more, "--phases", half.replace("30", "60")) == 0
    torch.testing.assert_close(weights_after(tmp_path / "two"), weights_after(tmp_path / "one"), rtol=1e-4, atol=1e-6)
