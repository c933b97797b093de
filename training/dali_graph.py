"""The DALI pipeline behind training/render_dali.py. Everything that a request says is an input, so nothing is rebuilt
when a folder, a size or a batch changes."""

from collections.abc import Callable

import numpy as np
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.data_node import DataNode

from training.augment import MEAN, STD
from training.policy import NAMES, strengths
from training.policy_dali import apply_policies
from training.requests import Request

PREFETCH = 2  # batches in the pipeline
INPUTS = 5  # names, windows, sizes, cuts, flips; a policy adds operations and strengths


@pipeline_def(enable_conditionals=True, prefetch_queue_depth=PREFETCH)
def pictures(source: Callable, mixed: bool, operations: int, half: bool):
    """`source` returns the inputs of one batch; `operations` per picture, 0 without a policy.

    Resizing, cutting and mirroring in one operator takes about a tenth less processor time than in three (files of
    160 px, measured).
    """
    inputs = fn.external_source(source, num_outputs=INPUTS + 2 * bool(operations), batch=True)
    name, window, size, cut, flip = inputs[:INPUTS]
    images = fn.resize_crop_mirror(
        windows_of(fn.io.file.read(name), window[:2], window[2:], mixed),
        size=size,
        crop=cut[:2],
        crop_pos_y=cut[2],
        crop_pos_x=cut[3],
        mirror=flip,
        interp_type=types.INTERP_LINEAR,
        antialias=True,
    )
    if operations:
        images = apply_policies(images, *inputs[INPUTS:], operations)
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


def inputs_of(request: Request, names: list[np.ndarray], operations: int) -> tuple[list[np.ndarray] | np.ndarray, ...]:
    """What `pictures` takes, in its order."""
    start, extent = inside(request)
    places = start / np.maximum(request.resized - extent, 1)  # 0: at the top or left end, 1: at the other
    cuts = np.concatenate([extent, places], 1).astype(np.float32)
    inputs = (names, request.windows, request.resized.astype(np.float32), cuts, request.flips.astype(np.int32))
    if not operations:
        return inputs
    policy = request.policy
    policy = np.zeros((len(names), operations, 3), np.int32) if policy is None else policy  # zeros: nothing happens
    return (*inputs, policy[..., 0] % len(NAMES), strengths(policy, request.size))


def inside(request: Request) -> tuple[np.ndarray, np.ndarray]:
    """The part of each output that the resized window covers: top and left in that window, height and width; both
    (B, 2). An output that reaches past its window is not covered completely."""
    start = np.maximum(request.corners, 0)
    return start, np.minimum(request.corners + request.size, request.resized) - start
