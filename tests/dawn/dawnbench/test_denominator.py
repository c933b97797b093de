"""The denominator audit on accuracies that entries of DAWNBench state, and on made-up ones."""

import random

import pytest

from dawn.dawnbench.denominator import audit, correct_images, explanation, margin_images, standard_error_images

# top-1 and top-5 of some rows of published TSVs (dawn-bench-entries, ImageNet/train)
FASTAI_8 = ["4.248 13.744 75.812 75.850 75.926 75.944 49.534", "12.422 31.890 93.012 93.116 93.154 93.186 75.002"]
TENSORPACK = ["19.152 36.468 43.618 77.234 77.62 74.3", "41.018 63.004 69.95 93.6 93.814 92.082"]
HUAWEI = [
    "0.103652712 1.691612367 69.71267529 73.7012456 75.3265038",
    "0.46021791 5.754799253 89.87935956 92.07676234 93.10087568",
]
GEHC = [
    "17.127 27.057 29.902 43.419 50.106 55.956 58.355 65.553 64.918 68.732 75.641 75.675 75.845 75.669 75.823 75.915"
]
ZTE = ["6.891 13.403 17.529 49.512 73.828 75.570 75.686", "18.201 29.639 26.489 91.699 93.016 93.038 36.572"]
DAWN_K80 = ["15.828299999999999 29.8091 76.421 76.3154 76.3811", "36.581199999999995 55.5604 93.0046 92.9767 92.9349"]
CIFAR10_NOISY = ["37.279999885559086 55.209999938011165 93.76000012397766 94.04000012397766 94.0000001335144"]


def columns(texts: list[str]) -> list[list[str]]:
    return [text.split() for text in texts]


@pytest.mark.parametrize("texts", [FASTAI_8, TENSORPACK])
def test_all_50000_images_were_counted(texts):
    found = audit(columns(texts), 50_000)
    assert found.fits and found.tells and "the digits fit 50000 images" in found.text()


@pytest.mark.parametrize(
    ("texts", "images", "why"),
    [
        (HUAWEI, 48_238, "the blacklisted images left out"),
        (GEHC, 49_920, "the last batch of 128 dropped"),
        (ZTE, 49_152, "the last batch of 1024 dropped"),
        (DAWN_K80, 50_176, "padded to batches of 256"),
    ],
)
def test_other_numbers_of_images_are_found_and_explained(texts, images, why):
    found = audit(columns(texts), 50_000)
    assert not found.fits and found.tells and images in found.others
    assert f"they fit {images} ({why})" in found.text()


def test_noise_of_single_precision_is_no_contradiction():
    found = audit(columns(CIFAR10_NOISY), 10_000)
    assert found.fits and found.others == () and correct_images("94.0000001335144", 10_000) == 9400


def test_two_decimals_of_50000_images_tell_nothing():
    found = audit(columns(["75.58 69.71", "93.05 89.41"]), 50_000)
    assert found.fits and not found.tells and "too few decimals" in found.text()


@pytest.mark.parametrize("images", [50_000, 48_238, 50_176, 10_000])
@pytest.mark.parametrize("decimals", [3, 4, 15])
def test_the_true_number_always_fits(images, decimals):
    """Counts out of any number, printed to so many decimals, trailing zeros lost or not."""
    rng = random.Random(images + decimals)
    texts = [repr(round(100 * rng.randrange(images + 1) / images, decimals)) for _ in range(40)]
    found = audit([texts], 50_000 if images > 40_000 else images)
    assert images in {*found.others, *[found.claimed] * found.fits}
    if images != found.claimed:
        assert not found.fits


def test_nothing_fits_made_up_digits():
    found = audit([["93.123456", "75.654321", "12.3456789", "33.141592", "27.182818"]], 50_000)
    assert not found.fits and found.others == () and "nor any near it" in found.text()


@pytest.mark.parametrize(
    ("correct", "images", "target", "margin"),
    [(46_506, 50_000, 93.0, 6), (46_500, 50_000, 93.0, 0), (46_499, 50_000, 93.0, -1), (44_910, 48_238, 93.0, 48),
     (9400, 10_000, 94.0, 0), (1, 3, 33.3, 0), (0, 3, 33.3, -1), (931, 1000, 93.1, 0)],
)  # fmt: skip
def test_margin_in_images(correct, images, target, margin):
    assert margin_images(correct, images, target) == margin


def test_standard_error_of_93_percent_of_50000_is_57_images():
    assert round(standard_error_images(46_506, 50_000)) == 57


def test_explanations_are_only_given_where_there_is_one():
    assert explanation(50_000, 50_000) and not explanation(49_999, 50_000) and not explanation(50_333, 50_000)
