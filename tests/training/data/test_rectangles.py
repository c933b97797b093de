"""Shapes of rectangular validation: the bucketed rule and the rule of the 2018 code."""

import numpy as np
import pytest

from training.data.crops import MAX_RATIO, batches_by_shape, bucketed_shapes, shape_2018, shapes_2018


def pictures(count: int = 3000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    heights, widths = generator.integers(20, 900, (2, count)).astype(np.int32)
    return heights, widths


@pytest.mark.parametrize("size", [24, 96, 128, 288])
def test_bucketed_shapes_are_few_multiples_of_8_that_the_picture_fills(size):
    heights, widths = pictures()
    shapes = bucketed_shapes(heights, widths, size)
    assert (shapes.min(1) == size).all() and len(np.unique(shapes, axis=0)) <= 2 * (size // 32) + 1
    assert (shapes.max(1)[shapes.max(1) > size] % 8 == 0).all()
    ratio = np.minimum(np.maximum(heights, widths) / np.minimum(heights, widths), MAX_RATIO)
    assert (shapes.max(1) <= size * ratio).all() and (shapes.max(1) > size * ratio - 40).all()
    upright = (heights > widths) & (shapes[:, 0] != shapes[:, 1])
    assert (shapes[upright, 0] > shapes[upright, 1]).all()


def test_a_bucketed_shape_depends_on_the_picture_alone():
    heights, widths = pictures()
    together = bucketed_shapes(heights, widths, 128)
    alone = np.concatenate([bucketed_shapes(heights[i : i + 1], widths[i : i + 1], 128) for i in range(200)])
    assert (together[:200] == alone).all()


def test_2018_shapes_are_those_of_the_original_arithmetic():
    """Sort by ratio rounded to 5 digits, cut into batches, mean ratio, long side rounded down to a multiple of 8."""
    heights, widths = pictures(103)
    ratios = sorted((round(float(w) / float(h), 5), i) for i, (h, w) in enumerate(zip(heights, widths, strict=True)))
    order, shapes = shapes_2018(heights, widths, 128, 10)
    assert order.tolist() == [i for _, i in ratios]
    for first in range(0, 103, 10):
        chunk = ratios[first : first + 10]
        mean = round(sum(r for r, _ in chunk) / len(chunk), 5)
        expected = (int(128 / mean) // 8 * 8, 128) if mean < 1 else (128, int(128 * mean) // 8 * 8)
        assert {tuple(shapes[i]) for _, i in chunk} == {expected}


@pytest.mark.parametrize(
    ("ratio", "shape"), [(1.0, (288, 288)), (1.5, (288, 432)), (0.75, (384, 288)), (0.7501, (376, 288))]
)
def test_2018_shape_of_a_ratio(ratio, shape):
    assert shape_2018(ratio, 288) == shape


@pytest.mark.parametrize("batch_size", [1, 4, 7, 5000])
def test_batches_have_one_shape_and_hold_every_picture_once(batch_size):
    heights, widths = pictures(500)
    shapes = bucketed_shapes(heights, widths, 64)
    batches = batches_by_shape(shapes, batch_size)
    assert sorted(np.concatenate(batches)) == list(range(500))
    assert all(len(rows) <= batch_size and len(np.unique(shapes[rows], axis=0)) == 1 for rows in batches)
