"""Which operations an augmentation policy applies to each picture and how strongly, drawn as arrays before anything is
read.

Policies and magnitudes are torchvision's TrivialAugmentWide (arXiv:2103.10158), RandAugment (1909.13719) and
AutoAugment for ImageNet (1805.09501), and timm's RandAugment with increasing severity ('rand-m7-mstd0.5-inc1', used by
2110.00476).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

BINS = 31  # torchvision's magnitudes of an operation, from none to full
TIMM_LEVELS = 10.0
TIMM_PROBABILITY = 0.5  # of each operation
NAMES = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert", "SolarizeAdd", "SmoothShearX",
    "SmoothShearY", "SmoothTranslateX", "SmoothTranslateY", "SmoothRotate",
)  # fmt: skip
TORCHVISION = NAMES[:14]
SIGNED = np.array([name.removeprefix("Smooth") in NAMES[1:10] for name in NAMES])
WITHOUT_LEVEL = np.array([name in ("Identity", "AutoContrast", "Equalize", "Invert") for name in NAMES])
# timm: strength = from + sign of slope * (|slope| * share, whole where `cut`); translations in shares of the side
TIMM = {
    "AutoContrast": (0, 0), "Equalize": (0, 0), "Invert": (0, 0), "SmoothRotate": (0, 30), "Posterize": (4, -4),
    "Solarize": (256, -256), "SolarizeAdd": (0, 110), "Color": (0, 0.9), "Contrast": (0, 0.9), "Brightness": (0, 0.9),
    "Sharpness": (0, 0.9), "SmoothShearX": (0, 0.3), "SmoothShearY": (0, 0.3), "SmoothTranslateX": (0, 0.45),
    "SmoothTranslateY": (0, 0.45),
}  # fmt: skip
TIMM_WHOLE = ("Posterize", "Solarize", "SolarizeAdd")
# torchvision: pairs of operation, probability, magnitude of 0..9
IMAGENET = (
    (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)), (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.8, 0), ("Equalize", 0.6, 0)), (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
    (("Equalize", 0.4, 0), ("Solarize", 0.2, 4)), (("Equalize", 0.4, 0), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 0)), (("Posterize", 0.8, 5), ("Equalize", 1.0, 0)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)), (("Equalize", 0.6, 0), ("Posterize", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)), (("Rotate", 0.4, 9), ("Equalize", 0.6, 0)),
    (("Equalize", 0.0, 0), ("Equalize", 0.8, 0)), (("Invert", 0.6, 0), ("Equalize", 1.0, 0)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)), (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)), (("Sharpness", 0.4, 7), ("Invert", 0.6, 0)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 0)), (("Color", 0.4, 0), ("Equalize", 0.6, 0)),
    (("Equalize", 0.4, 0), ("Solarize", 0.2, 4)), (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 0)),
    (("Invert", 0.6, 0), ("Equalize", 1.0, 0)), (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, 0), ("Equalize", 0.6, 0)),
)  # fmt: skip
GREY = (124.0, 116.0, 104.0)  # what timm fills a border with: ImageNet's mean


@dataclass(frozen=True)
class Policy:
    """`magnitude` in bins of 0..30 (randaugment) or levels of 0..10 (timm-randaugment), `magnitude_std` likewise: of
    each operation's own normal draw, cut off at both ends; `ops` per picture. The other policies take none of them."""

    name: str = "none"
    magnitude: float = 9.0
    magnitude_std: float = 0.0
    ops: int = 2

    @property
    def count(self) -> int:
        """Rows per picture."""
        return {"none": 0, "trivialaugment": 1, "autoaugment": 2}.get(self.name, self.ops)

    @property
    def names(self) -> tuple[str, ...]:
        """Every operation that may come; Identity first."""
        if self.name == "autoaugment":
            return ("Identity", *dict.fromkeys(name for pair in IMAGENET for name, _, _ in pair))
        return ("Identity", *TIMM) if self.name == "timm-randaugment" else TORCHVISION

    @property
    def top(self) -> float:
        """The strongest level."""
        return {"autoaugment": 9, "timm-randaugment": TIMM_LEVELS}.get(self.name, BINS - 1)


NO_POLICY = Policy()


def policy_of(config) -> Policy:
    return Policy(config.policy, config.policy_magnitude, config.policy_magnitude_std, config.policy_ops)


