"""The panel of a diagnosed run, from a small diagnosis.json as training/diagnosis writes it."""

import base64
import json

import pytest
from chromium import browser, chromium_path
from dawn_script import Script, scripted_run

from dawn import RunError
from dawn.__main__ import main
from dawn.page import diagnosis
from dawn.page.page import page_of

DOT = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")
INPUTS = {"of": "inputs", "min": 0.0, "mean": 0.5, "max": 2.0, "not_finite": 0.0, "type": "float32"}
OUTPUTS = {"of": "outputs", "min": None, "mean": None, "max": None, "not_finite": 1.0, "type": "float32"}
RECORD = {
    "format": 1,
    "run": "mine",
    "rank": 0,
    "world_size": 1,
    "kind": "operation",
    "epoch": 2,
    "step": 4,
    "found": "the first value that is not finite came from `log` in `<b>` (Score), forward pass",
    "causes": [{"name": "log of zero", "evidence": "the smallest input of log is 0", "remedy": "Clamp the <input>."}],
    "facts": [["place", "epoch 2, step 4 of 6"], ["learning rate", "0.1"]],
    "operation": {"name": "log", "values": [INPUTS | {"of": "argument 1"}]},
    "module": {"name": "<b>", "kind": "Score", "values": [INPUTS, OUTPUTS]},
    "steps_before": [{"step": -1, "loss": 1.75, "largest logit": 3.0, "largest weight": 2.0, "largest gradient": 0.25}],
    "files_known": True,
    "batch": [
        {"place": 1, "file": "train/a.jpg", "note": ""},
        {"place": 2, "file": "train/<i>.jpg", "note": "has one value in all pixels"},
    ],
    "picture": "diagnosis.png",
}


def diagnosed(folder, text: str | None = None, picture: bytes = DOT, **changed):
    """A run that diverged in its first epoch, with a diagnosis of it."""
    Script(folder).stop("diverged")
    (folder / "diagnosis.json").write_text(json.dumps(RECORD | changed) if text is None else text)
    (folder / "diagnosis.png").write_bytes(picture)
    return folder


def panel(*folders) -> str:
    page = page_of(folders).decode()
    return page[page.index('<section id="diagnosis"') :].partition("</section>")[0]


def test_a_run_without_a_diagnosis_has_no_part_of_it(tmp_path):
    assert b'<section id="diagnosis"' not in page_of([scripted_run(tmp_path)])


def test_cause_statistics_steps_and_files_are_told(tmp_path):
    shown = panel(diagnosed(tmp_path))
    assert "Epoch 2, step 4: the first value that is not finite came from log in &lt;b&gt; (Score)" in shown
    assert "<strong>log of zero</strong>: the smallest input of log is 0. Clamp the &lt;input&gt;." in shown
    assert "outputs<td><td><td><td>100 %" in shown and "argument 1<td>0<td>0.5<td>2<td>0 %" in shown
    assert "-1<td>1.75<td>3<td>2<td>0.25" in shown and "<dd>0.1</dd>" in shown
    assert shown.index("&lt;i&gt;.jpg") < shown.index("train/a.jpg") and "<i>" not in shown
    assert base64.b64encode(DOT).decode() in shown


def test_a_run_without_an_evaluation_has_its_page_alone(tmp_path, capsys):
    Script(tmp_path / "none").stop("diverged")
    with pytest.raises(RunError, match="no evaluation"):
        page_of([tmp_path / "none"])
    folder = diagnosed(tmp_path / "run")
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder / "report.html")]
    assert not (folder / "result.tsv").exists()


def test_several_runs_have_a_part_each(tmp_path):
    shown = panel(diagnosed(tmp_path / "a"), scripted_run(tmp_path / "b"), diagnosed(tmp_path / "c"))
    assert shown.count("<h3>Causes that fit") == 2


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"text": ""}, "diagnosis.json is damaged"),
        ({"text": "[" * 100_000}, "diagnosis.json is damaged"),
        ({"text": "[1]"}, "damaged or of another version"),
        ({"format": 2}, "damaged or of another version"),
        ({"causes": [{}]}, "a part of it is missing"),
        ({"module": "x"}, "a part of it is missing"),
        ({"steps_before": [{"step": "x"}]}, "a part of it is missing"),
        ({"batch": 3}, "a part of it is missing"),
        ({"module": {"name": "x", "kind": "y", "values": [INPUTS | {"not_finite": 7}]}}, "a part of it is missing"),
        ({"picture": DOT[:-9]}, "diagnosis.png is damaged"),
        ({"picture": b"text"}, "diagnosis.png is damaged"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, changed, words):
    shown = panel(diagnosed(tmp_path, **changed))
    (line,) = [part for part in shown.split("<p class=note>") if words in part]
    assert line.index("</p>") < 250
    assert ("<h3>Causes" in shown) == (changed.keys() == {"picture"})


def test_what_would_make_the_page_large_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(diagnosis, "PICTURE_BYTES", 10)
    shown = panel(diagnosed(tmp_path))
    assert "<img" not in shown and "diagnosis.png is left out" in shown


@pytest.mark.slow
@pytest.mark.skipif(chromium_path() is None, reason="no chromium here: apt install chromium")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_shows_it_without_scrolling_to_the_side(tmp_path, width, scheme):
    path = tmp_path / "report.html"
    path.write_bytes(page_of([diagnosed(tmp_path / "run")]))
    (tmp_path / "profile").mkdir()
    with browser(tmp_path / "profile") as tab:
        tab.look(width, scheme=scheme)
        tab.open(path)
        assert tab.value("document.documentElement.scrollWidth") <= width and tab.errors == []
        assert tab.value("document.querySelector('#diagnosis img').naturalWidth") == 1
        assert tab.value("document.querySelectorAll('#diagnosis table').length") == 4
