"""The operations of augmentation policies, by torchvision's functions.

training/data/auto_augment.py draws which of them a picture gets. Every loader applies the same rows: these functions,
or DALI's in training/data/renderers/dali_pipeline.py.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

NAMES = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert", "SolarizeAdd", "SmoothShearX",
    "SmoothShearY", "SmoothTranslateX", "SmoothTranslateY", "SmoothRotate",
)  # fmt: skip
GREY = (124.0, 116.0, 104.0)  # what timm fills a border with: ImageNet's mean


def apply_torchvision(image: Tensor, policy: np.ndarray) -> Tensor:
    """Image (3, H, W) uint8 and its policy rows (K, 2), operation and strength, applied in turn."""
    for number, strength in policy.tolist():
        image = OPERATIONS[NAMES[int(number)]](image, strength)
    return image


def affine(image: Tensor, shift: tuple[float, float] = (0, 0), shear: tuple[float, float] = (0, 0), **how) -> Tensor:
    """Shift in pixels, shear as x, y tangents; black outside. Bilinear, as in torchvision's training script; nearest
    neighbour is only its classes' default."""
    degrees = [math.degrees(math.atan(part)) for part in shear]
    how |= {"interpolation": InterpolationMode.BILINEAR}
    return F.affine(image, angle=0.0, translate=list(shift), scale=1.0, shear=degrees, **how)


def rotate(image: Tensor, degrees: float) -> Tensor:
    """Likewise."""
    return F.rotate(image, angle=degrees, interpolation=InterpolationMode.BILINEAR)


def smoothly(image: Tensor, warp: Callable[..., Tensor], *values, **how) -> Tensor:
    """`warp` with GREY outside, as timm's operations. torchvision's own `fill` darkens the border; zero is outside
    here, and GREY is added afterwards."""
    grey = torch.tensor(GREY, device=image.device)[:, None, None]
    moved = warp(image - grey, *values, **how)
    return (moved + grey).round_().clamp_(0, 255).to(torch.uint8)


def solarize_add(image: Tensor, added: float) -> Tensor:
    """Dark pixels only, below 128."""
    return torch.where(image < 128, (image.to(torch.int16) + int(added)).clamp_(max=255).to(torch.uint8), image)


OPERATIONS = {
    "Identity": lambda image, strength: image,
    "ShearX": lambda image, strength: affine(image, shear=(strength, 0), center=[0, 0]),
    "ShearY": lambda image, strength: affine(image, shear=(0, strength), center=[0, 0]),
    "TranslateX": lambda image, strength: affine(image, shift=(int(strength), 0)),
    "TranslateY": lambda image, strength: affine(image, shift=(0, int(strength))),
    "Rotate": rotate,
    "Brightness": lambda image, strength: F.adjust_brightness(image, 1 + strength),
    "Color": lambda image, strength: F.adjust_saturation(image, 1 + strength),
    "Contrast": lambda image, strength: F.adjust_contrast(image, 1 + strength),
    "Sharpness": lambda image, strength: F.adjust_sharpness(image, 1 + strength),
    "Posterize": lambda image, strength: F.posterize(image, int(strength)),
    "Solarize": lambda image, strength: image if strength > 255 else F.solarize(image, strength),
    "AutoContrast": lambda image, strength: F.autocontrast(image),
    "Equalize": lambda image, strength: F.equalize(image),
    "Invert": lambda image, strength: F.invert(image),
    "SolarizeAdd": solarize_add,
    "SmoothShearX": lambda image, strength: smoothly(image, affine, shear=(strength, 0), center=[0, 0]),
    "SmoothShearY": lambda image, strength: smoothly(image, affine, shear=(0, strength), center=[0, 0]),
    "SmoothTranslateX": lambda image, strength: smoothly(image, affine, shift=(strength, 0)),
    "SmoothTranslateY": lambda image, strength: smoothly(image, affine, shift=(0, strength)),
    "SmoothRotate": lambda image, strength: smoothly(image, rotate, strength),
}
