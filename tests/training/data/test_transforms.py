"""Augmentation against plain references: numpy per image, F.interpolate on floats, Pillow."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from training.data.transforms import crop_and_flip, cut_out, normalise, reflect, resize

RANDOM = np.random.default_rng(0)


def noise(count: int, height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(RANDOM.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def smooth(count: int, size: int) -> torch.Tensor:
    """Blurred noise: closer to photographs than white noise is."""
    small = noise(count, size // 4, size // 4).permute(0, 3, 1, 2).float()
    return F.interpolate(small, (size, size), mode="bicubic").clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()


def reference_crop(image: np.ndarray, shift, flip: bool, pad: int) -> np.ndarray:
    """One image: reflect-pad, slice at the shift, then mirror."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    cut = padded[pad + shift[0] : pad + shift[0] + height, pad + shift[1] : pad + shift[1] + width]
    return cut[:, ::-1] if flip else cut


def psnr(one: torch.Tensor, two: torch.Tensor) -> float:
    return float(10 * torch.log10(255**2 / ((one.float() - two.float()) ** 2).mean()))


@pytest.mark.parametrize(("height", "width", "pad"), [(32, 32, 2), (32, 32, 31), (9, 13, 4), (5, 3, 2)])
def test_crop_and_flip_equals_pad_slice_and_mirror(height, width, pad):
    images = noise(40, height, width)
    index = torch.from_numpy(RANDOM.permutation(40)[:30])
    shift = torch.from_numpy(RANDOM.integers(-pad, pad + 1, (30, 2)))
    shift[:4] = torch.tensor([[pad, pad], [-pad, -pad], [0, 0], [pad, -pad]])
    flip = torch.from_numpy(RANDOM.random(30) < 0.5)
    result = crop_and_flip(images, index, shift, flip)
    assert result.dtype == torch.uint8 and result.shape == (30, height, width, 3)
    for place in range(30):
        image = images[index[place]].numpy()
        expected = reference_crop(image, shift[place].tolist(), bool(flip[place]), pad)
        assert np.array_equal(result[place].numpy(), expected), place


def test_crop_and_flip_without_shift_and_flip_is_the_image():
    images = noise(5, 8, 8)
    still = torch.zeros(5, 2, dtype=torch.int64), torch.zeros(5, dtype=torch.bool)
    assert torch.equal(crop_and_flip(images, torch.arange(5), *still), images)


def test_reflect_equals_numpys_padding():
    assert reflect(torch.arange(-4, 9), 5).tolist() == np.pad(np.arange(5), 4, mode="reflect").tolist()


@pytest.mark.parametrize("side", [1, 4, 7, 100])
def test_cut_out_paints_a_clipped_square(side):
    images, fill = noise(20, 12, 16), torch.tensor([1, 2, 3], dtype=torch.uint8)
    centre = torch.from_numpy(RANDOM.random((20, 2)))
    centre[:2] = torch.tensor([[0.0, 0.0], [0.9999, 0.9999]])
    result = cut_out(images, centre, side, fill)
    for image, place, cut in zip(images.numpy(), centre.tolist(), result.numpy(), strict=True):
        top, left = int(place[0] * 12) - side // 2, int(place[1] * 16) - side // 2
        expected = image.copy()
        expected[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = [1, 2, 3]
        assert np.array_equal(cut, expected)


@pytest.mark.parametrize("size", [9, 16, 20, 24, 28, 31, 48])
def test_resize_is_the_antialiased_filter_within_one_level(size):
    images = noise(8, 32, 32)
    exact = F.interpolate(images.permute(0, 3, 1, 2).float(), (size, size), mode="bilinear", antialias=True)
    exact = exact.round().clamp(0, 255).permute(0, 2, 3, 1)
    result = resize(images, (size, size))
    assert result.dtype == torch.uint8 and result.shape == (8, size, size, 3)
    assert (result.float() - exact).abs().max() <= 1


@pytest.mark.parametrize("size", [12, 16, 24, 28])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_resize_agrees_with_pillow(size, mode):
    images = smooth(8, 32)
    pillow = [Image.fromarray(i.numpy()).resize((size, size), Image.Resampling[mode.upper()]) for i in images]
    pillow = torch.from_numpy(np.stack([np.asarray(p) for p in pillow]))
    assert psnr(resize(images, (size, size), mode), pillow) > 50  # dB


def test_resize_is_not_a_plain_bilinear_one():
    images = noise(8, 32, 32)
    aliased = F.interpolate(images.permute(0, 3, 1, 2).float(), (16, 16), mode="bilinear").permute(0, 2, 3, 1)
    assert psnr(resize(images, (16, 16)), aliased) < 40


def test_resize_to_the_stored_size_is_the_very_tensor():
    images = noise(3, 32, 32)
    assert resize(images, (32, 32)) is images


def test_resize_of_a_wide_image_is_square():
    assert resize(noise(2, 20, 30), (16, 16)).shape == (2, 16, 16, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalise_gives_mean_0_std_1_channels_last(dtype):
    images = smooth(64, 16)
    pixels = images.float().reshape(-1, 3)
    result = normalise(images, pixels.mean(0), pixels.std(0), dtype)
    assert result.shape == (64, 3, 16, 16) and result.dtype == dtype
    assert result.is_contiguous(memory_format=torch.channels_last)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-2
    assert result.float().mean((0, 2, 3)).abs().max() < tolerance
    assert (result.float().std((0, 2, 3)) - 1).abs().max() < tolerance
    assert images.dtype == torch.uint8  # the stored images are not touched
