"""Random and centred windows against torchvision's own transforms."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from training.data.crops import (
    centred_corners,
    largest_windows,
    random_windows,
    resized_sizes,
    short_side,
    whole_windows,
)

SIZES = [(375, 500), (500, 375), (1, 1), (7, 900), (900, 7), (64, 64), (333, 499), (2, 3)]


def draws(count: int, seed: int = 0, tries: int = 10) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.random((count, 4)) for _ in range(tries)]


def sides(repeats: int = 1) -> tuple[np.ndarray, np.ndarray]:
    heights, widths = np.array(SIZES * repeats, np.int32).T
    return heights, widths


@pytest.mark.parametrize("min_scale", [0.08, 0.35, 1.0])
def test_every_window_lies_inside_its_picture(min_scale):
    heights, widths = sides(200)
    top, left, height, width = random_windows(heights, widths, min_scale, draws(len(heights))).T
    assert (top >= 0).all() and (left >= 0).all() and (height > 0).all() and (width > 0).all()
    assert (top + height <= heights).all() and (left + width <= widths).all()


def test_windows_are_distributed_like_torchvisions():
    """Means of area, ratio and place over 20,000 windows of one picture: within four standard errors."""
    count, (h, w) = 20_000, (375, 500)
    ours = random_windows(np.full(count, h, np.int32), np.full(count, w, np.int32), 0.08, draws(count))
    torch.manual_seed(0)
    image = torch.empty(3, h, w, dtype=torch.uint8)
    theirs = (
        np.array([v2.RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(4000)])
        if hasattr(v2.RandomResizedCrop, "get_params")
        else np.array([list(v2.RandomResizedCrop(8).make_params([image]).values()) for _ in range(4000)])
    )
    for fact in (
        lambda x: x[:, 2] * x[:, 3] / (h * w),
        lambda x: np.log(x[:, 3] / x[:, 2]),
        lambda x: x[:, 0],
        lambda x: x[:, 1],
    ):
        error = np.sqrt(fact(ours).var() / count + fact(theirs).var() / len(theirs))
        assert abs(fact(ours).mean() - fact(theirs).mean()) < 4 * error


def test_a_copy_at_half_size_gets_the_same_window_but_for_rounding():
    heights, widths = np.full(500, 400, np.int32), np.full(500, 600, np.int32)
    large = random_windows(heights, widths, 0.2, draws(500))
    small = random_windows(heights // 2, widths // 2, 0.2, draws(500))
    same = np.abs(large / 2 - small).max(1) <= 2
    assert same.mean() > 0.98  # rounding may decide which try fits first


def test_a_window_without_a_fitting_try_is_torchvisions_fallback():
    heights, widths = sides()
    assert (random_windows(heights, widths, 0.5, []) == largest_windows(heights, widths)).all()
    assert largest_windows(np.array([100]), np.array([1000])).tolist() == [[0, 433, 100, 133]]
    assert largest_windows(np.array([1000]), np.array([100])).tolist() == [[433, 0, 133, 100]]
    assert largest_windows(np.array([90]), np.array([100])).tolist() == [[0, 0, 90, 100]]


@pytest.mark.parametrize("short", [8, 145, 256])
def test_resized_sizes_are_torchvisions(short):
    sizes = [size for size in SIZES if max(size) / min(size) * short <= 20_000]
    theirs = [v2.functional.resize(torch.zeros(3, *size, dtype=torch.uint8), [short]).shape[1:] for size in sizes]
    assert resized_sizes(*np.array(sizes, np.int32).T, short).tolist() == [list(size) for size in theirs]


@pytest.mark.parametrize(
    ("resized", "size"), [((146, 195), (128, 128)), ((255, 256), (224, 224)), ((33, 40), (32, 32))]
)
def test_the_centre_is_torchvisions(resized, size):
    picture = torch.arange(resized[0] * resized[1]).reshape(1, *resized)
    top, left = centred_corners(np.array([resized]), size)[0]
    expected = v2.functional.center_crop(picture, list(size))
    assert torch.equal(picture[:, top : top + size[0], left : left + size[1]], expected)


@pytest.mark.parametrize("ratio", [0.875, 0.9, 0.94, 0.95, 0.965, 1.0])
def test_the_short_side_is_timms_for_its_crop_ratios(ratio):
    """timm's eval transform resizes to floor(size / crop_pct); a quotient that is whole but for rounding is whole
    here."""
    for size in [*range(32, 400, 8), 299, 331]:
        exact = math.floor(size * 1000 / round(1000 * ratio))
        assert short_side(1 / ratio, size) == exact and abs(math.floor(size / ratio) - exact) <= 1, size


def test_the_short_side_of_published_sizes():
    assert [short_side(1.14, size) for size in (128, 224, 288)] == [145, 255, 328]  # int(size * 1.14), imagenet18
    assert short_side(1 / 0.95, 224) == math.floor(224 / 0.95) == 235
    assert {short_side(value, 224) for value in (232 / 224, 1.035715, 1.0358)} == {232}


def test_whole_windows():
    assert whole_windows(np.array([3], np.int32), np.array([5], np.int32)).tolist() == [[0, 0, 3, 5]]