def draw(policy: Policy, rng: np.random.Generator, count: int, size: tuple[int, int], aug: float = 1.0) -> np.ndarray:
    """(count, K, 2) float32 for pictures of `size` (height, width): operation (place in NAMES) and its strength.

    `aug` from 0 to 1 multiplies the levels; operations that have none are left out with probability 1 - aug. It changes
    no other draw.
    """
    number, level = drawn(policy, rng, count)
    sign = 1 - 2 * rng.integers(2, size=number.shape)
    left_out = WITHOUT_LEVEL[number] & (rng.random(number.shape) >= aug)
    number = np.where(left_out, 0, number)
    return np.stack([number, strengths(policy, number, level * aug, sign, size)], -1).astype(np.float32)


def drawn(policy: Policy, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Operations and levels, (count, K); what is not applied is Identity."""
    shape = (count, policy.count)
    if policy.name == "autoaugment":
        chosen = sub_policies()[rng.integers(len(IMAGENET), size=count)]
        applied = rng.random(shape) < chosen[..., 1]
        return np.where(applied, chosen[..., 0], 0).astype(np.int64), chosen[..., 2]
    if policy.name == "timm-randaugment":
        number = numbers(tuple(TIMM))[rng.integers(len(TIMM), size=shape)]
        number = np.where(rng.random(shape) < TIMM_PROBABILITY, number, 0)
    else:
        number = rng.integers(len(TORCHVISION), size=shape)
    if policy.name == "trivialaugment":
        return number, rng.integers(BINS, size=shape).astype(np.float64)
    noise = policy.magnitude_std * rng.standard_normal(shape) if policy.magnitude_std else np.zeros(shape)
    return number, np.clip(policy.magnitude + noise, 0, policy.top)


def numbers(names: tuple[str, ...]) -> np.ndarray:
    return np.array([NAMES.index(name) for name in names])


@lru_cache(maxsize=1)
def sub_policies() -> np.ndarray:
    """(25, 2, 3): operation, probability, level."""
    return np.array([[(NAMES.index(name), p, level) for name, p, level in pair] for pair in IMAGENET])


def strengths(
    policy: Policy, number: np.ndarray, level: np.ndarray, sign: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """(...) float32, each in the operation's own unit: pixels for a translation, bits kept for Posterize, a threshold
    in 0..256 for Solarize. Between torchvision's bins on a straight line."""
    by_level = timm_strengths if policy.name == "timm-randaugment" else torchvision_strengths
    return by_level(policy, number, level, size) * np.where(SIGNED[number], sign, 1).astype(np.float32)


def torchvision_strengths(policy: Policy, number: np.ndarray, level: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    ramps = table(policy.name, *size)
    below = np.minimum(level.astype(np.int64), ramps.shape[1] - 2)
    first, second = ramps[number, below], ramps[number, below + 1]
    part = (level - below).astype(np.float32)
    between = np.where(part == 1, second, first + (second - first) * part)  # exactly the bin's own at a whole level
    between = np.where(np.isin(number, numbers(("TranslateX", "TranslateY"))), np.trunc(between), between)
    return np.where(number == NAMES.index("Posterize"), np.rint(between), between)


@lru_cache(maxsize=16)
def table(policy: str, height: int, width: int) -> np.ndarray:
    """(operations, bins) float32, not yet in whole pixels and bits."""
    if policy == "trivialaugment":
        return strengths_by_bin(BINS, 0.99, (32, 32), 135, 0.99, 6).numpy()
    shift, bins = 150 / 331, 10 if policy == "autoaugment" else BINS
    return strengths_by_bin(bins, 0.3, (shift * width, shift * height), 30, 0.9, 4).numpy()


def strengths_by_bin(
    bins: int, shear: float, shift: tuple[float, float], degrees: float, colour: float, bits: int
) -> Tensor:
    """(operations, bins) from the full strengths of a policy. `bits`: those that Posterize drops."""
    full = {"ShearX": shear, "ShearY": shear, "TranslateX": shift[0], "TranslateY": shift[1], "Rotate": degrees}
    full |= dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), colour)
    ramps = torch.stack([torch.linspace(0, full.get(name, 0), bins) for name in NAMES])
    ramps[NAMES.index("Posterize")] = 8 - torch.arange(bins) / ((bins - 1) / bits)
    ramps[NAMES.index("Solarize")] = 255 * torch.linspace(1, 0, bins)
    return ramps


def timm_strengths(policy: Policy, number: np.ndarray, level: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    start, slope = np.array([TIMM.get(name, (0, 0)) for name in NAMES], np.float64).T
    slope[numbers(("SmoothTranslateX", "SmoothTranslateY"))] *= size[::-1]
    grown = level / TIMM_LEVELS * np.abs(slope)[number]
    grown = np.where(np.isin(number, numbers(TIMM_WHOLE)), np.trunc(grown), grown)
    return (start[number] + np.sign(slope)[number] * grown).astype(np.float32)


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
