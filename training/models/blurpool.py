"""--blurpool: images are blurred before a strided convolution samples them (R. Zhang, arXiv:1904.11486), as in
ffcv-imagenet: convolutions of 16 and more input channels, blurred first, zeros beyond the border."""

from torch import Tensor, nn

from training.config.config import Config
from training.errors import ConfigError

MIN_CHANNELS = 16  # the first layer sees the image itself


class BlurredConv2d(nn.Conv2d):
    """A convolution behind a blur of 3x3 pixels (timm's); its parameters have the names of the convolution alone."""

    def __init__(self, conv: nn.Conv2d) -> None:
        from timm.layers import BlurPool2d  # imports much of timm

        shape = conv.in_channels, conv.out_channels, conv.kernel_size
        bias, mode = conv.bias is not None, conv.padding_mode
        super().__init__(*shape, conv.stride, conv.padding, conv.dilation, conv.groups, bias, mode, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        blur_stride = 1
        if conv.kernel_size == (1, 1) and conv.stride == (2, 2) and conv.padding == (0, 0):
            blur_stride, self.stride = 2, (1, 1)  # the same numbers, a quarter of the blurring
        self.blur = BlurPool2d(conv.in_channels, stride=blur_stride, pad_mode="constant")

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.blur(x))


def blur_strided_convolutions(config: Config, model: nn.Module) -> None:
    """In place. Raises: ConfigError for a model without such a convolution."""
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Conv2d and max(child.stride) > 1 and child.in_channels >= MIN_CHANNELS
    ]
    if not found:
        raise ConfigError(
            f"--blurpool: {config.model} has no strided convolution of {MIN_CHANNELS} and more channels; "
            "use --no-blurpool or another model, such as resnet50"
        )
    for parent, name, child in found:
        setattr(parent, name, BlurredConv2d(child))
