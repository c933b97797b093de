"""Per-picture augmentation policies as arrays: which operation, how strong, which direction, drawn before anything is
read. Operations and magnitudes are torchvision's TrivialAugmentWide (arXiv 2103.10158) and RandAugment (1909.13719).

Every loader applies the same rows: torchvision's functions here, DALI's in training/policy_dali.py.
"""

import math
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

BINS = 31  # magnitudes of an operation, from none to full
NAMES = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
SIGNED = np.array([name in NAMES[1:10] for name in NAMES])
POLICIES = ("trivialaugment", "randaugment")  # operation number = len(NAMES) * policy + place in NAMES


def draw(policy: str, rng: np.random.Generator, count: int, ops: int = 2, magnitude: int = 9) -> np.ndarray:
    """(count, K, 3) int32: operation number, magnitude bin, sign. TrivialAugment draws one operation of any magnitude,
    RandAugment `ops` of the same `magnitude` (a bin)."""
    wide = policy == "trivialaugment"
    shape = (count, 1 if wide else ops)
    number = rng.integers(len(NAMES), size=shape) + len(NAMES) * POLICIES.index(policy)
    bins = rng.integers(BINS, size=shape) if wide else np.full(shape, magnitude)
    sign = 1 - 2 * rng.integers(2, size=shape)
    return np.stack([number, bins, sign], -1).astype(np.int32)


def strengths(policy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(..., 3) policy rows for pictures of `size` (height, width) -> (...) float32: the operation's own unit, whole
    pixels for a translation, bits kept for Posterize, a threshold in 0..255 for Solarize."""
    number, bins, sign = np.moveaxis(policy, -1, 0)
    return table(*size)[number, bins] * np.where(SIGNED[number % len(NAMES)], sign, 1).astype(np.float32)


@lru_cache(maxsize=16)
def table(height: int, width: int) -> np.ndarray:
    """(28, BINS) float32, by operation number and bin."""
    shift = 150 / 331  # of the picture, in RandAugment
    wide = strengths_by_bin(0.99, (32, 32), 135, 0.99, 6)
    return torch.cat([wide, strengths_by_bin(0.3, (shift * width, shift * height), 30, 0.9, 4)]).numpy()


def strengths_by_bin(shear: float, shift: tuple[float, float], degrees: float, colour: float, bits: int) -> Tensor:
    """(14, BINS) from the full strengths of a policy; rows as in NAMES. `bits`: those that Posterize drops."""
    ramp, unused = partial(torch.linspace, 0, steps=BINS), torch.zeros(BINS)
    kept = (8 - torch.arange(BINS) / ((BINS - 1) / bits)).round()
    threshold = 255 * torch.linspace(1, 0, BINS)
    geometry = [ramp(shear), ramp(shear), ramp(shift[0]).trunc(), ramp(shift[1]).trunc(), ramp(degrees)]
    return torch.stack([unused, *geometry, *[ramp(colour)] * 4, kept, threshold, unused, unused])


def apply_torchvision(image: Tensor, policy: np.ndarray) -> Tensor:
    """Image (3, H, W) uint8 and its policy rows (K, 3), applied in turn."""
    for number, strength in zip(policy[:, 0], strengths(policy, tuple(image.shape[1:])).tolist(), strict=True):
        image = OPERATIONS[NAMES[number % len(NAMES)]](image, strength)
    return image


def affine(image: Tensor, shift: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0, 0), **centre) -> Tensor:
    """Nearest neighbour, black outside; shift in pixels, shear as x, y tangents."""
    degrees = [math.degrees(math.atan(part)) for part in shear]
    return F.affine(image, angle=0.0, translate=list(shift), scale=1.0, shear=degrees, **centre)


OPERATIONS = {
    "Identity": lambda image, strength: image,
    "ShearX": lambda image, strength: affine(image, shear=(strength, 0), center=[0, 0]),
    "ShearY": lambda image, strength: affine(image, shear=(0, strength), center=[0, 0]),
    "TranslateX": lambda image, strength: affine(image, shift=(int(strength), 0)),
    "TranslateY": lambda image, strength: affine(image, shift=(0, int(strength))),
    "Rotate": lambda image, strength: F.rotate(image, angle=strength),
    "Brightness": lambda image, strength: F.adjust_brightness(image, 1 + strength),
    "Color": lambda image, strength: F.adjust_saturation(image, 1 + strength),
    "Contrast": lambda image, strength: F.adjust_contrast(image, 1 + strength),
    "Sharpness": lambda image, strength: F.adjust_sharpness(image, 1 + strength),
    "Posterize": lambda image, strength: F.posterize(image, int(strength)),
    "Solarize": lambda image, strength: F.solarize(image, strength),
    "AutoContrast": lambda image, strength: F.autocontrast(image),
    "Equalize": lambda image, strength: F.equalize(image),
}
