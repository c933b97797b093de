"""The picture: drawn for every run, the same bytes whatever the settings of the user. How it looks, people judge."""

import struct

import pytest
from dawn_script import CORRECT, scripted_run

from dawn import read_run
from dawn.reports.chart import chart_png


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


@pytest.mark.parametrize(
    ("correct", "target"), [(CORRECT, None), (((0, 0),), 94.0), (((10000, 10000),), None), ((None, (5000, 6000)), 94.0)]
)
def test_chart_is_drawn_for_short_and_odd_runs(tmp_path, correct, target):
    width, height = size_of(chart_png(read_run(scripted_run(tmp_path, correct, target=target))))
    assert 1000 <= width <= 2000 and 500 <= height <= 1200


def test_chart_does_not_depend_on_user_settings(tmp_path):
    import matplotlib

    run = read_run(scripted_run(tmp_path))
    before = chart_png(run)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "lines.linewidth": 9}):
        assert chart_png(run) == before
