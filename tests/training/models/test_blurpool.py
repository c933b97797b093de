"""--blurpool against a blur written out before the strided convolutions; names of the weights stay."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from training.config.config import Config
from training.errors import ConfigError
from training.models.build import BlurredConv2d, build_model


def blurred(x: torch.Tensor) -> torch.Tensor:
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).expand(x.shape[1], 1, 3, 3) / 16
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


@pytest.mark.parametrize("size", [1, 2, 7, 8])
@pytest.mark.parametrize(
    "settings", [{"kernel_size": 1}, {"kernel_size": 3, "padding": 1}, {"kernel_size": 1, "padding": 1}]
)
def test_it_is_the_convolution_of_the_blurred_image(size, settings):
    conv = nn.Conv2d(16, 5, stride=2, **settings)
    x = torch.randn(2, 16, size, size)
    assert torch.allclose(BlurredConv2d(conv)(x), conv(blurred(x)), atol=1e-5)


def test_the_strided_convolutions_of_a_resnet_and_no_other():
    """conv1 sees the image; the three other stages begin with a strided 3x3 and a strided shortcut."""
    model = build_model(Config(model="resnet50", blurpool=True), 6)
    names = {name for name, m in model.named_modules() if isinstance(m, BlurredConv2d)}
    assert names == {f"layer{n}.0.{name}" for n in (2, 3, 4) for name in ("conv2", "downsample.0")}


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet18"])
def test_weights_and_their_names_are_those_of_the_plain_model(name):
    plain, soft = (build_model(Config(model=name, blurpool=on), 6) for on in (False, True))
    assert list(plain.state_dict()) == list(soft.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), soft.parameters(), strict=True))
    images = torch.randn(2, 3, 64, 64)
    assert not torch.allclose(plain.eval()(images), soft.eval()(images))


@pytest.mark.parametrize("name", ["cifarnet", "alexnet"])
def test_a_model_without_strided_convolutions_is_refused(name):
    with pytest.raises(ConfigError, match=f"--blurpool: {name} has no strided convolution") as error:
        build_model(Config(model=name, blurpool=True), 6)
    assert "\n" not in str(error.value)
