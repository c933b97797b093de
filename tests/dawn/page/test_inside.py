"""The panel of what --inspect left in a run folder, from small files as training/inspect writes them."""

import base64

import pytest
from chromium import browser, chromium_path
from dawn_script import scripted_run

from dawn.page import inside
from dawn.page.page import page_of

CONFUSION = "label,cat,<i>dog,fox\ncat,8,2,0\n<i>dog,1,9,0\nfox,0,0,0\n"
CLASSES = (
    "label,class,precision,recall,f1,average_precision,roc_auc,images,predicted,not_finite\n"
    "0,cat,0.8889,0.8000,0.8421,0.9000,0.9400,10,9,0\n1,<i>dog,0.8182,0.9000,0.8571,0.9500,0.9600,10,11,0\n2,fox,,,,,,0,0,0\n"
)
CALIBRATION = "from,to,images,right,mean_probability\n0.0,0.5,10,8,0.4\n0.5,1.0,10,9,0.9\n"
WORST = (
    "file,label,prediction,probability,loss,rank_epoch_1\nval/a.jpg,cat,<i>dog,0.9,3.5,1\nval/b.jpg,cat,cat,0.4,1,2\n"
)
SUSPECTS = "file,label,prediction,score,validations_wrong,validations\nval/a.jpg,cat,<i>dog,0.91,3,3\n"
FILES = {"confusion.csv": CONFUSION, "classes.csv": CLASSES, "calibration.csv": CALIBRATION, "worst.csv": WORST}
DOT = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")


def inspected(folder, pictures=(), **changed):
    """A run whose folder has the tables, changed by name ('confusion': ...; None: the file is missing)."""
    scripted_run(folder)
    (folder / "inspect" / "sheets").mkdir(parents=True)
    files = FILES | {f"{name}.csv": content for name, content in changed.items()}
    for name, content in files.items():
        if content is not None:
            (folder / "inspect" / name).write_text(content)
    for name in pictures:
        (folder / "inspect" / name).write_bytes(DOT)
    return folder


def panel(*folders) -> str:
    page = page_of(folders).decode()
    return page[page.index('<section id="inside"') :].partition("</section>")[0]


def test_a_run_without_inspection_has_no_trace_of_it(tmp_path):
    page = page_of([scripted_run(tmp_path)])
    for trace in (b'id="inside"', b".heat td", b".gallery summary"):
        assert trace not in page


def test_cells_of_the_map_have_the_count_and_the_share_of_the_label(tmp_path):
    shown = panel(inspected(tmp_path))
    assert '<td class=strong style="--share:80%">8<td style="--share:20%">2<td>' in shown
    assert "<th scope=row><span>fox</span><td><td><td>" in shown  # a class without images
    assert "20 validation images, 3 of them wrong" in shown and "<i>" not in shown and "&lt;i&gt;dog" in shown


def test_a_confused_pair_has_its_images(tmp_path):
    folder = inspected(tmp_path)
    (folder / "inspect" / "pairs").mkdir()
    (folder / "inspect" / "pairs" / "0-1.png").write_bytes(DOT)
    strip = base64.b64encode(DOT).decode()
    assert f'<td style="--share:20%" data-images="{strip}">2' in panel(folder)
    (folder / "inspect" / "pairs" / "0-1.png").write_bytes(DOT[:40])
    assert "0-1.png is damaged" in panel(folder)


def test_classes_calibration_and_worst_images_are_told(tmp_path):
    shown = panel(inspected(tmp_path, suspects=SUSPECTS))
    assert "80.00<td>84.21" in shown and "fox<td><td><td><td><td><td>0<td>0" in shown.replace(" class=l", "")
    assert "Expected calibration error 20.00 %" in shown  # (|8 - 4| + |9 - 9|) / 20
    assert shown.count("<circle") == 2 and "10 images, 8 right, mean probability 0.400" in shown
    assert "3 of 3" in shown and "val/a.jpg" in shown and "1 of 1 are shown" in shown


def test_images_whose_logits_are_not_finite_are_told(tmp_path):
    shown = panel(inspected(tmp_path, classes=CLASSES.replace("10,9,0", "12,9,2")))
    assert "Images whose logits are not finite: 2." in shown


def test_of_many_classes_the_most_confused_pairs_are_shown(tmp_path):
    names = [f"c{i}" for i in range(40)]
    rows = [[50 - 5 * (i == 7)] * (i == j) or [5 * (i == 7 and j == 9)] for i in range(40) for j in range(40)]
    body = "".join(f"{names[i]},{','.join(str(rows[40 * i + j][0]) for j in range(40))}\n" for i in range(40))
    shown = panel(inspected(tmp_path, confusion=f"label,{','.join(names)}\n{body}"))
    assert "Most confused pairs" in shown and "class=heat" not in shown
    assert "c7<td class=l>c9<td>5<td>10.0" in shown


