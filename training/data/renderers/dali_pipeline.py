"""The DALI pipeline behind training/data/renderers/dali.py. Everything that a request says is an input, so nothing is
rebuilt when a folder, a size or a batch changes."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.auto_aug import augmentations
from nvidia.dali.auto_aug.core import select
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import do_not_convert

from training.data.auto_augment import GREY, NAMES, Policy, numbers
from training.data.renderers.base import Request
from training.data.transforms import MEAN, STD

PREFETCH = 2  # batches in the pipeline
INPUTS = 7  # files, pieces, windows, sizes, cuts, flips, filters; a policy adds operations and strengths
FILTERS = (int(types.INTERP_LINEAR), int(types.INTERP_CUBIC))  # by Request.cubic
KEPT_BITS = np.array([256 - (1 << (8 - bits)) for bits in range(9)], np.uint8)  # masks by number of bits
SHARP = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], np.float32) / 13  # picture minus its blur
BORDER = {"fill_value": 0, "interp_type": types.INTERP_LINEAR}
SAME = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)


class Encoded(NamedTuple):
    """What is decoded of a picture."""

    data: np.ndarray  # (bytes,) uint8: a JPEG file that was cut out, or the name of a file
    piece: bool  # cut out
    window: tuple[int, int, int, int] | np.ndarray  # in it: top, left, height, width


@pipeline_def(enable_conditionals=True, prefetch_queue_depth=PREFETCH)
def pictures(source: Callable, mixed: bool, policy: Policy, half: bool):
    """`source` returns the inputs of one batch.

    Resizing, cutting and mirroring in one operator takes about a tenth less processor time than in three (files of
    160 px, measured).
    """
    # The order is ours: DALI's readers shuffle in a buffer of 1,024 (DALI#2688), and after a restart they begin with
    # their first epoch again (DALI#2849).
    inputs = fn.external_source(source, num_outputs=INPUTS + 2 * bool(policy.count), batch=True)
    data, piece, window, size, cut, flip, kernel = inputs[:INPUTS]
    if piece:  # noqa: SIM108 - of every picture; DALI takes no other form of it
        files = data
    else:
        files = fn.io.file.read(data)
    images = fn.resize_crop_mirror(
        windows_of(files, window[:2], window[2:], mixed),
        size=size,
        crop=cut[:2],
        crop_pos_y=cut[2],
        crop_pos_x=cut[3],
        mirror=flip,
        interp_type=fn.reinterpret(kernel, dtype=types.INTERP_TYPE),
        # Pillow's filter: with another one a network was validated at 69.02 % that has 69.83 % (DALI#400).
        antialias=True,
    )
    if policy.count:
        images = apply_policies(images, *inputs[INPUTS:], policy)
    if half:
        statistics = {"mean": list(MEAN), "std": list(STD)}
        images = fn.crop_mirror_normalize(images, dtype=types.FLOAT16, output_layout="HWC", **statistics)
    return images


def windows_of(files: DataNode, start: DataNode, shape: DataNode, mixed: bool) -> DataNode:
    """The windows, as stored: EXIF orientation ignored, chroma interpolated as Pillow does.

    On the GPU all of a file is decoded, or of a piece cut out of it: nvImageCodec 0.9.0 crashes on windows there (its
    issue 55).
    """
    options = {"adjust_orientation": False, "jpeg_fancy_upsampling": True}
    if mixed:
        images = fn.decoders.image(files, device="mixed", **options)
        return fn.slice(images, start=start, shape=shape, axes=(0, 1))
    return fn.decoders.image_slice(files, start=start, shape=shape, axes=(0, 1), **options)


def inputs_of(request: Request, pictures: list[Encoded], policy: Policy) -> tuple[list[np.ndarray] | np.ndarray, ...]:
    """What `pictures` takes, in its order."""
    start, extent = inside(request)
    places = start / np.maximum(request.resized - extent, 1)  # 0: at the top or left end, 1: at the other
    cuts = np.concatenate([extent, places], 1).astype(np.float32)
    kernels = np.full(len(pictures), FILTERS[request.cubic], np.int32)
    data, pieces, windows = zip(*pictures, strict=True)
    flips, resized = request.flips.astype(np.int32), request.resized.astype(np.float32)
    inputs = (list(data), np.array(pieces), np.array(windows, np.int32), resized, cuts, flips, kernels)
    if not policy.count:
        return inputs
    rows = request.policy
    rows = np.zeros((len(pictures), policy.count, 2), np.float32) if rows is None else rows  # zeros: nothing happens
    return (*inputs, places_of(policy)[rows[..., 0].astype(np.int32)], rows[..., 1].copy())


def places_of(policy: Policy) -> np.ndarray:
    """(operations,) int32: the place in policy.names of each operation that it has."""
    places = np.zeros(len(NAMES), np.int32)
    places[numbers(policy.names)] = np.arange(len(policy.names))
    return places


def inside(request: Request) -> tuple[np.ndarray, np.ndarray]:
    """The part of each output that the resized window covers: top and left in that window, height and width; both
    (B, 2). An output that reaches past its window is not covered completely."""
    start = np.maximum(request.corners, 0)
    return start, np.minimum(request.corners + request.size, request.resized) - start


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
    """`warp` on pictures less GREY, so that the zero outside is grey; rounded as auto_augment_ops.smoothly does."""

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
