"""The panel of what `python -m training evaluate` left in a run folder."""

import pytest
from dawn_script import scripted_run

from dawn import RunError
from dawn.page.page import page_of
from dawn.runlog.evaluations import EVALUATIONS, Evaluation, encoded, merged, read_evaluations

FACTS = {
    "utc": "2026-11-26T12:00:00Z",
    "dataset": "toy<script>",
    "dataset_sha256": "ab" * 32,
    "shape": "square",
    "weights": "ema",
    "epoch": 6,
    "step": 0,
    "resize": 1.14,
    "loader": "threads",
    "device": "cpu",
    "world_size": 1,
    "k5": 5,
    "images": 300,
    "flops_per_image": 4.2e9,
    "seconds": 1.5,
}


def entry(size: int, correct1: int, own: bool = False, tta: str = "none") -> Evaluation:
    return Evaluation(**FACTS, size=size, tta=tta, correct1=correct1, correct5=299, own=own)


def test_a_run_that_nobody_evaluated_has_no_panel(tmp_path):
    scripted_run(tmp_path)
    assert b"Evaluated after the run" not in page_of([tmp_path])


def test_the_panel_shows_every_way_and_marks_the_runs_own(tmp_path):
    scripted_run(tmp_path)
    items = [entry(32, 270, own=True), entry(40, 280, tta="flip")]
    (tmp_path / EVALUATIONS).write_bytes(encoded(items))
    assert read_evaluations(tmp_path) == items
    page = page_of([tmp_path]).decode()
    panel = page[page.index('<section id="evaluations"') :]
    panel = panel[: panel.index("</section>")]
    for words in ("32 *", "90.000", "270, 299", "40<", "93.333", "280, 299", "added", "4.2<", "average, 6 epochs"):
        assert words in panel, words
    assert "toy&lt;script&gt; abababab, threads loader, short side 1.14 sizes, cpu" in panel


def test_a_newer_measurement_stands_in_the_place_of_the_older():
    assert merged([entry(32, 1), entry(40, 2)], [entry(32, 3), entry(48, 4)]) == [
        entry(32, 3),
        entry(40, 2),
        entry(48, 4),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("{}", "must be a list"),
        ("[1]", "entry 1: is 1"),
        ("[{}]", "entry 1: 'images' is missing"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, content, words):
    scripted_run(tmp_path)
    (tmp_path / EVALUATIONS).write_text(content)
    with pytest.raises(RunError, match=words) as caught:
        page_of([tmp_path])
    assert "\n" not in str(caught.value)
