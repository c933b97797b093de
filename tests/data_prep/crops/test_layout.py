import io
import random

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from segmented_jpeg import SAMPLINGS, random_one, segmented

from data_prep.crops.layout import NoCut, layout_of

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8))


def saved(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def with_frame(code: int, precision: int = 8) -> bytes:
    data = bytearray(segmented(40, 64, "4:4:4", 4))
    place = data.index(b"\xff\xc0")
    data[place + 1], data[place + 4] = code, precision
    return bytes(data)


CANNOT = {
    "progressive": saved(PICTURE, progressive=True),
    "CMYK": saved(PICTURE.convert("CMYK"), restart_marker_blocks=2),
    "no restart markers": saved(PICTURE),
    "a restart interval that does not divide the row of MCUs": segmented(40, 64, "4:4:4", 3),
    "arithmetic coding": with_frame(0xC9),
    "lossless or hierarchical": with_frame(0xC3),
    "12-bit": with_frame(0xC1, 12),
    "truncated": segmented(40, 64, "4:4:4", 4)[:-2],
    "bytes behind the end": segmented(40, 64, "4:4:4", 4) + b"x",
    "not a JPEG file": saved(PICTURE)[1:],
}


@pytest.mark.parametrize("reason", CANNOT)
def test_a_file_that_cannot_be_cut_is_told_by_its_kind(reason):
    with pytest.raises(NoCut) as error:
        layout_of(CANNOT[reason])
    assert str(error.value) == reason


def test_several_scans_and_a_height_behind_the_scan_cannot_be_cut():
    data = segmented(40, 64, "4:4:4", 4)
    scan = data[data.index(b"\xff\xda") :]
    with pytest.raises(NoCut, match="several scans"):
        layout_of(data[:-2] + scan)
    with pytest.raises(NoCut, match="height told behind the scan"):
        layout_of(data[:-2] + b"\xff\xdc\x00\x04\x00\x28\xff\xd9")


@pytest.mark.parametrize("change", ["lost", "doubled", "renumbered"])
def test_restart_markers_that_do_not_count_up_cannot_be_cut(change):
    data, marker = segmented(40, 64, "4:4:4", 4), b"\xff\xd2"
    place = data.index(marker, data.index(b"\xff\xda"))
    other = {"lost": b"", "doubled": 2 * marker, "renumbered": b"\xff\xd5"}[change]
    with pytest.raises(NoCut, match="restart markers missing or out of order"):
        layout_of(data[:place] + other + data[place + 2 :])


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_grid_covers_the_picture_and_the_file(sampling):
    generator = random.Random(sampling)
    for _ in range(10):
        one = random_one(generator, sampling)
        layout = layout_of(one.data)
        assert (layout.height, layout.width) == (one.height, one.width)
        down, across = SAMPLINGS[sampling]
        assert layout.segment_height % down == layout.segment_width % across == 0
        rows, columns = -(-one.height // layout.segment_height), -(-one.width // layout.segment_width)
        assert len(layout.offsets) == rows * columns + 1 and layout.columns == columns
        assert layout.offsets[0] == layout.head and layout.offsets[-1] == len(one.data)
        assert (np.diff(layout.offsets) > 2).all()


def test_a_grey_picture_has_blocks_of_eight_pixels_whatever_its_sampling_factors_say():
    data = bytearray(segmented(40, 64, "grey", 4))
    factors = data.index(b"\xff\xc0") + 11
    assert data[factors] == 0x11
    data[factors] = 0x22
    layout = layout_of(bytes(data))
    assert (layout.segment_height, layout.segment_width, layout.columns, len(layout.offsets)) == (8, 32, 2, 11)
    assert simplejpeg.decode_jpeg(bytes(data), "GRAY").shape[:2] == (40, 64)


def test_every_cut_of_a_header_is_refused_by_a_reason():
    data = segmented(24, 32, "4:2:0", 1)
    head = layout_of(data).head
    for length in range(0, head + 20):
        with pytest.raises(NoCut):
            layout_of(data[:length])
