"""Pictures as the network saw them, in sheets with a caption each, and where it looked (Grad-CAM)."""

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor, nn
from torch.nn.functional import interpolate

from training.models.outputs import logits_of

SIDE, LINES, LINE, COLUMNS = 120, 3, 11, 6  # pixels of a picture, lines below it, pixels of one, pictures in a row
SMALL_SIDE = 56  # pixels of a picture in a strip
HEAT = {"black": (20, 10, 60), "mid": (213, 94, 0), "white": (255, 240, 130)}  # dark in grey pictures, too


class NoMap(Exception):
    """A network that Grad-CAM cannot look into."""


def to_levels(images: Tensor, mean: Tensor, std: Tensor) -> np.ndarray:
    """(N, 3, H, W) normalised -> (N, H, W, 3) uint8."""
    pixels = images.float() * std[:, None, None] + mean[:, None, None]
    return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def short(name: str) -> str:
    """For a caption."""
    return name if len(name) <= 18 else f"{name[:17]}…"


def caption(label: str, predicted: str, probability: float, loss: float) -> str:
    return f"{short(label)}\n{short(predicted)} {probability:.2f}\nloss {loss:.2f}"


def sheet(pictures: list[np.ndarray], captions: list[str]) -> bytes:
    """PNG. Drawn with Pillow: on the clock, where matplotlib would take half a second a sheet."""
    rows = max(1, -(-len(pictures) // COLUMNS))
    cell = SIDE + LINES * LINE + 6
    whole = Image.new("RGB", (COLUMNS * (SIDE + 4), rows * cell), "white")
    pen = ImageDraw.Draw(whole)
    for place, (picture, text) in enumerate(zip(pictures, captions, strict=True)):
        left, top = (place % COLUMNS) * (SIDE + 4), place // COLUMNS * cell
        whole.paste(fitted(picture), (left, top))
        pen.text((left + 2, top + SIDE), text.encode("ascii", "replace").decode(), fill="black", spacing=0)
    stream = io.BytesIO()
    whole.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def strip(pictures: np.ndarray) -> bytes:
    """PNG of a few small pictures in a row."""
    whole = Image.new("RGB", (len(pictures) * (SMALL_SIDE + 2), SMALL_SIDE), "white")
    for place, picture in enumerate(pictures):
        whole.paste(fitted(picture, SMALL_SIDE), (place * (SMALL_SIDE + 2), 0))
    stream = io.BytesIO()
    whole.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def fitted(picture: np.ndarray, side: int = SIDE) -> Image.Image:
    image = Image.fromarray(picture)
    scale = side / max(image.size)
    size = tuple(max(1, round(length * scale)) for length in image.size)
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)


def grad_cam(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Heat (N, H, W) in 0..1 for the class that each image is called, and logits (N, C), both float32. Raises: NoMap.

    Selvaraju et al., arXiv:1610.02391, at the last stage that still has a map. The gradient is taken at that stage
    alone: no parameter's `grad` is touched.
    """
    was_training = model.training
    model.eval()
    try:
        stage, logits = last_map(model, images)
        score = logits.gather(1, logits.argmax(1, keepdim=True)).sum()
        (gradient,) = torch.autograd.grad(score, stage, allow_unused=True)
    finally:
        model.train(was_training)
    if gradient is None:
        raise NoMap("the logits do not depend on its last map")
    if is_channels_last(stage, images):
        stage, gradient = stage.permute(0, 3, 1, 2), gradient.permute(0, 3, 1, 2)
    heat = (gradient.mean((2, 3), keepdim=True) * stage).sum(1, keepdim=True).relu()
    heat = interpolate(heat.float(), images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    heat = heat.nan_to_num(0, 0)  # of logits that are not finite
    return (heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-12)).detach(), logits.detach().float()


def is_channels_last(stage: Tensor, images: Tensor) -> bool:
    """Whether a map is (N, H, W, C), as a Swin transformer of timm has it: the layout tells which of the two has the
    proportions of the images."""

    def stretch(height: int, width: int) -> float:
        return abs(math.log(height / width * images.shape[3] / images.shape[2]))

    return stretch(*stage.shape[1:3]) < stretch(*stage.shape[2:])


def last_map(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """The output of the last module that gives a map larger than 1 x 1, and the logits. A map without a gradient, as of
    a body that the network runs under `torch.no_grad`, is none. Raises: NoMap."""
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.requires_grad:
            sides = output.shape[1:3] if is_channels_last(output, images) else output.shape[2:]
            found[:] = [output] if min(sides) > 1 else found

    hooks = [module.register_forward_hook(keep) for module in model.modules() if module is not model]
    try:
        with torch.enable_grad():
            logits = logits_of(model(images.requires_grad_()))
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise NoMap("no module has a map larger than 1 x 1 with a gradient")
    return found[0], logits


def overlaid(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the picture in grey under the heat."""
    grey = Image.fromarray(picture).convert("L").convert("RGB")
    colours = ImageOps.colorize(Image.fromarray((heat * 255).astype(np.uint8), "L"), **HEAT, midpoint=128)
    return np.asarray(Image.blend(grey, colours, 0.5))


def looks(model: nn.Module, images: Tensor, levels: Callable[[Tensor], np.ndarray]) -> tuple[list[np.ndarray], Tensor]:
    """Every picture under its heat, and the logits."""
    pictures = levels(images)
    heat, logits = grad_cam(model, images.detach().clone())
    shown = zip(pictures, heat.cpu().numpy(), strict=True)
    return [overlaid(picture, one) for picture, one in shown], logits
