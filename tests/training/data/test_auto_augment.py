import functools
import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment
from torchvision.transforms import v2

from data_prep.sources.toy_images import CLASSES, draw_jpeg
from training.data.auto_augment import (
    BINS,
    GREY,
    IMAGENET,
    NAMES,
    SIGNED,
    TIMM,
    TORCHVISION,
    Policy,
    apply_torchvision,
    draw,
    numbers,
    strengths,
)

SIZE = (96, 80)
SPACES = {
    "trivialaugment": v2.TrivialAugmentWide,
    "randaugment": v2.RandAugment,
    "autoaugment": v2.AutoAugment,
}
POLICIES = ("trivialaugment", "randaugment")
BINS_OF = {"autoaugment": 10}


def row(policy, name, level=0.0, sign=1, size=SIZE):
    """(1, 2)"""
    number, level, sign = np.array([NAMES.index(name)]), np.array([float(level)]), np.array([sign])
    return np.stack([number, strengths(Policy(policy), number, level, sign, size)], -1).astype(np.float32)


@functools.cache
def picture(number=0):
    """(3, H, W) uint8. Read only."""
    from io import BytesIO

    data = draw_jpeg(number % len(CLASSES), 0, number)
    image = Image.open(BytesIO(data)).convert("RGB").resize(SIZE[::-1], Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def psnr(one, other):
    error = np.square(np.asarray(one, np.float64) - np.asarray(other, np.float64)).mean()
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("policy", POLICIES)
def test_drawn_operations_are_uniform(policy):
    rows = draw(Policy(policy, magnitude=7), np.random.default_rng(0), 28_000, (32, 32))
    assert rows.shape == (28_000, 1 if policy == "trivialaugment" else 2, 2) and rows.dtype == np.float32
    names, counts = np.unique(rows[..., 0], return_counts=True)
    assert names.tolist() == list(range(14)) and abs(counts / counts.sum() * 14 - 1).max() < 0.1
    shears = rows[rows[..., 0] == NAMES.index("ShearX")][:, 1]
    full = 0.99 if policy == "trivialaugment" else 0.3
    bins = np.bincount(np.rint(abs(shears) / full * 30).astype(int), minlength=BINS) / len(shears)
    expected = np.full(BINS, 1 / BINS) if policy == "trivialaugment" else np.eye(BINS)[7]
    assert abs(bins - expected).max() < 0.02
    assert abs(np.sign(shears).mean()) < 0.07


@pytest.mark.parametrize("policy", [*SPACES, "timm-randaugment"])
def test_same_generator_same_rows_and_only_names_of_the_policy(policy):
    one, two = (draw(Policy(policy, 5, 1.0, 3), np.random.default_rng(3), 5000, (64, 64)) for _ in range(2))
    assert (one == two).all()
    assert {NAMES[int(number)] for number in np.unique(one[..., 0])} == set(Policy(policy).names)


@pytest.mark.parametrize("policy", SPACES)
def test_strengths_are_those_of_torchvision(policy):
    bins = BINS_OF.get(policy, BINS)
    for name, (magnitudes, signed) in SPACES[policy]._AUGMENTATION_SPACE.items():
        place = NAMES.index(name)
        assert bool(SIGNED[place]) == signed, name
        for size, sign in itertools.product([(32, 32), (128, 128), (224, 288), (160, 96)], (1, -1)):
            theirs = magnitudes(bins, *size)
            theirs = torch.zeros(bins) if theirs is None else theirs.float()
            theirs = theirs.trunc() if name.startswith("Translate") else theirs * (255 if name == "Solarize" else 1)
            ours = strengths(Policy(policy), np.full(bins, place), np.arange(float(bins)), np.full(bins, sign), size)
            expected = theirs.numpy() * (sign if signed else 1)
            np.testing.assert_array_equal(ours, expected, err_msg=f"{name} at {size}, sign {sign}")


def test_between_two_bins_lies_between_their_strengths():
    levels = np.linspace(0, 30, 121)
    for name in TORCHVISION[1:12]:
        ours = strengths(Policy("randaugment"), np.full(121, NAMES.index(name)), levels, np.ones(121, int), (224, 224))
        steps = np.diff(ours) if name not in ("Posterize", "Solarize") else -np.diff(ours)
        assert (steps >= 0).all() and len(np.unique(ours)) >= (5 if name == "Posterize" else 60), name


@pytest.mark.parametrize("policy", SPACES)
def test_operations_are_those_of_torchvision(policy):
    image, bins = picture(), BINS_OF.get(policy, BINS)
    transform = SPACES[policy](interpolation=v2.InterpolationMode.BILINEAR)
    for name, (magnitudes, signed) in SPACES[policy]._AUGMENTATION_SPACE.items():
        values = magnitudes(bins, *SIZE)
        for share, sign in ((0, 1), (0.3, -1), (0.6, 1), (1, -1)):
            bin = round(share * (bins - 1))
            value = 0.0 if values is None else float(values[bin]) * (sign if signed else 1)
            way = transform.interpolation, transform._fill
            theirs = transform._apply_image_or_video_transform(image, name, value, *way)
            assert torch.equal(apply_torchvision(image, row(policy, name, bin, sign)), theirs), (name, bin, sign)


def test_operations_of_a_row_follow_each_other():
    image, first, second = picture(), row("randaugment", "Rotate", 9), row("trivialaugment", "TranslateX", 20)
    both = apply_torchvision(image, np.concatenate([first, second]))
    assert torch.equal(both, apply_torchvision(apply_torchvision(image, first), second))
    assert not torch.equal(both, apply_torchvision(image, np.concatenate([second, first])))


# ---- AutoAugment


def test_sub_policies_are_those_of_torchvision():
    theirs = v2.AutoAugment()._policies
    assert [tuple((name, p, level or 0) for name, p, level in pair) for pair in theirs] == list(IMAGENET)


def test_autoaugment_draws_each_sub_policy_with_its_probabilities():
    count = 200_000
    rows = draw(Policy("autoaugment"), np.random.default_rng(0), count, (224, 224))
    for place in range(2):
        expected = dict.fromkeys(NAMES, 0.0)
        for pair in IMAGENET:
            name, probability, _ = pair[place]
            expected[name] += probability / len(IMAGENET)
        expected["Identity"] = 1 - sum(expected.values())
        found = np.bincount(rows[:, place, 0].astype(int), minlength=len(NAMES)) / count
        np.testing.assert_allclose(found, list(expected.values()), atol=5 * math.sqrt(0.25 / count))
    sharp = rows[rows[..., 0] == NAMES.index("Sharpness")][:, 1]
    assert set(np.abs(sharp).round(6)) == {np.float32(0.7).round(6)} and abs(np.sign(sharp).mean()) < 0.1
    equalized = rows[:, :, 0] == NAMES.index("Equalize")
    posterized = rows[:, 0] == np.float32([NAMES.index("Posterize"), 6])  # ("Posterize", 0.8, 5), ("Equalize", 1.0)
    assert equalized[posterized.all(1), 1].all() and posterized.all(1).any()


# ---- timm

# the names of timm's increasing transforms, by ours
TIMM_NAMES = {
    "SmoothRotate": "Rotate", "Posterize": "PosterizeIncreasing", "Solarize": "SolarizeIncreasing",
    "Color": "ColorIncreasing", "Contrast": "ContrastIncreasing", "Brightness": "BrightnessIncreasing",
    "Sharpness": "SharpnessIncreasing", "SmoothShearX": "ShearX", "SmoothShearY": "ShearY",
    "SmoothTranslateX": "TranslateXRel", "SmoothTranslateY": "TranslateYRel",
}  # fmt: skip
REVERSED = ("SmoothTranslateX", "SmoothTranslateY")  # timm's positive shift goes to the left


def test_the_list_of_operations_is_timms():
    theirs = auto_augment.rand_augment_transform("rand-m7-mstd0.5-inc1", {})
    assert [op.name for op in theirs.ops] == [TIMM_NAMES.get(name, name) for name in TIMM]
    assert {op.prob for op in theirs.ops} == {0.5} and theirs.num_layers == 2


@pytest.mark.parametrize("name", TIMM)
def test_strengths_are_those_of_timm(name, monkeypatch):
    level_function = auto_augment.LEVEL_TO_ARG[TIMM_NAMES.get(name, name)]
    for level, sign in itertools.product((0, 2.5, 6.0, 7.3, 10), (1, -1)):
        monkeypatch.setattr(auto_augment, "_randomly_negate", lambda value, sign=sign: sign * value)
        theirs = level_function(level, {})[0] if level_function else 0
        if name in REVERSED:
            theirs *= -1 * SIZE[1 if name.endswith("X") else 0]
        elif name in ("Color", "Contrast", "Brightness", "Sharpness"):
            theirs -= 1
        ours = row("timm-randaugment", name, level, -sign if name in REVERSED else sign)[0, 1]
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-6), (level, sign)


