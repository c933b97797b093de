"""The other loaders of benchmarks/loaders.py, in the fastest form that their documentation shows.

Every function returns an endless iterator of uint8 tensors (batch, size, size, 3). One epoch follows the other without
a gap, so that no loader is charged for starting and stopping at the end of 1,000 images.
"""

from collections.abc import Iterator

import numpy as np
import torch
from loader_work import RATIO, Work
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, default_collate

ENDLESS = 10**9  # samples


def imagefolder_2018(work: Work) -> Iterator[Tensor]:
    """torchvision's ImageFolder, PIL transforms and DataLoader, as the imagenet18 code; bytes, not floats, leave the
    workers (its fast_collate; here without turning the batch to NCHW)."""
    from PIL import Image
    from torchvision import transforms
    from torchvision.datasets.folder import pil_loader

    crop = transforms.RandomResizedCrop(work.size, (work.min_scale, 1), RATIO, transforms.InterpolationMode.BILINEAR)
    change = transforms.Compose([crop, transforms.RandomHorizontalFlip()])

    def picture(path: str) -> Image.Image:
        return change(pil_loader(path))

    def fast_collate(samples: list[tuple[Image.Image, int]]) -> tuple[Tensor, Tensor]:
        images = np.stack([np.asarray(image) for image, _ in samples])
        return torch.from_numpy(images), torch.tensor([label for _, label in samples])

    return batches(work, picture, fast_collate)


def torchvision_v2(work: Work) -> Iterator[Tensor]:
    """torchvision.io and transforms.v2 on uint8 tensors, in the memory order (channels last) that the decoder gives."""
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms import v2

    crop = v2.RandomResizedCrop(work.size, (work.min_scale, 1), RATIO, antialias=True)
    change = v2.Compose([crop, v2.RandomHorizontalFlip()])

    def picture(path: str) -> Tensor:
        return change(decode_jpeg(read_file(path), ImageReadMode.RGB)).permute(1, 2, 0)

    return batches(work, picture)


class Pictures(Dataset):
    """`picture(path)` of every file."""

    def __init__(self, paths: list[str], labels: list[int], picture) -> None:
        self.paths, self.labels, self.picture = paths, labels, picture

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple:
        return self.picture(self.paths[row]), self.labels[row]


def batches(work: Work, picture, collate=default_collate) -> Iterator[Tensor]:
    """Of a DataLoader with torch's own prefetching; its own collating stacks in shared memory."""
    pictures = Pictures(*work.files(), picture)
    sampler = RandomSampler(pictures, num_samples=ENDLESS)
    loader = DataLoader(
        pictures, work.batch, sampler=sampler, num_workers=work.workers, collate_fn=collate, drop_last=True
    )
    return (images for images, _ in loader)


def dali_documented(work: Work) -> Iterator[Tensor]:
    """DALI's ResNet-50 example on the CPU: readers.file, image_random_crop (decodes only the crop), antialiased
    resize, mirror; chroma is interpolated its fast way (jpeg_fancy_upsampling is off unless asked for)."""
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

    paths, labels = work.files()

    @pipeline_def(batch_size=work.batch, num_threads=work.workers, device_id=None, seed=0)
    def pictures():
        files, label = fn.readers.file(files=paths, labels=labels, random_shuffle=True, name="reader")
        images = fn.decoders.image_random_crop(
            files, random_aspect_ratio=list(RATIO), random_area=[work.min_scale, 1.0], num_attempts=10
        )
        images = fn.resize(images, size=[work.size, work.size], interp_type=types.INTERP_LINEAR, antialias=True)
        return fn.flip(images, horizontal=fn.random.coin_flip()), label

    loader = DALIGenericIterator(pictures(), ["images", "labels"], size=-1, auto_reset=True)
    return (outputs[0]["images"] for outputs in loader)
