"""FFCV (libffcv/ffcv on GitHub) for benchmarks/loaders.py: its own file format, a compiled pipeline.

A file of 1,000 images is written first, off the clock, with ffcv-imagenet's settings (quality 90). Its resize is
OpenCV's INTER_AREA: antialiased, though another filter than the others'. `max_resolution` is always given for the mix
of JPEG and pixels: without it writing that mix hung.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from loader_work import RATIO, Work
from torch import Tensor

EPOCHS = 1_000  # as one list of indices, so that the stream has no gap
SIDE = 500  # pixels, longest side in ffcv-imagenet's files


def jpg(work: Work) -> Iterator[Tensor]:
    """Every image as JPEG at its own size."""
    return stream(work, "jpg", write_mode="jpg")


def jpg_500(work: Work) -> Iterator[Tensor]:
    """Every image as JPEG, long side at most 500 px."""
    return stream(work, "jpg-500", write_mode="jpg", max_resolution=SIDE)


def half_raw(work: Work) -> Iterator[Tensor]:
    """ffcv-imagenet's file: long side at most 500 px, half of the images as pixels."""
    return stream(work, "half-raw", write_mode="proportion", compress_probability=0.5, max_resolution=SIDE)


def raw(work: Work) -> Iterator[Tensor]:
    """Every image as pixels at its own size."""
    return stream(work, "raw", write_mode="raw")


def stream(work: Work, name: str, **mode) -> Iterator[Tensor]:
    """The images of the train loader in ffcv-imagenet, without normalisation. Raises: ImportError without FFCV."""
    from ffcv.fields.decoders import RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import RandomHorizontalFlip, ToTensor

    decoder = RandomResizedCropRGBImageDecoder((work.size, work.size), (work.min_scale, 1.0), RATIO)
    loader = Loader(
        str(written(work, name, mode)),
        batch_size=work.batch,
        num_workers=work.workers,
        os_cache=True,
        order=OrderOption.RANDOM,
        indices=np.tile(np.arange(len(work.rows())), EPOCHS),
        pipelines={"image": [decoder, RandomHorizontalFlip(), ToTensor()], "label": None},
    )
    return (batch[0] for batch in loader)


class Pictures:
    def __init__(self, paths: list[str], labels: list[int]) -> None:
        self.paths, self.labels = paths, labels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple:
        from PIL import Image

        return Image.open(self.paths[row]).convert("RGB"), self.labels[row]


def written(work: Work, name: str, mode: dict) -> Path:
    """FFCV's file, made when it is not there yet."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    folder = Path(work.folder).resolve()
    path = Path(work.scratch) / f"{folder.parent.name}-{folder.name}-{len(work.rows())}-{name}.beton"
    if not path.exists():
        partial = path.with_suffix(".partial")
        fields = {"image": RGBImageField(jpeg_quality=90, **mode), "label": IntField()}
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            DatasetWriter(str(partial), fields, num_workers=work.workers).from_indexed_dataset(Pictures(*work.files()))
        partial.rename(path)
    return path
