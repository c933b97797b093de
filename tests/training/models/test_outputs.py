"""Named outputs: dictionaries, torchvision's named tuples, and the loss of auxiliary heads."""

import pytest
import torch
from tiny_run import CPU, events, flags
from torch import nn

from dawn import Clock
from training.__main__ import main
from training.config.config import Config
from training.data.loader import Batch
from training.engine.evaluate import predict
from training.engine.precision import Precision
from training.engine.state import new_state
from training.engine.step import backward
from training.errors import ConfigError
from training.models.build import build_model, check_logits, check_model
from training.models.outputs import auxiliary_logits, logits_of, named

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
    expected = Heads(FORMS["alone"])(images) * 2
    torch.testing.assert_close(predict(Heads(form), images, FP32, "flip"), expected)


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_the_networks_with_heads_train(name, toy, tmp_path):
    phases = "[{'ep': 0, 'sz': 299, 'bs': 2}, {'ep': (0, 1), 'lr': (0.01, 0.0)}]"
    command = flags(toy, tmp_path / "run", "--model", name, "--aux-weight", "0.3", "--phases", phases, "--short-epoch")
    assert main([*command, "--shift", "0"]) in (0, 3)
    assert events(tmp_path / "run")[0]["validation"]["images"] == 60
    assert check_model(Config(model=name, aux_weight=0.3), 6, {299}) is None
    assert main(["export", str(tmp_path / "run"), "--format", "torch"]) == 0
