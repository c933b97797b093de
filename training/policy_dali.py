"""The operations of training/policy.py in a DALI pipeline, on pictures (H, W, 3) uint8.

DALI's own augmentations, but the strengths come from the request: their random draws can be neither resumed nor shared
with another loader. Where DALI defines an operation otherwise than torchvision, see tests/test_training_policy.py.
"""

import numpy as np
from nvidia.dali import fn, types
from nvidia.dali.auto_aug import augmentations
from nvidia.dali.auto_aug.core import select
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import do_not_convert

from training.policy import GREY, NAMES
from training.policy_draw import Policy

KEPT_BITS = np.array([256 - (1 << (8 - bits)) for bits in range(9)], np.uint8)  # masks by number of bits
SHARP = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], np.float32) / 13  # picture minus its blur
BORDER = {"fill_value": 0, "interp_type": types.INTERP_LINEAR}
SAME = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)


def apply_policies(images: DataNode, operations: DataNode, strengths: DataNode, policy: Policy) -> DataNode:
    """`operations` (K,) int32, places in policy.names, and `strengths` (K,) float32 of each picture, on the CPU."""
    for place in range(policy.count):
        images = select([OPERATIONS[name] for name in policy.names], operations[place], images, strengths[place])
    return images


def beside(images: DataNode, value: DataNode) -> DataNode:
    """`value` where arithmetic with `images` wants it."""
    return value.gpu() if images.device == "gpu" else value


@do_not_convert
def identity(images, strength):
    return images


@do_not_convert
def shear_x(images, strength):
    return augmentations.shear_x.op(images, fn.stack(-strength, 0 * strength), **BORDER)


@do_not_convert
def shear_y(images, strength):
    return augmentations.shear_y.op(images, fn.stack(0 * strength, -strength), **BORDER)


@do_not_convert
def translate_x(images, strength):
    return augmentations.translate_x_no_shape.op(images, fn.stack(strength, 0 * strength), **BORDER)


@do_not_convert
def translate_y(images, strength):
    return augmentations.translate_y_no_shape.op(images, fn.stack(0 * strength, strength), **BORDER)


@do_not_convert
def rotate(images, strength):
    return augmentations.rotate.op(images, strength, **BORDER)


@do_not_convert
def brightness(images, strength):
    return augmentations.brightness.op(images, 1 + strength)


@do_not_convert
def color(images, strength):
    return augmentations.color.op(images, 1 + strength)


@do_not_convert
def contrast(images, strength):
    return augmentations.contrast.op(images, beside(images, 1 + strength))


@do_not_convert
def sharpness(images, strength):
    kernel = types.Constant(SAME) + strength * types.Constant(SHARP)
    return fn.filter(images, beside(images, kernel))


@do_not_convert
def posterize(images, strength):
    mask = types.Constant(KEPT_BITS, device="cpu")[fn.cast(strength, dtype=types.INT32)]
    return augmentations.posterize.op(images, beside(images, mask))


@do_not_convert
def solarize(images, strength):
    return fn.cast_like(augmentations.solarize.op(images, beside(images, strength)), images)


@do_not_convert
def auto_contrast(images, strength):
    return augmentations.auto_contrast.op(images, None)


@do_not_convert
def equalize(images, strength):
    return fn.equalize(images)


@do_not_convert
def invert(images, strength):
    return augmentations.invert.op(images, None)


@do_not_convert
def solarize_add(images, strength):
    added = fn.cast(beside(images, strength), dtype=types.UINT8)
    return fn.cast_like(augmentations.solarize_add.op(images, added), images)


def smoothly(warp):
    """`warp` on pictures less GREY, so that the zero outside is grey; rounded as training.policy.smoothly does."""

    @do_not_convert
    def smooth(images, strength):
        grey = types.Constant(np.array(GREY, np.float32), device=images.device)
        return fn.cast_like(warp(images - grey, strength) + grey, images)

    return smooth


FUNCTIONS = (
    identity, shear_x, shear_y, translate_x, translate_y, rotate, brightness, color, contrast, sharpness, posterize,
    solarize, auto_contrast, equalize, invert, solarize_add,
    *map(smoothly, (shear_x, shear_y, translate_x, translate_y, rotate)),
)  # fmt: skip
OPERATIONS = dict(zip(NAMES, FUNCTIONS, strict=True))
