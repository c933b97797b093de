"""The page without a browser: every number is in it, no name can leave its place, the same logs give the same bytes."""

import html
import json
import re
from html.parser import HTMLParser

import pytest
from dawn_script import CORRECT, START, Script, resumed_run, scripted_run
from long_run import STEPS, long_run

from dawn import RunError, read_run
from dawn.__main__ import main
from dawn.page.data import MOST_STEPS
from dawn.page.document import plotly_script
from dawn.page.html import script_json, table, text
from dawn.page.page import page_of
from dawn.runlog.clock import RUN_LABELS
from dawn.runlog.records import CLOCKS
from dawn.runlog.run import read_run_and_events
from dawn.runlog.steps import logged_steps

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\t\x1b[31m\"'&amp;%{x}<b>é\ud800"
SCRIPT = re.compile(r"<script(?P<kind>[^>]*)>(?P<code>.*?)</script>", re.DOTALL)


class Reader(HTMLParser):
    """Tags with their attributes, and the words between them but for scripts and styles."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        self.words += "\n" if tag in ("tr", "p", "div") else "\t"

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.words += data


def data_of(page: str) -> dict:
    (code,) = [m["code"] for m in SCRIPT.finditer(page) if "application/json" in m["kind"]]
    return json.loads(code)


def made(*folders, price=None) -> str:
    return page_of(folders, price).decode()


def test_every_number_of_a_run_is_in_the_data(tmp_path):
    run = read_run(long_run(tmp_path, epochs=12))
    (shown,) = data_of(made(tmp_path))["runs"]
    columns = shown["epochs"]
    for clock in CLOCKS:
        assert columns[clock] == [row.clock[clock] for row in run.rows]
    for metric in ("top1", "top5"):
        assert columns[metric] == [row.validation.percent(metric) for row in run.rows]
    assert columns["size"] == [row.size for row in run.rows] and columns["steps"] == [STEPS] * 12
    assert columns["lr"] == [pytest.approx(row.lr, rel=1e-6) for row in run.rows]
    assert columns["wait"] == [
        pytest.approx(r.seconds["data"] / (r.seconds["data"] + r.seconds["train"])) for r in run.rows
    ]
    assert shown["ledger"] == {label: run.stop.seconds[label] for label in RUN_LABELS}
    for label in RUN_LABELS:
        parts = sum(phase["seconds"][label] for phase in shown["phases"])
        assert parts == pytest.approx(sum(row.seconds[label] for row in run.rows))
    assert [phase["size"] for phase in shown["phases"]] == [128, 224, 288]
    assert [phase["verdict"] for phase in shown["phases"]] == ["the loader limits", *["the model limits"] * 2]
    assert shown["hit"] == (run.hit().epoch if run.hit() else None)


def test_tables_and_facts_say_the_same(tmp_path):
    run = read_run(scripted_run(tmp_path))
    words = Reader(made(tmp_path, price=36.0)).words
    for row in run.rows:
        times = "\t".join(f"{row.clock[clock]:.3f}" for clock in CLOCKS)
        assert f"{row.epoch + 1}\t{times}\t{row.validation.percent('top1'):.3f}" in words
    hit = run.hit()
    assert f"94 % top-1 reached in epoch 4, T_total {hit.clock['total']:.2f} s" in words
    assert f"${hit.clock['total'] / 100:.4g}" in words and f"${hit.clock['dawn'] / 100:.4g}" in words
    for fact in ("AMD EPYC 9B14", "2.15.0", "0123abc", "cifarnet", "ab" * 6 + "…", "weight decay", "the model limits"):
        assert fact in words
    assert "the ledger of all epochs adds up to T_total" in words and "✗" not in words


class Metered(Script):
    def ramps(self, epoch: int) -> dict:
        return super().ramps(epoch) | {"energy_joules": 1.8e6}


def test_energy_and_memory_are_told_where_the_log_has_them(tmp_path):
    script = Metered(tmp_path / "metered")
    for epoch in range(4):
        script.epoch(epoch, CORRECT[epoch])
    script.stop()
    plain = scripted_run(tmp_path / "plain", seed=1)
    alone = Reader(made(tmp_path / "metered")).words
    assert "2.000000 kWh" in alone and "\t954\tthe model limits" in alone  # 10^9 bytes
    assert "energy" not in Reader(made(plain)).words and "2.000000" in Reader(made(tmp_path / "metered", plain)).words


def test_a_run_that_began_at_a_later_epoch_is_shown_from_there(tmp_path):
    """--start-epoch: its first row is not epoch 1, so an epoch is no place among the rows."""
    script = Metered(tmp_path, config={"start_epoch": 2})
    for epoch in (2, 3, 4):
        script.epoch(epoch, CORRECT[epoch])
    script.stop()
    page = made(tmp_path)
    (shown,) = data_of(page)["runs"]
    assert shown["epochs"]["epoch"] == [3, 4, 5] and shown["hit"] == 1
    assert "reached in epoch 4" in Reader(page).words and "1.000000 kWh" in Reader(page).words  # two epochs of 0.5 kWh


def test_every_chart_has_a_text_alternative_and_a_table(tmp_path):
    page = made(long_run(tmp_path, epochs=4))
    tags = Reader(page).tags
    charts = [attributes for tag, attributes in tags if tag == "div" and attributes.get("class") == "chart"]
    assert [c["id"] for c in charts] == [
        f"chart-{name}" for name in ("time", "epochs", "ledger", "speed", "schedule", "steps")
    ]
    assert all(c["role"] == "img" and len(c["aria-label"]) > 40 for c in charts)
    sections = re.findall(r"<section.*?</section>", page, re.DOTALL)
    assert all("<details" in part and "<table>" in part for part in sections if "class=chart" in part)
    identifiers = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_the_page_asks_nobody_for_anything(tmp_path):
    """No address in an attribute, and a policy that allows these scripts and nothing else."""
    page = made(scripted_run(tmp_path))
    tags = Reader(page).tags
    assert not [a for _, a in tags if {"src", "href", "action", "srcset", "onload", "onclick", "style"} & a.keys()]
    (policy,) = [a["content"] for tag, a in tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';") and policy.count("sha256-") == 3 and "http" not in policy
    assert "@import" not in page.split("</style>")[0] and "url(" not in page.split("</style>")[0]


def test_hostile_names_stay_text(tmp_path):
    names = dict.fromkeys(("recipe", "model", "task", "precision", "page_cache", "run_id", "config_hash"), HOSTILE)
    evil = {HOSTILE: HOSTILE, "name": HOSTILE, "torch": HOSTILE, "validation_images": 10000, "count": HOSTILE}
    mappings = dict.fromkeys(("hardware", "versions", "dataset", "optimizer", "config"), evil)
    for folder in ("a", HOSTILE.replace("/", "").replace("\ud800", "")):
        scripted_run(tmp_path / folder, outcome="finished", **names, **mappings)
    page = made(*sorted(tmp_path.iterdir()), price=1.0)
    reader = Reader(page)
    assert [tag for tag, _ in reader.tags if tag in ("img", "b", "a")] == []
    assert sum(tag == "script" for tag, _ in reader.tags) == 4 and page.count("<script") - page.count('"<script') >= 4
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert "window.hacked=1" in reader.words  # as words
    assert "\x1b" not in page.replace(plotly_script(), "") and data_of(page)["runs"][0]["name"].startswith("</script>")


@pytest.mark.parametrize("value", ["</script>", "<!--", "]]>", "\u2028", "&lt;", '"', "\ud800", "a\tb"])
def test_json_in_a_script_cannot_end_it(value):
    encoded = script_json({"name": value})
    assert not set(encoded) & set("<>&\u2028") and json.loads(encoded) == {"name": value} and encoded.encode()


def test_text_and_tables_escape():
    assert text('<b a="1">\t&') == "&lt;b a=&quot;1&quot;&gt;?&amp;"
    made_table = table(("<i>", "number"), [("<g>", [["<td>", 3], [None, -1]])], 'a "quoted" name')
    assert "<i>" not in made_table and "<g>" not in made_table and "&lt;td&gt;" in made_table
    assert made_table.count("<tr>") == 4 and html.unescape(made_table).count('a "quoted" name') == 1


def test_the_same_logs_give_the_same_bytes(tmp_path):
    scripted_run(tmp_path / "run")
    resumed_run(tmp_path / "other")
    pair = (tmp_path / "run", tmp_path / "other")
    assert page_of(pair, 2.5) == page_of(pair, 2.5) != page_of(pair)
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / "run.jsonl"
    copy.write_bytes((tmp_path / "run" / "run.jsonl").read_bytes())
    assert page_of([copy]) == page_of([tmp_path / "run"])


def test_runs_that_look_the_same_are_told_apart(tmp_path):
    folders = [scripted_run(tmp_path / name, **start) for name, start in
               {"a": {}, "b": {"run_id": "decaf"}, "c": {}, "d": {"seed": 1}}.items()]  # fmt: skip
    names = [run["name"] for run in data_of(made(*folders))["runs"]]
    assert names == [*(f"cifar10-94, seed 0 ({name})" for name in "abc"), "cifar10-94, seed 1"]
    words = Reader(made(*folders)).words
    assert "No statistics: a seed occurs twice." in words and all(f"\t{name}\n" in words for name in "abcd")


def test_two_sets_of_the_same_seeds_are_told_apart_by_their_folders(tmp_path):
    """`--seeds` calls the folders of every set alike; runs of one set stand together."""
    folders = [scripted_run(tmp_path / name / f"seed-{seed}", seed=seed, config={"ema": ema})
               for seed in (0, 1) for name, ema in (("slow", 0.99), ("fast", 0.5))]  # fmt: skip
    page = made(*folders)
    places = ["slow/seed-0", "slow/seed-1", "fast/seed-0", "fast/seed-1"]
    assert [run["name"] for run in data_of(page)["runs"]] == [f"cifar10-94, seed {p[-1]} ({p})" for p in places]
    words = Reader(page).words
    assert all(f"\t{place}\n" in words for place in places)
    assert "Runs: cifar10-94, seed 0 (fast/seed-0); cifar10-94, seed 1 (fast/seed-1)." in words


def test_schedules_that_differ_at_their_end_are_numbered(tmp_path):
    schedules = [[{"ep": 0, "sz": 24, "bs": 1000}, {"ep": [0, 5], "lr": [1.0, end]}] for end in (0.0, 0.1, 0.0)]
    configs = [{"ema": i, "phases": phases} for i, phases in enumerate(schedules)]
    folders = [scripted_run(tmp_path / str(i), config=config) for i, config in enumerate(configs)]
    words = Reader(made(*folders)).words
    assert all(f"({i})\t{i}\tno. {number}" in words for i, number in enumerate((1, 2, 1)))


def test_sentences_that_begin_with_a_number_stand_on_the_left(tmp_path):
    sentences = table(("run", "what"), [("", [["a", "1.05% of the time has no name"]])], "Checks", wrapped=1)
    assert "<th scope=col class=w>what" in sentences and "<td class=w>1.05%" in sentences


def test_a_run_that_failed_stays_in_the_page(tmp_path):
    """What diverged before its first evaluation is part of the result; the median counts it as endless."""
    scripted_run(tmp_path / "good")
    script = Script(tmp_path / "bad", seed=7)
    script.stop("diverged")
    page = made(tmp_path / "good", tmp_path / "bad")
    words = Reader(page).words
    assert "\n\tcifar10-94, seed 7\t\t\t\tdiverged\t" in words and "\tbad\n" in words
    assert "hit rate, %\t50.000\t" in words
    assert data_of(page)["runs"][1]["epochs"]["total"] == []
    with pytest.raises(RunError, match="no evaluation, the run has ended"):
        page_of([tmp_path / "bad"])


def test_logged_steps_follow_the_attempts(tmp_path):
    """Steps after the checkpoint that a later attempt went on from are void; other fields are taken as they are."""
    script = Script(tmp_path)
    times = {"times/step": 200.0, "times/data": 50.0, "losses/xent": 1.5, "sizes/batch_total": 1000}
    for step in (10, 20, 30):
        script.log.write("step", 0, epoch=0, step=step, **times)
    again = {"epoch": 0, "step": 20, "images_seen": 20000, "lost_seconds": 1, "gap_seconds": 1}
    second = Script(tmp_path, attempt=1, state=script.clock.state_dict(), resumed_from=again)
    odd = {"times/step": 0, "losses/xent": "NaN", "sizes/lr": True}
    for line in (times, odd, {"epoch": "x"}, {"step": -1}):
        second.log.write("step", 1, **({"epoch": 0, "step": 40 if line is odd else 30} | line))
    second.epoch(0, CORRECT[0])
    steps = logged_steps(*read_run_and_events(tmp_path))
    assert [(s.step, s.number, s.position) for s in steps] == [(n, n, n / 50) for n in (10, 20, 30, 40)]
    assert (steps[0].loss, steps[0].rate, steps[0].wait) == (1.5, 5000, 0.25)
    assert (steps[3].loss, steps[3].rate, steps[3].wait, steps[3].lr) == (None, None, None, None)
    script.log.close()


def test_logged_steps_of_a_run_that_began_at_a_later_epoch(tmp_path):
    script = Script(tmp_path, config={"start_epoch": 2})
    for epoch in (2, 3):
        for step in (25, 50):
            script.log.write("step", 0, epoch=epoch, step=step, **{"losses/xent": 10**400 if step == 25 else 1.0})
        script.epoch(epoch, CORRECT[epoch])
    script.stop()
    steps = logged_steps(*read_run_and_events(tmp_path))
    assert [(s.number, s.position) for s in steps] == [(25, 2.5), (50, 3), (75, 3.5), (100, 4)]
    assert [s.loss for s in steps] == [None, 1.0, None, 1.0]


@pytest.mark.slow
def test_twenty_runs_of_a_hundred_epochs_stay_small(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)  # the disk need not have 2,000 lines one by one
    folders = [long_run(tmp_path / str(seed), epochs=100, seed=seed) for seed in range(20)]
    page = page_of(folders, 24.0)
    assert len(page) < 6_000_000
    steps = [run["steps"]["number"] for run in data_of(page.decode())["runs"]]
    assert all(0 < len(numbers) <= MOST_STEPS / 20 and numbers[-1] > 4900 for numbers in steps)


def test_historical_results_can_be_read_without_a_mouse(tmp_path):
    """As every other number of a chart, and with the entry that each is from."""
    words = Reader(made(scripted_run(tmp_path / "run"))).words
    line = next(line for line in words.splitlines() if line.startswith("\tDavid Page"))
    assert line.split("\t")[2:6] == ["2018-11-06", "1 V100 (p3.2xlarge)", "74.040", "0.020567"]
    assert "\t94.080\t" in line and "\tCIFAR10/train/" in line
    other = scripted_run(tmp_path / "other", task="toy")
    assert "Historical results" not in Reader(made(other)).words


def test_historical_results_only_of_the_same_task(tmp_path):
    assert "David Page" in str(data_of(made(scripted_run(tmp_path / "cifar")))["history"])
    assert data_of(made(scripted_run(tmp_path / "toy", task="toy")))["history"] == []
    assert data_of(made(scripted_run(tmp_path / "top5", metric="top5")))["history"] == []


def test_results_of_other_codes_stand_beside_the_runs(tmp_path, capsys):
    run, other = scripted_run(tmp_path / "run"), tmp_path / "<b>other.tsv"
    other.write_text("epoch\thours\ttop1Accuracy\n1\t0.01\t80.5\n2\t0.02\t94.25\n")
    page = page_of([run], beside=[other]).decode()
    (curve,) = data_of(page)["curves"]
    assert (curve["name"], curve["epoch"], curve["seconds"]) == ("<b>other", [1, 2], [36.0, 72.0])
    assert (curve["top1"], curve["top5"]) == ([80.5, 94.25], [None, None])
    assert "2\t72.000\t0.020000\t94.250" in Reader(page).words and "<b>" not in page.replace(plotly_script(), "")
    assert main(["report", str(run), "--beside", str(other), "--out", str(tmp_path / "x.html")]) == 0
    assert (tmp_path / "x.html").read_text() == page
    capsys.readouterr()
    assert main(["report", str(run), "--beside", str(other)]) == 2 and "--beside" in capsys.readouterr().err
    assert main(["report", str(run), "--beside", "none", "--out", str(tmp_path / "x.html")]) == 2


def test_command_makes_one_page_of_one_or_more_runs(tmp_path, capsys, monkeypatch):
    a, b = (str(scripted_run(tmp_path / name, seed=seed)) for seed, name in enumerate("ab"))
    out = tmp_path / "page.html"
    assert main(["report", a, b, "--out", str(out), "--cost-per-hour", "3"]) == 0
    assert capsys.readouterr().out == f"{out}\n" and out.read_bytes() == page_of([a, b], 3.0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "both").mkdir()
    for name in "ab":
        (tmp_path / "both" / name).symlink_to(tmp_path / name)
    assert main(["report", "both"]) == 0 and (tmp_path / "report.html").read_bytes() == page_of([a, b])
    assert main(["report", a, b]) == 0 and (tmp_path / "report.html").read_bytes() == page_of([a, b])
    assert main(["report", a, b, "--out", str(tmp_path / "a")]) == 0 and (tmp_path / "a" / "report.html").exists()
    assert not (tmp_path / "a" / "result.tsv").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "x.html", "--author", "me"], "--author"),
        (["--out", "none/x.html"], "in a folder that is there"),
        (["RUN"], "given twice"),
        (["none"], "none"),
        (["--out", "x.html", "--cost-per-hour=-1"], "cost per hour"),
        (["--out", "x.html", "--cost-per-hour=nan"], "cost per hour"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    scripted_run(tmp_path / "RUN")
    assert main(["report", "RUN", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and words in err
    assert [path.name for path in tmp_path.rglob("*.html")] == []


def test_a_resumed_run_says_what_the_interruption_cost(tmp_path):
    told = "attempt 2 at epoch 3, step 11 (lost 2.0 s, gap 31.5 s)"
    resumed, whole = resumed_run(tmp_path / "a"), scripted_run(tmp_path / "b", seed=1, run_id="b")
    assert f"resumed, {told}" in Reader(made(resumed)).words
    assert f"cifar10-94, seed 0: resumed, {told}" in Reader(made(resumed, whole)).words
    assert "resumed, " not in Reader(made(whole)).words


@pytest.mark.parametrize(
    ("hardware", "words"),
    [
        ({"count": 2}, "AMD EPYC 9B14, PyTorch"),  # an older log counted processes
        ({"count": 1, "machines": 1, "processes": 2}, "AMD EPYC 9B14, 2 processes, PyTorch"),
        ({"count": 2, "machines": 2, "processes": 4}, "2 x AMD EPYC 9B14, 4 processes, PyTorch"),
        ({"count": 8, "machines": 2, "processes": 8, "device": "cuda", "name": "H100"}, "8 x H100, PyTorch"),
    ],
)
def test_processes_are_not_taken_for_processors(tmp_path, hardware, words):
    scripted_run(tmp_path, world_size=2, hardware=START["hardware"] | hardware)
    assert f"cifarnet, bf16, {words} 2.15.0" in Reader(made(tmp_path)).words


def test_what_differs_from_the_defaults_comes_first_and_phases_are_a_table(tmp_path):
    phases = [{"ep": 0, "sz": 24, "bs": 1000, "trndir": "", "rect_val": False}, {"ep": [0, 5], "lr": [1.0, 0.0]}]
    config = {"ema": 0.99, "flip": "random", "nesterov": True, "compile": False, "phases": phases, "target": "94"}
    scripted_run(tmp_path, config=config, phases=phases, changed=["ema", "nesterov"])
    words = Reader(made(tmp_path)).words
    setup = words[words.index("Settings that differ from the defaults") :]
    assert (
        setup.index("ema") < setup.index("nesterov") < setup.index("Settings at their defaults") < setup.index("flip")
    )
    assert "nesterov\tyes" in setup and "compile\tno" in setup
    assert "epochs\tsize (px)\tbatch\tlearning rate\n" in setup  # no column for what no phase says
    assert "\tfrom 0\t24\t1000\t\n" in setup and "\t0 to 5\t\t\t1 to 0" in setup
    for representation in ("True", "False", "None", "{&#x27;", "{'", "memory_gib", "target_reached"):
        assert representation not in words


def test_an_older_log_does_not_tell_which_settings_were_chosen(tmp_path):
    words = Reader(made(scripted_run(tmp_path))).words
    assert "All settings" in words and "defaults" not in words


def test_no_fault_is_found_in_a_run_that_did_what_it_should(tmp_path):
    """Of another target than DAWNBench's, with uncommitted changes, on a machine that rested: told, no more."""
    hosts = [{"idle_seconds": 60.0}]
    words = Reader(made(scripted_run(tmp_path, CORRECT[:3], target=85.0, dirty=True, hosts=hosts))).words
    assert "✗" not in words and "failed" not in words
    for told in ("no entry for DAWNBench: target 94 % top-1 not reached", "uncommitted changes", "idle for 60.0 s"):
        assert "• note\t" in words and told in words


def test_numbers_of_a_column_have_the_same_decimals(tmp_path):
    for name, correct in (("a", CORRECT), ("b", (*CORRECT[:3], (9399, 9950), (9402, 9960)))):
        scripted_run(tmp_path / name, correct, seed="ab".index(name))
    words = Reader(made(tmp_path / "a", tmp_path / "b")).words
    assert "seed 0\t94.000\t48.075\t" in words and "seed 1\t94.020\t60.375\t" in words
    assert "hit rate, %\t100.00\t34.24 to 100.00" in words