@pytest.mark.parametrize("name", TIMM)
def test_operations_are_those_of_timm(name, monkeypatch):
    """Equal within a level of rounding, but for the pixels that an edge of the moved picture passes through: there
    Pillow repeats the last pixel, and torch mixes it with the grey outside."""
    grey = tuple(int(level) for level in GREY)
    theirs = auto_augment.AugmentOp(
        TIMM_NAMES.get(name, name), 1.0, hparams={"img_mean": grey, "interpolation": Image.Resampling.BILINEAR}
    )
    for number, level in enumerate((1.0, 3.7, 7.0, 9.5)):
        image = picture(number)
        for sign in (1, -1):
            monkeypatch.setattr(auto_augment, "_randomly_negate", lambda value, sign=sign: sign * value)
            theirs.magnitude = level
            expected = np.asarray(theirs(Image.fromarray(image.permute(1, 2, 0).numpy()))).astype(int)
            policy = row("timm-randaugment", name, level, -sign if name in REVERSED else sign)
            ours = apply_torchvision(image, policy).permute(1, 2, 0).numpy().astype(int)
            away = np.abs(ours - expected).max(2)
            edges = 2 * max(SIZE) if name.startswith("Smooth") else 0
            assert (away > 1).sum() <= edges, (level, sign, away.max(), (away > 1).sum())


