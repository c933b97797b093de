import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from data_prep.toy_images import CLASSES, draw_jpeg
from training.policy import BINS, NAMES, POLICIES, SIGNED, apply_torchvision, draw, strengths

SIZE = (96, 80)
SPACES = {"trivialaugment": v2.TrivialAugmentWide, "randaugment": v2.RandAugment}


def row(policy, name, bin=0, sign=1):
    return np.array([[NAMES.index(name) + len(NAMES) * POLICIES.index(policy), bin, sign]], np.int32)


def picture(number=0):
    """(3, H, W) uint8"""
    from io import BytesIO

    from PIL import Image

    data = draw_jpeg(number % len(CLASSES), 0, number)
    image = Image.open(BytesIO(data)).convert("RGB").resize(SIZE[::-1], Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def psnr(one, other):
    error = np.square(np.asarray(one, np.float64) - np.asarray(other, np.float64)).mean()
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("policy", POLICIES)
def test_drawn_rows_are_uniform(policy):
    rows = draw(policy, np.random.default_rng(0), 28_000, ops=2, magnitude=7)
    assert rows.shape == (28_000, 1 if policy == "trivialaugment" else 2, 3) and rows.dtype == np.int32
    names, counts = np.unique(rows[..., 0] % len(NAMES), return_counts=True)
    assert len(names) == len(NAMES) and abs(counts / counts.sum() * len(NAMES) - 1).max() < 0.1
    bins = np.bincount(rows[..., 1].ravel(), minlength=BINS) / rows[..., 1].size
    expected = np.full(BINS, 1 / BINS) if policy == "trivialaugment" else np.eye(BINS)[7]
    assert abs(bins - expected).max() < 0.005
    assert set(np.unique(rows[..., 2])) == {-1, 1} and abs(rows[..., 2].mean()) < 0.02


def test_same_generator_same_rows():
    one, two = (draw("trivialaugment", np.random.default_rng(3), 50) for _ in range(2))
    assert (one == two).all()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [(32, 32), (128, 128), (224, 288), (160, 96)])
def test_strengths_are_those_of_torchvision(policy, size):
    for name, (magnitudes, signed) in SPACES[policy]._AUGMENTATION_SPACE.items():
        theirs, place = magnitudes(BINS, *size), NAMES.index(name)
        assert bool(SIGNED[place]) == signed
        theirs = torch.zeros(BINS) if theirs is None else theirs.float()
        theirs = theirs.trunc() if name.startswith("Translate") else theirs * (255 if name == "Solarize" else 1)
        for sign in (1, -1):
            rows = np.concatenate([row(policy, name, bin, sign) for bin in range(BINS)])
            np.testing.assert_array_equal(strengths(rows, size), theirs.numpy() * (sign if signed else 1))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", NAMES)
def test_operations_are_those_of_torchvision(policy, name):
    image = picture()
    magnitudes, signed = SPACES[policy]._AUGMENTATION_SPACE[name]
    values = magnitudes(BINS, *SIZE)
    for bin, sign in ((0, 1), (9, -1), (17, 1), (30, -1)):
        value = 0.0 if values is None else float(values[bin]) * (sign if signed else 1)
        transform = SPACES[policy]()
        theirs = transform._apply_image_or_video_transform(image, name, value, transform.interpolation, transform._fill)
        assert torch.equal(apply_torchvision(image, row(policy, name, bin, sign)), theirs), (bin, sign)


def test_operations_of_a_row_follow_each_other():
    image, first, second = picture(), row("randaugment", "Rotate", 9), row("trivialaugment", "TranslateX", 20)
    both = apply_torchvision(image, np.concatenate([first, second]))
    assert torch.equal(both, apply_torchvision(apply_torchvision(image, first), second))
    assert not torch.equal(both, apply_torchvision(image, np.concatenate([second, first])))


# dB below which no picture may differ. Exact unless named: Equalize spreads the histogram as OpenCV does, Sharpness
# also filters the border, the others round once where torchvision rounds twice, and Rotate may take another of two
# neighbours that are equally near.
DALI_DIFFERS = {"Equalize": 24, "Sharpness": 40, "Rotate": 40} | dict.fromkeys(
    ("Brightness", "Color", "Contrast", "AutoContrast"), 42
)


@pytest.fixture(scope="module")
def by_dali():
    """Function of images (B, 3, H, W) and rows (B, K, 3) -> (B, 3, H, W), one pipeline for all tests."""
    pytest.importorskip("nvidia.dali", reason="needs DALI: pip install nvidia-dali-cuda130")
    from nvidia.dali import fn, pipeline_def

    from training.policy_dali import apply_policies

    fed = []

    @pipeline_def(batch_size=64, num_threads=1, device_id=None, enable_conditionals=True, prefetch_queue_depth=1)
    def graph():
        layouts = ["HWC", "", ""]
        inputs = fn.external_source(lambda: fed.pop(), num_outputs=3, batch=True, layout=layouts)
        return apply_policies(*inputs, 2)

    pipeline = graph()

    def applied(images, rows):
        rows = np.concatenate([rows, np.zeros_like(rows)], 1)[:, :2]  # Identity follows a single operation
        pixels = [image.permute(1, 2, 0).contiguous().numpy() for image in images]
        fed.append((pixels, rows[..., 0] % len(NAMES), strengths(rows, tuple(images[0].shape[1:]))))
        (output,) = pipeline.run()
        return [torch.from_numpy(np.array(output.at(place))).permute(2, 0, 1) for place in range(len(images))]

    return applied


@pytest.mark.parametrize("name", NAMES)
def test_dali_applies_the_same_operation(by_dali, name):
    cases = [(policy, bin, sign) for policy in POLICIES for bin in (0, 9, 17, 30) for sign in (1, -1)]
    rows = np.stack([row(policy, name, bin, sign) for policy, bin, sign in cases])
    images = [picture(number) for number in range(len(cases))]
    ours = by_dali(images, rows)
    for case, image, one, policy in zip(cases, images, ours, rows, strict=True):
        assert psnr(one, apply_torchvision(image, policy)) >= DALI_DIFFERS.get(name, 99), case


def test_dali_mixes_operations_in_a_batch(by_dali):
    rows = draw("randaugment", np.random.default_rng(5), 60)
    images = [picture(number) for number in range(60)]
    quality = [psnr(one, apply_torchvision(image, policy))
               for one, image, policy in zip(by_dali(images, rows), images, rows, strict=True)]
    assert min(quality) > 18 and np.median(quality) > 30
