"""Random erasing against torchvision's own transform."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from training.data.transforms import erase, random_boxes

SIZE = (48, 64)


def boxes(probability=1.0, count=20_000, size=SIZE, seed=0):
    return random_boxes(probability, np.random.default_rng(seed), count, size)


def theirs(count=4000):
    torch.manual_seed(0)
    transform, image = v2.RandomErasing(p=1.0), torch.empty(3, *SIZE)
    drawn = (transform.make_params([image]) for _ in range(count))
    return np.array([[box["i"], box["j"], box["h"], box["w"]] for box in drawn if box["v"] is not None])


FACTS = {
    "area": lambda box: box[:, 2] * box[:, 3],
    "area^2": lambda box: (box[:, 2] * box[:, 3]).astype(float) ** 2,
    "ratio": lambda box: np.log(box[:, 2] / box[:, 3]),
    "ratio^2": lambda box: np.log(box[:, 2] / box[:, 3]) ** 2,
    "top": lambda box: box[:, 0],
    "left": lambda box: box[:, 1],
    "bottom": lambda box: box[:, 0] + box[:, 2],
    "right": lambda box: box[:, 1] + box[:, 3],
}


def test_boxes_are_distributed_like_torchvisions():
    """Means within four standard errors of 20,000 and 4,000 draws."""
    ours, others = boxes(), theirs()
    for name, fact in FACTS.items():
        error = np.sqrt(fact(ours).var() / len(ours) + fact(others).var() / len(others))
        assert abs(fact(ours).mean() - fact(others).mean()) < 4 * error, name


@pytest.mark.parametrize("size", [SIZE, (8, 8), (224, 224), (9, 300)])
def test_every_box_is_smaller_than_its_picture_and_inside(size):
    top, left, height, width = boxes(size=size, count=5000).T
    erased = height > 0
    assert erased.any() and (width[erased] > 0).all()
    assert (height < size[0]).all() and (width < size[1]).all() and (top >= 0).all() and (left >= 0).all()
    assert (top + height <= size[0]).all() and (left + width <= size[1]).all()


def test_probability_is_the_share_of_pictures():
    assert abs((boxes(0.25)[:, 2] > 0).mean() - 0.25) < 0.02
    assert not boxes(0.0).any() and (boxes()[:, 2] > 0).mean() > 0.999
    assert np.array_equal(boxes(0.3), boxes(0.3)) and not np.array_equal(boxes(0.3), boxes(0.3, seed=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_erased_pictures_are_torchvisions(dtype):
    images = torch.randn(50, 3, *SIZE).to(dtype).to(memory_format=torch.channels_last)
    chosen = boxes(0.4, 50)
    expected = torch.stack(
        [
            v2.functional.erase(image, *box, torch.zeros(1, 1, 1, dtype=dtype)) if box[2] else image
            for image, box in zip(images, chosen.tolist(), strict=True)
        ]
    )
    result = erase(images.clone(), chosen)
    assert torch.equal(result, expected) and not torch.equal(result, images)
    assert result.is_contiguous(memory_format=torch.channels_last) and result.dtype == dtype


def test_no_boxes_leave_the_very_tensor():
    images = torch.randn(4, 3, 8, 8)
    assert erase(images, None) is images and erase(images, np.zeros((4, 4), np.int32)) is images
