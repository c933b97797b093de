import io
import random

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from segmented_jpeg import SAMPLINGS, Segmented, random_one, segmented

from data_prep import DataError
from data_prep.crops.cutting import cut
from data_prep.crops.layout import layout_of


def pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def is_cut_exactly(one: Segmented, decode) -> bool:
    """Whether every pixel of the window is that of the whole picture."""
    piece, (top, left, height, width) = cut(one.data, layout_of(one.data), one.window), one.window
    pixels = decode(piece.data)
    assert pixels.shape[:2] == piece.size
    y, x, *size = piece.window
    assert size == [height, width]
    return np.array_equal(
        pixels[y : y + height, x : x + width], decode(one.data)[top : top + height, left : left + width]
    )


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_cut_has_the_pixels_of_the_whole_picture(sampling):
    generator = random.Random(sampling)
    for number in range(20):
        one = random_one(generator, sampling)
        assert is_cut_exactly(one, pillow if number % 5 == 0 else simplejpeg.decode_jpeg), one._replace(data=b"")


@pytest.mark.slow
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_thousands_of_cuts_have_the_pixels_of_the_whole_picture(sampling):
    generator = random.Random(f"many {sampling}")
    for _ in range(2000):
        one = random_one(generator, sampling, 400)
        assert is_cut_exactly(one, simplejpeg.decode_jpeg), one._replace(data=b"")


def test_the_whole_picture_comes_out_byte_for_byte():
    data = segmented(70, 100, "4:2:0", 7)
    piece = cut(data, layout_of(data), (0, 0, 70, 100))
    assert piece.data == data and piece.window == (0, 0, 70, 100)


@pytest.mark.parametrize("window", [(0, 0, 71, 10), (0, 95, 10, 6), (-1, 0, 5, 5), (0, 0, 0, 5), (70, 0, 1, 1)])
def test_a_window_outside_of_the_picture_is_refused(window):
    data = segmented(70, 100, "4:2:0", 7)
    with pytest.raises(ValueError, match=r"window .* in a picture of 70 x 100"):
        cut(data, layout_of(data), window)


def test_a_file_that_is_not_the_one_of_the_layout_is_refused():
    data, other = (segmented(70, 100, "4:2:0", 7, seed) for seed in (1, 2))
    with pytest.raises(DataError, match="restart markers are not where they were"):
        cut(other, layout_of(data), (20, 20, 30, 30))
    with pytest.raises(DataError, match="restart markers are not where they were"):
        cut(data[:-400], layout_of(data), (0, 0, 70, 100))
