"""The DALI pipeline behind training/render_dali.py. Everything that a request says is an input, so nothing is rebuilt
when a folder, a size or a batch changes."""

from collections.abc import Callable

import numpy as np
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.data_node import DataNode

from training.augment import MEAN, STD
from training.policy import NAMES
from training.policy_dali import apply_policies
from training.policy_draw import Policy, numbers
from training.requests import Request

PREFETCH = 2  # batches in the pipeline
INPUTS = 6  # names, windows, sizes, cuts, flips, filters; a policy adds operations and strengths
FILTERS = (int(types.INTERP_LINEAR), int(types.INTERP_CUBIC))  # by Request.cubic


@pipeline_def(enable_conditionals=True, prefetch_queue_depth=PREFETCH)
def pictures(source: Callable, mixed: bool, policy: Policy, half: bool):
    """`source` returns the inputs of one batch.

    Resizing, cutting and mirroring in one operator takes about a tenth less processor time than in three (files of
    160 px, measured).
    """
    inputs = fn.external_source(source, num_outputs=INPUTS + 2 * bool(policy.count), batch=True)
    name, window, size, cut, flip, kernel = inputs[:INPUTS]
    images = fn.resize_crop_mirror(
        windows_of(fn.io.file.read(name), window[:2], window[2:], mixed),
        size=size,
        crop=cut[:2],
        crop_pos_y=cut[2],
        crop_pos_x=cut[3],
        mirror=flip,
        interp_type=fn.reinterpret(kernel, dtype=types.INTERP_TYPE),
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

    On the GPU the whole picture is decoded: nvImageCodec 0.9.0 crashes on windows there (its issue 55).
    """
    options = {"adjust_orientation": False, "jpeg_fancy_upsampling": True}
    if mixed:
        images = fn.decoders.image(files, device="mixed", **options)
        return fn.slice(images, start=start, shape=shape, axes=(0, 1))
    return fn.decoders.image_slice(files, start=start, shape=shape, axes=(0, 1), **options)


def inputs_of(request: Request, names: list[np.ndarray], policy: Policy) -> tuple[list[np.ndarray] | np.ndarray, ...]:
    """What `pictures` takes, in its order."""
    start, extent = inside(request)
    places = start / np.maximum(request.resized - extent, 1)  # 0: at the top or left end, 1: at the other
    cuts = np.concatenate([extent, places], 1).astype(np.float32)
    kernels = np.full(len(names), FILTERS[request.cubic], np.int32)
    flips, resized = request.flips.astype(np.int32), request.resized.astype(np.float32)
    inputs = (names, request.windows, resized, cuts, flips, kernels)
    if not policy.count:
        return inputs
    rows = request.policy
    rows = np.zeros((len(names), policy.count, 2), np.float32) if rows is None else rows  # zeros: nothing happens
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