def test_timm_noise_and_probability():
    policy = Policy("timm-randaugment", 7, 0.5)
    rows = draw(policy, np.random.default_rng(0), 100_000, (224, 224))
    assert abs((rows[..., 0] == 0).mean() - 0.5) < 0.01
    turns = np.abs(rows[rows[..., 0] == NAMES.index("SmoothRotate")][:, 1]) / 3
    assert abs(turns.mean() - 7) < 0.05 and abs(turns.std() - 0.5) < 0.05
    wild = draw(Policy("timm-randaugment", 9, 4), np.random.default_rng(0), 50_000, (224, 224))
    turns = np.abs(wild[wild[..., 0] == NAMES.index("SmoothRotate")][:, 1]) / 3
    assert turns.max() == pytest.approx(10) and turns.min() >= 0  # cut off at both ends, as in timm


# ---- strength of a phase


@pytest.mark.parametrize("policy", [*SPACES, "timm-randaugment"])
def test_aug_scales_the_levels_and_thins_out_what_has_none(policy):
    full, half = (draw(Policy(policy, 8), np.random.default_rng(1), 40_000, (224, 224), aug) for aug in (1.0, 0.5))
    without = np.isin(full[..., 0], numbers(("AutoContrast", "Equalize", "Invert")))
    kept = half[..., 0] == full[..., 0]
    assert kept[~without].all() and abs(kept[without].mean() - 0.5) < 0.02
    assert (half[without & ~kept] == 0).all()
    colour = full[..., 0] == NAMES.index("Color")
    np.testing.assert_allclose(half[colour, 1], full[colour, 1] / 2, rtol=1e-5, atol=1e-7)
    threshold = full[..., 0] == NAMES.index("Solarize")
    assert (half[threshold, 1] >= full[threshold, 1]).all()


# ---- DALI

# dB below which no picture may differ. Exact unless named: Equalize spreads the histogram as OpenCV does, Sharpness
# also filters the border, the others round once where torchvision rounds twice, or otherwise.
DALI_DIFFERS = (
    {"Equalize": 24, "Sharpness": 40}
    | dict.fromkeys(("Brightness", "Color", "Contrast", "AutoContrast"), 42)
    | {"ShearX": 60, "ShearY": 60, "Rotate": 70}
    | dict.fromkeys((name for name in NAMES if name.startswith("Smooth")), 45)
)


@pytest.fixture(scope="module")
def by_dali():
    """Function of images (B, 3, H, W) and rows (B, K, 2) -> (B, 3, H, W), one pipeline for all operations."""
    pytest.importorskip("nvidia.dali", reason="needs DALI: pip install nvidia-dali-cuda130")
    from nvidia.dali import fn, pipeline_def

    from training.data.renderers.dali_pipeline import apply_policies

    class Everything(Policy):
        names = NAMES

    fed = []

    @pipeline_def(batch_size=64, num_threads=1, device_id=None, enable_conditionals=True, prefetch_queue_depth=1)
    def graph():
        layouts = ["HWC", "", ""]
        inputs = fn.external_source(lambda: fed.pop(), num_outputs=3, batch=True, layout=layouts)
        return apply_policies(*inputs, Everything("randaugment", ops=2))

    pipeline = graph()

    def applied(images, rows):
        rows = np.concatenate([rows, np.zeros_like(rows)], 1)[:, :2]  # Identity follows a single operation
        pixels = [image.permute(1, 2, 0).contiguous().numpy() for image in images]
        fed.append((pixels, rows[..., 0].astype(np.int32), rows[..., 1].copy()))
        (output,) = pipeline.run()
        return [torch.from_numpy(np.array(output.at(place))).permute(2, 0, 1) for place in range(len(images))]

    return applied


@pytest.mark.parametrize("name", NAMES)
def test_dali_applies_the_same_operation(by_dali, name):
    policies = [policy for policy in (*SPACES, "timm-randaugment") if name in Policy(policy).names]
    shares = (0, 0.3, 0.6, 1)
    cases = [(policy, share * Policy(policy).top, sign) for policy in policies for share in shares for sign in (1, -1)]
    rows = np.stack([row(policy, name, level, sign) for policy, level, sign in cases])
    images = [picture(number) for number in range(len(cases))]
    ours = by_dali(images, rows)
    for case, image, one, policy in zip(cases, images, ours, rows, strict=True):
        assert psnr(one, apply_torchvision(image, policy)) >= DALI_DIFFERS.get(name, 99), case


@pytest.mark.parametrize("policy", ["randaugment", "autoaugment", "timm-randaugment"])
def test_dali_mixes_operations_in_a_batch(by_dali, policy):
    rows = draw(Policy(policy, 7, 0.5), np.random.default_rng(5), 60, SIZE)
    images = [picture(number) for number in range(60)]
    quality = [
        psnr(one, apply_torchvision(image, policy))
        for one, image, policy in zip(by_dali(images, rows), images, rows, strict=True)
    ]
    assert min(quality) > 18 and np.median(quality) > 30
