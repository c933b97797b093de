"""Weights of torchvision and timm: loaded strictly, shown the images that they were published for."""

from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from refusals import training_refused
from torch import nn

from training.__main__ import main
from training.config.config import Config
from training.data.transforms import MEAN, STD
from training.distributed.env import Env
from training.errors import ConfigError
from training.evaluation.measure import Subject, adapted, referee_of
from training.evaluation.published import (
    download_errors,
    imagenet_columns,
    open_published,
    timm_entry,
    timm_input,
    torchvision_entry,
    torchvision_input,
)
from training.models.build import build_model

CPU = Env(torch.device("cpu"))
WNIDS = ("n01440764", "n02102040", "n02979186", "n03000684")  # of Imagenette


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A SqueezeNet of six classes as torchvision's training script saves it."""
    path = tmp_path_factory.mktemp("weights") / "checkpoint.pth"
    state = build_model(Config(model="squeezenet1_1", seed=3), 6).state_dict()
    torch.save({"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 4}, path)
    return path


def test_weights_of_a_file_are_measured_by_their_network(weights, toy, capsys):
    arguments = ["--model", "squeezenet1_1", "--weights-file", str(weights), "--data", str(toy), "--sizes", "32"]
    assert main(["evaluate", *arguments, "--loader", "memory", "--tta", "none"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{weights}: squeezenet1_1\n") and "file" in out.splitlines()[-1].split()
    assert "the order of its classes cannot be compared" in err


def test_a_file_holds_the_weights_and_the_name_says_the_input(weights):
    found = open_published("torchvision/squeezenet1_1.IMAGENET1K_V1", str(weights), 6, pytest.fail)
    expected = build_model(Config(model="squeezenet1_1", seed=3), 6).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.network.state_dict().items())
    assert (found.classes, found.input.size, found.input.resize) == (6, 224, 256 / 224)


def test_weights_of_another_network_are_one_line(weights, toy, capsys):
    arguments = ["evaluate", "--model", "shufflenet_v2_x0_5", "--weights-file", str(weights), "--data", str(toy)]
    training_refused(
        capsys, arguments, "not the weights of --model shufflenet_v2_x0_5 with 6 or 1000 classes", "Missing key"
    )


def test_torchvisions_input_is_that_of_its_own_evaluation():
    assert torchvision_input(torchvision_entry("resnet50", "IMAGENET1K_V1")).resize == 256 / 224
    newest = torchvision_input(torchvision_entry("resnet50", ""))
    assert (newest.size, newest.resize, newest.interpolation) == (224, 232 / 224, "bilinear")
    assert newest.mean == pytest.approx(MEAN) and newest.std == pytest.approx(STD)


def test_timms_input_is_that_of_its_own_validation():
    found = timm_input(timm_entry("resnet50", "a1_in1k"), pytest.fail)
    assert (found.size, found.resize, found.interpolation) == (288, 1.0, "bicubic")
    halves = timm_input(timm_entry("vit_base_patch16_224", "augreg_in21k_ft_in1k"), pytest.fail)
    assert halves.mean == halves.std == (127.5, 127.5, 127.5)


def test_images_come_to_a_network_as_it_learned_them():
    """Whatever a loader normalises with; and where it is the same, the network is untouched."""
    pixels = 255 * torch.rand(2, 3, 4, 4)
    loader = SimpleNamespace(mean=torch.tensor([100.0, 110, 120]), std=torch.tensor([50.0, 60, 70]))
    seen = (pixels - loader.mean[:, None, None]) / loader.std[:, None, None]
    subject = Subject(nn.Flatten(), Config(), "file", (127.5,) * 3, (127.5,) * 3)
    assert torch.allclose(adapted(subject, loader)(seen), (pixels / 127.5 - 1).flatten(1), atol=1e-5)
    same = Subject(nn.Flatten(), Config(), "file", tuple(loader.mean.tolist()), tuple(loader.std.tolist()))
    assert adapted(same, loader) is same.network


def test_a_subset_of_imagenets_classes_is_found_by_wordnet_ids():
    columns = imagenet_columns(WNIDS, 1000, "--data X", pytest.fail)
    assert columns[0] == 0 and columns == (0, 217, 482, 491)
    assert imagenet_columns(WNIDS[::-1], 1000, "--data X", pytest.fail) == columns[::-1]
    loader = SimpleNamespace(mean=torch.zeros(3), std=torch.ones(3))
    subject = Subject(nn.Flatten(), Config(), "file", None, None, (2, 0))
    assert adapted(subject, loader)(torch.arange(3.0)[None, :, None, None]).tolist() == [[2.0, 0.0]]


def test_other_classes_than_imagenets_are_refused_or_told():
    with pytest.raises(ConfigError, match="2 classes, the weights have 1000, and 'cat' is no WordNet id"):
        imagenet_columns(("cat", "n01440764"), 1000, "--data X", pytest.fail)
    with pytest.raises(ConfigError, match="6 classes, the weights have 10"):
        imagenet_columns(tuple("abcdef"), 10, "--data X", pytest.fail)
    told = []
    assert imagenet_columns(tuple(f"c{n}" for n in range(1000)), 1000, "--data X", told.append) is None
    assert len(told) == 1 and "order cannot be compared" in told[0]


def test_without_a_network_the_line_says_what_to_do():
    wanted = r"--model timm/x: its weights cannot be downloaded .*--weights-file FILE"
    with pytest.raises(ConfigError, match=wanted), download_errors("timm/x"):
        raise URLError("no route")


def test_a_network_without_float64_is_measured_with_a_warning():
    class Single(nn.Module):
        def forward(self, images):
            return images.flatten(1) @ torch.ones(48, 2)

    told = []
    assert referee_of(nn.Flatten(), 4, CPU, pytest.fail) is not None
    assert referee_of(Single(), 4, CPU, told.append) is None and "cannot be computed in float64" in told[0]
