"""The page in a real browser: everything is drawn, nothing is asked of a network, and no name of a log runs."""

import json

import pytest
from chromium import browser, chromium_path
from dawn_script import CORRECT, Script, scripted_run
from long_run import long_run
from tiny_run import train

from dawn import read_run
from dawn.__main__ import main
from dawn.page.page import page_of

pytestmark = pytest.mark.skipif(chromium_path() is None, reason="no chromium here: apt install chromium")
CHARTS = ("time", "epochs", "ledger", "speed", "schedule", "steps")
HOSTILE = "</script><img src=x onerror='hacked=1'>%{y}&lt;i&gt;"
DRAWN = """[...document.querySelectorAll('.chart')].map(place => {
    const plot = place.querySelector('svg.main-svg'), box = plot.getBoundingClientRect();
    const shapes = place.querySelectorAll('.scatterlayer .trace path, .barlayer .point path').length;
    return {id: place.id, width: box.width, height: box.height, shapes};
})"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return [long_run(root / str(seed), epochs=18, seed=seed, best=94.6) for seed in range(3)]


def opened(tab, tmp_path, folders, price=24.0, beside=(), width=1280, **look):
    path = tmp_path / "report.html"
    path.write_bytes(page_of(folders, price, beside))
    tab.look(width, **look)
    tab.open(path)
    return path


def choose(tab, control: str, value: str) -> None:
    """What a reader does to a select or a check box."""
    tab.value(
        f"(() => {{ const c = document.getElementById('{control}'); "
        f"if (c.type === 'checkbox') c.checked = {value}; else c.value = '{value}'; "
        "c.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def columns(tab, chart: str, name: str) -> list[list]:
    """x or y of each trace as plotly has it; typed arrays as lists."""
    return tab.value(f"document.getElementById('chart-{chart}').data.map(trace => [...trace.{name}])")


def background(tab) -> str:
    return tab.value("getComputedStyle(document.body).backgroundColor")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "width", "scheme"), [(3, 1280, "light"), pytest.param(1, 390, "dark", marks=pytest.mark.slow)]
)
def test_every_chart_is_drawn_without_an_error(tab, tmp_path, folders, count, width, scheme):
    path = opened(tab, tmp_path, folders[:count], width=width, scheme=scheme)
    charts = tab.value(DRAWN)
    assert [chart["id"] for chart in charts] == [f"chart-{name}" for name in CHARTS]
    assert all(chart["width"] > 0.8 * min(width, 1200) - 20 and chart["height"] > 150 for chart in charts)
    assert all(chart["shapes"] > 0 for chart in charts)
    assert tab.errors == [] and tab.requests == [path.as_uri()]
    assert tab.value("document.documentElement.scrollWidth") <= width  # no scrolling to the side
    assert background(tab) == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 24, 29)")
    assert tab.value("document.querySelectorAll('.modebar-btn[data-title*=\"hare\"]').length") == 0


def test_charts_show_the_numbers_of_the_log_and_follow_the_switches(tab, tmp_path, folders):
    opened(tab, tmp_path, folders)
    runs = [read_run(folder) for folder in folders]
    lines = [x for x in columns(tab, "time", "x") if len(x) > 1]
    assert lines == [pytest.approx([row.clock["total"] for row in run.rows]) for run in runs]
    lines = [y for y in columns(tab, "time", "y") if len(y) > 1]
    assert lines == [[row.validation.percent("top1") for row in run.rows] for run in runs]
    stars = [x[0] for x in columns(tab, "time", "x") if len(x) == 1]
    assert stars == [pytest.approx(run.hit().clock["total"]) for run in runs if run.hit()] != []
    bars = columns(tab, "ledger", "x")
    assert [sum(parts) for parts in zip(*bars, strict=True)] == [pytest.approx(run.stop.clock["total"]) for run in runs]
    check_switches(tab, runs)


def check_switches(tab, runs):
    choose(tab, "clock", "dawn")
    assert columns(tab, "time", "x")[0] == pytest.approx([row.clock["dawn"] for row in runs[0].rows])
    choose(tab, "clock", "cost")
    assert columns(tab, "time", "x")[0] == pytest.approx([row.clock["total"] / 150 for row in runs[0].rows])
    choose(tab, "metric", "top5")
    assert columns(tab, "epochs", "y")[0] == [row.validation.percent("top5") for row in runs[0].rows]
    choose(tab, "metric", "top1")
    choose(tab, "ledger-run", "1")
    assert len(columns(tab, "ledger", "x")[0]) == 3  # phases of the second run
    choose(tab, "schedule-axis", "steps")
    assert columns(tab, "schedule", "x")[0][-1] == 18 * 50
    before = len(columns(tab, "time", "x"))
    choose(tab, "clock", "total")
    choose(tab, "history", "true")
    assert len(columns(tab, "time", "x")) == before + 1 and tab.value("document.getElementById('log-time').checked")
    assert tab.value("document.getElementById('chart-time').layout.xaxis.type") == "log"
    tab.value("document.querySelector('#runs input').click()")
    assert [len(y) > 1 for y in columns(tab, "epochs", "y")].count(True) == 2
    for box in (1, 2):
        tab.value(f"document.querySelectorAll('#runs input')[{box}].click()")  # no run is left: an empty chart
    assert columns(tab, "speed", "y") == [] and tab.errors == []


def test_hostile_names_are_inert(tab, tmp_path):
    names = dict.fromkeys(("recipe", "model", "task", "precision", "page_cache", "run_id"), HOSTILE)
    hardware = {HOSTILE: HOSTILE, "name": HOSTILE, "count": HOSTILE}
    for name in ("a", HOSTILE.replace("/", "")):
        scripted_run(tmp_path / name, hardware=hardware, config={HOSTILE: HOSTILE}, **names)
    path = opened(tab, tmp_path, [folder for folder in sorted(tmp_path.iterdir()) if folder.is_dir()])
    tab.value("document.getElementById('chart-ledger').scrollIntoView({block: 'center'})")
    for chart, layer in (("ledger", ".barlayer .point path"), ("time", ".scatterlayer .points path")):
        spot = tab.value(
            f"(() => {{ const place = document.querySelector('#chart-{chart} {layer}'); "
            "place.scrollIntoView({block: 'center'}); const box = place.getBoundingClientRect(); "
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        tab.move_mouse(spot[0] - 3, spot[1])
        tab.move_mouse(*spot)
        tab.wait_for(f"document.querySelector('#chart-{chart} .hoverlayer text')")
        words = tab.value(f"document.querySelector('#chart-{chart} .hoverlayer').textContent")
        assert f"{HOSTILE}, seed 0" in words
    assert tab.value("typeof window.hacked") == "undefined"
    assert tab.value("document.querySelectorAll('img, a[href], b').length") == 0
    assert tab.errors == [] and tab.requests == [path.as_uri()]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_leaderboard_scrolls_its_tables_and_breaks_no_word(tab, tmp_path, width):
    path = tmp_path / "board.html"
    assert main(["board", "--historical", "--out", str(path)]) == 0
    tab.look(width)
    tab.call("Page.navigate", url=path.as_uri())
    tab.wait_for("document.readyState === 'complete' && document.querySelectorAll('table').length === 2")
    lines = "[...document.querySelectorAll('td, th')].map(cell => cell.getClientRects()[0].height)"
    heights = tab.value(lines)
    assert max(heights) < 40 and tab.value("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_names_of_phases_that_slower_results_make_narrow_are_left_out(tab, tmp_path, folders):
    """Beside a result of hours the phases of a run of minutes are a few pixels, and their names would overlap."""
    (tmp_path / "slow.tsv").write_text("epoch\thours\ttop1Accuracy\n2\t9.0\t94.25\n")
    opened(tab, tmp_path, folders[:1], price=None, beside=[tmp_path / "slow.tsv"])
    words = "document.getElementById('chart-time').layout.annotations.filter(a => a.text.endsWith('px')).length"
    assert tab.value(words) == 0 and len(columns(tab, "time", "x")) > 1
    tab.value("[...document.querySelectorAll('#runs input')].at(-1).click()")
    tab.wait_for(f"{words} > 0")


@pytest.mark.slow
def test_a_run_that_began_at_a_later_epoch_is_drawn_there(tab, tmp_path):
    script = Script(tmp_path / "late", config={"start_epoch": 2})
    for epoch in (2, 3, 4):
        script.epoch(epoch, CORRECT[epoch])
    script.stop()
    opened(tab, tmp_path, [tmp_path / "late"])
    assert columns(tab, "epochs", "x") == [[3, 4, 5], [4]] and columns(tab, "epochs", "y")[1] == [94]  # with its star
    assert columns(tab, "speed", "x")[0] == [3, 4, 5] and columns(tab, "schedule", "x")[0] == [2, 3, 3, 4, 4, 5]
    assert tab.errors == []


@pytest.mark.slow
def test_a_cut_last_epoch_is_drawn_to_its_end(tab, tmp_path, toy):
    phases = "[{'ep': 0, 'sz': 12, 'bs': 60}, {'ep': (0, 1.65), 'lr': (0.1, 0.0)}]"
    assert train(toy, tmp_path / "cut", "--phases", phases) == 0
    opened(tab, tmp_path, [tmp_path / "cut"])
    assert columns(tab, "schedule", "x")[0] == [0, 1, 1, 1.65] and tab.errors == []


@pytest.mark.slow
def test_odd_runs_are_drawn(tab, tmp_path):
    """One evaluation, no target; beside a run that ended before its first epoch."""
    scripted_run(tmp_path / "short", ((0, 0),), target=None)
    Script(tmp_path / "none").stop("diverged")
    (tmp_path / "other.tsv").write_text("epoch\thours\ttop1Accuracy\n2\t0.02\t94.25\n")
    opened(tab, tmp_path, [tmp_path / "short", tmp_path / "none"], price=None, beside=[tmp_path / "other.tsv"])
    assert columns(tab, "epochs", "y") == [[94.25], [0], []]
    tab.value("[...document.querySelectorAll('#runs input')].at(-1).click()")  # the other result, off
    for clock in ("cold", "train"):
        choose(tab, "clock", clock)
    choose(tab, "log-time", "true")
    assert columns(tab, "epochs", "y") == [[0], []] and tab.errors == []


def test_print_is_light_and_fits_the_paper_and_changes_are_followed(tab, tmp_path, folders):
    opened(tab, tmp_path, folders, scheme="dark")
    assert background(tab) == "rgb(20, 24, 29)"
    tab.value("window.dispatchEvent(new Event('beforeprint'))")
    widths = tab.value("[...document.querySelectorAll('.chart')].map(place => place.layout.width)")
    assert widths == [680] * 6
    assert tab.value("document.getElementById('chart-time').layout.font.color") == "#1b2026"
    tab.look(794, media="print", scheme="dark")  # A4 at 96 pixels an inch
    assert background(tab) == "rgb(255, 255, 255)"
    assert tab.value("getComputedStyle(document.querySelector('#controls select')).display") == "none"
    assert len(json.dumps(tab.call("Page.printToPDF")["data"])) > 20_000
    tab.look(1280, scheme="dark")
    tab.value("window.dispatchEvent(new Event('afterprint'))")
    assert tab.value("document.getElementById('chart-time').layout.font.color") == "#e8ecf0" and tab.errors == []
    check_a_turned_phone(tab)


def check_a_turned_phone(tab):
    tab.look(390, scheme="light")
    tab.wait_for("document.getElementById('chart-steps').layout.font.color === '#1b2026'")
    tab.wait_for("document.getElementById('chart-steps').layout.dragmode === false")
    tab.wait_for("document.documentElement.scrollWidth <= 390")
    assert tab.errors == []


def test_the_first_chart_of_many_runs_is_seen_without_scrolling(tab, tmp_path):
    folders = [scripted_run(tmp_path / str(seed), seed=seed, run_id=str(seed)) for seed in range(12)]
    opened(tab, tmp_path, folders)
    assert (
        tab.value("document.querySelector('#chart-time .plotbg, #chart-time .bglayer').getBoundingClientRect().top")
        < 650
    )


def test_a_phone_shows_accuracy_and_time_of_each_run_and_says_that_there_is_more(tab, tmp_path, folders):
    opened(tab, tmp_path, folders, width=390)
    names = tab.value(
        "[...document.querySelectorAll('#result th')].filter(head => head.getBoundingClientRect().right < 390)"
        ".map(head => head.textContent)"
    )
    assert names[:3] == ["run", "top-1 %", "T_total (s)"]
    hint = "getComputedStyle(document.querySelector('#result .scroll'), '::before').content"
    assert "more columns" in tab.value(hint)
    tab.look(1700)
    tab.wait_for(f"{hint} === 'none'")