def test_grad_cam_is_shown_of_the_first_the_middle_and_the_last_epoch(tmp_path):
    kinds = ("grad-cam", "validation-largest-loss")
    pictures = [f"sheets/{kind}-{epoch:04d}.png" for kind in kinds for epoch in range(1, 10)]
    shown = panel(inspected(tmp_path, ["gradients.png", *pictures]))
    assert [epoch for epoch in range(1, 10) if f"(Grad-CAM), epoch {epoch}<" in shown] == [1, 5, 9]
    assert "largest loss, epoch 9<" in shown and "largest loss, epoch 1<" not in shown
    assert shown.count('<img src="data:image/png;base64,') == 5  # with the gradients


def test_pictures_that_would_make_the_page_large_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(inside, "PICTURE_BYTES", 100)
    shown = panel(inspected(tmp_path, ["gradients.png", "curves.png"]))
    assert shown.count("<img") == 1 and "curves.png is left out" in shown


def test_several_runs_have_a_part_each(tmp_path):
    folders = [inspected(tmp_path / "a"), scripted_run(tmp_path / "b"), inspected(tmp_path / "c")]
    assert panel(*folders).count("<table class=heat>") == 2


def test_an_inspection_that_is_not_over_says_so(tmp_path):
    scripted_run(tmp_path)
    (tmp_path / "inspect").mkdir()
    assert "they are written when a run ends" in panel(tmp_path)


def test_a_run_that_diverged_before_its_first_validation_shows_its_gradients(tmp_path):
    pictures = ("gradients.png",)
    shown = panel(inspected(tmp_path, pictures, confusion=None, classes=None, calibration=None, worst=None))
    assert "Gradients of the layers over time" in shown and "No tables" in shown


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"confusion": None}, "confusion.csv is missing"),
        ({"confusion": ""}, "confusion.csv is damaged: it is empty"),
        ({"confusion": "label,a,b\na,1,2\n"}, "its rows and columns are not the same classes"),
        ({"confusion": "label,a\na,-1\n"}, "&#x27;-1&#x27; is no count"),
        ({"confusion": "label,a\na," + "9" * 400 + "\n"}, "is no count"),
        ({"classes": "class,precision\na,1\n"}, "classes.csv is damaged: it has no column recall"),
        ({"classes": CLASSES.replace("0.8000", "nan")}, "is not between 0 and 1"),
        ({"calibration": "from,to,images,right,mean_probability\n0,1,0,0,\n"}, "counts no images: none has finite"),
        ({"calibration": "from,to,images,right,mean_probability\n0,1,1,2,0.5\n"}, "more right images"),
        ({"worst": 'file,label,prediction,probability,loss\n"a'}, "worst.csv cannot be read"),
        ({"worst": "file,label,prediction,probability,loss\na,b\n"}, "a row of it is cut"),
        ({"suspects": "\0"}, "suspects.csv is damaged: it has no column file"),
    ],
)
def test_a_damaged_table_is_one_line_and_the_others_stand(tmp_path, changed, words):
    shown = panel(inspected(tmp_path, **changed))
    (line,) = [part for part in shown.split("<p class=note>") if words in part]
    assert line.index("</p>") < 300
    assert sum(title in shown for title in ("<h3>Confusion", "<h3>Classes", "<h3>Calibration", "<h3>Worst")) >= 3


def test_a_damaged_picture_is_one_line(tmp_path):
    folder = inspected(tmp_path, ["gradients.png", "curves.png"])
    (folder / "inspect" / "curves.png").write_bytes(DOT[:40])
    shown = panel(folder)
    assert "curves.png is damaged: it is no whole PNG picture" in shown and shown.count("<img") == 1


@pytest.mark.skipif(chromium_path() is None, reason="no chromium here: apt install chromium")
@pytest.mark.slow
def test_cells_answer_tables_sort_and_pictures_open(tmp_path):
    folder = inspected(tmp_path / "run", ["gradients.png"])
    (folder / "inspect" / "pairs").mkdir()
    (folder / "inspect" / "pairs" / "0-1.png").write_bytes(DOT)
    path = tmp_path / "report.html"
    path.write_bytes(page_of([folder]))
    with browser(tmp_path / "profile") as tab:
        tab.look(390)
        tab.open(path)
        tab.value("document.querySelectorAll('.heat tbody td')[1].click()")
        assert tab.value("document.querySelector('output.cell img').naturalWidth") == 1
        said = "cat called <i>dog: 2 of 10 images (20.0 %). Of the worst images: val/a.jpg"
        assert tab.value("document.querySelector('output.cell').textContent") == said
        column = "[...document.querySelectorAll('.sorts tbody tr')].map(row => row.cells[1].textContent)"
        for order in (["81.82", "88.89", ""], ["88.89", "81.82", ""]):  # what is not known comes last
            tab.value("document.querySelectorAll('.sorts th')[1].click()")
            assert tab.value(column) == order
        tab.value("document.querySelector('.gallery summary').click()")
        assert tab.value("document.querySelector('.gallery details').open")
        assert tab.value("document.documentElement.scrollWidth") <= 390 and tab.errors == []
        assert tab.requests == [path.as_uri()]
