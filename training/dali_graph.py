"""The DALI pipeline behind training/render_dali.py. Everything that a request says is an input, so nothing is rebuilt
when a folder, a size or a batch changes."""

from collections.abc import Callable

from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.data_node import DataNode

from training.policy_dali import apply_policies

PREFETCH = 2  # batches in the pipeline
INPUTS = 5  # names, windows, sizes, cuts, flips; a policy adds operations and strengths
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # ImageNet, in 0..255


@pipeline_def(enable_conditionals=True, prefetch_queue_depth=PREFETCH)
def pictures(source: Callable, mixed: bool, operations: int, half: bool):
    """`source` returns the inputs of one batch; `operations` per picture, 0 without a policy."""
    inputs = fn.external_source(source, num_outputs=INPUTS + 2 * bool(operations), batch=True)
    name, window, size, cut, flip = inputs[:INPUTS]
    images = windows_of(fn.io.file.read(name), window[:2], window[2:], mixed)
    images = fn.resize(images, size=size, interp_type=types.INTERP_LINEAR, antialias=True)
    images = fn.slice(images, start=cut[:2], shape=cut[2:], axes=(0, 1), out_of_bounds_policy="pad", fill_values=0)
    images = fn.flip(images, horizontal=flip)
    if operations:
        images = apply_policies(images, *inputs[INPUTS:], operations)
    if half:
        images = fn.crop_mirror_normalize(images, dtype=types.FLOAT16, output_layout="HWC", mean=MEAN, std=STD)
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
