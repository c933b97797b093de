"""Bad schedules: exit code 2, one line with place, value and remedy, and nothing is ever executed."""

import json
import time

import pytest

from phases import PhaseError, Schedule
from phases.__main__ import main

DATA = {"ep": 0, "sz": 128, "bs": 512}
RATE = {"ep": (0, 10), "lr": (1.0, 0.1)}


def refused(capsys, *argv: str) -> str:
    """The one line the command prints."""
    assert main(["show", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    assert err.rstrip("\n").isprintable()
    return err


BAD_PHASES = {
    "empty list": ([], ["empty", "data phase", "lr phase"]),
    "not a dict": ([DATA, 5], ["phase 1 5", "not a dict"]),
    "no ep": ([{"sz": 128, "bs": 512}, RATE], ["phase 0", "'ep' is missing"]),
    "only ep": ([DATA, RATE, {"ep": 3}], ["phase 2 {'ep': 3}", "'bs'", "'lr'", "'mom'"]),
    "no bs": (
        [DATA, RATE, {"ep": 5, "sz": 224}],
        ["phase 2 {'ep': 5, 'sz': 224}: 'bs' is missing. A phase that sets 'sz' also sets 'bs'", "'keep_dl': True."],
    ),
    "no bs with keep_dl": ([DATA, RATE, {"ep": 5, "keep_dl": True}], ["phase 2", "'bs' is missing"]),
    "data key without bs": ([DATA, {**RATE, "min_scale": 0.3}], ["phase 1", "'bs' is missing", "'min_scale'"]),
    "no sz": ([DATA, RATE, {"ep": 5, "bs": 224}], ["phase 2", "'sz' is missing", "'keep_dl': True"]),
    "keep_dl False is not kept": ([DATA, RATE, {"ep": 5, "bs": 8, "keep_dl": False}], ["'sz' is missing"]),
    "unknown key": ([{**DATA, "min_scle": 0.3}, RATE], ["phase 0", "'min_scle'", "Did you mean 'min_scale'?"]),
    "unknown key, no near match": ([{**DATA, "zzzz": 1}, RATE], ["phase 0", "'zzzz'", "Known keys: ep"]),
    "no lr": ([DATA], ["no phase has 'lr'"]),
    "momentum is no lr": ([DATA, {"ep": (0, 3), "mom": 0.9}], ["no phase has 'lr'"]),
    "no data": ([RATE], ["no phase has 'sz' and 'bs'"]),
    "nothing trained": ([DATA, {"ep": 0, "lr": 0.1}], ["nothing is trained", "(0, 10)"]),
    "no lr at epoch 0": (
        [DATA, {"ep": (1, 10), "lr": 0.1}],
        ["phase 1", "no learning rate at epoch 0", "Start it at 0"],
    ),
    "first data later": ([{**DATA, "ep": 2}, RATE], ["phase 0", "first data phase begins at epoch 2", "Start it at 0"]),
    "duplicate data epoch": (
        [DATA, RATE, {**DATA, "sz": 160}],
        ["phases 0", "and 2", "two data phases begin at epoch 0"],
    ),
    "data at the end": ([DATA, RATE, {**DATA, "ep": 10}], ["phase 2", "begins at epoch 10", "end at epoch 10"]),
    "gap": (
        [DATA, {"ep": (0, 5), "lr": (1, 2)}, {"ep": (8, 10), "lr": 1}],
        [
            "phases 1",
            "and 2",
            "no learning rate between epochs 5 and 8 (gap)",
            "Extend phase 1 to 8 or start phase 2 at 5.",
        ],
    ),
    "overlap": (
        [DATA, {"ep": (4, 10), "lr": (1, 2)}, {"ep": (0, 5), "lr": (1, 2)}],
        ["phases 2", "and 1", "between epochs 4 and 5", "overlap", "End phase 2 at 4 or start phase 1 at 5."],
    ),
    "overlap of numbers": ([DATA, {"ep": (0, 5), "lr": 1}, {"ep": (3, 10), "lr": 2}], ["phases 1", "and 2", "overlap"]),
    "same start twice": (
        [DATA, RATE, {"ep": 0, "lr": 1}],
        ["phases 1", "and 2", "both set the learning rate from epoch 0"],
    ),
    "reversed range": ([DATA, {"ep": (10, 0), "lr": 1}], ["phase 1", "begins at 10 and ends at 0"]),
    "equal ends": ([DATA, {"ep": (3, 3), "lr": 1}], ["phase 1", "begins at 3 and ends at 3"]),
    "three epochs": ([DATA, {"ep": (0, 3, 5), "lr": 1}], ["phase 1", "'ep'", "not 3 values"]),
    "a third of an epoch": (
        [DATA, {"ep": 4 / 3, "sz": 64, "bs": 8}, RATE],
        ["phase 1", "begins at a whole or half epoch, not at 1.33333", "Use 'ep': 1.5"],
    ),
    "a data phase where a cut epoch ends": (
        [DATA, {"ep": 2.5, "sz": 64, "bs": 8}, {"ep": (0, 2.5), "lr": 1}],
        ["phase 1", "begins at epoch 2.5, but"],
    ),
    "gap inside an epoch": (
        [DATA, {"ep": (0, 4.5), "lr": (0, 1)}, {"ep": (4.6, 9), "lr": (1, 0)}],
        ["phases 1", "and 2", "no learning rate between epochs 4.5 and 4.6 (gap)"],
    ),
    "overlap inside an epoch": (
        [DATA, {"ep": (0, 4.5), "lr": (0, 1)}, {"ep": (4.25, 9), "lr": (1, 0)}],
        ["set twice between epochs 4.25 and 4.5 (overlap)"],
    ),
    "infinite epoch": ([DATA, {"ep": (0, float("inf")), "lr": 1}], ["phase 1", "'ep'", "inf"]),
    "negative epoch": ([{**DATA, "ep": -1}, RATE], ["phase 0", "'ep'", "-1"]),
    "bool epoch": ([{**DATA, "ep": True}, RATE], ["phase 0", "'ep'", "True"]),
    "text epoch": ([{**DATA, "ep": "0"}, RATE], ["phase 0", "'ep'", "'0'"]),
    "huge epoch": ([DATA, {"ep": (0, 10**30), "lr": 1}], ["phase 1", "'ep'", "100000"]),
    "data range": ([{**DATA, "ep": (0, 5)}, RATE], ["phase 0", "a data phase has one epoch", "'ep': 0"]),
    "nan lr": ([DATA, {"ep": (0, 5), "lr": float("nan")}], ["phase 1", "'lr'", "nan"]),
    "inf lr": ([DATA, {"ep": (0, 5), "lr": (1, float("inf"))}], ["phase 1", "'lr'", "inf"]),
    "negative lr": ([DATA, {"ep": (0, 5), "lr": (1, -0.1)}], ["phase 1", "'lr'", "-0.1"]),
    "text lr": ([DATA, {"ep": (0, 5), "lr": "0.1"}], ["phase 1", "'lr'", "'0.1'"]),
    "bool lr": ([DATA, {"ep": (0, 5), "lr": True}], ["phase 1", "'lr'", "True"]),
    "no number lr": ([DATA, {"ep": (0, 5), "lr": None}], ["phase 1", "'lr'", "None"]),
    "three lr": ([DATA, {"ep": (0, 5), "lr": (1, 2, 3)}], ["phase 1", "'lr' has 3 values", "(first, last)"]),
    "one lr in a list": ([DATA, {"ep": (0, 5), "lr": [1]}], ["phase 1", "'lr' has 1 values"]),
    "no lr in a list": ([DATA, {"ep": (0, 5), "lr": []}], ["phase 1", "'lr' has 0 values"]),
    "pair lr, one epoch": ([DATA, RATE, {"ep": 10, "lr": (1, 2)}], ["phase 2", "'lr' is a range", "'ep': (10, END)"]),
    "mom 1": ([DATA, {**RATE, "mom": 1.0}], ["phase 1", "'mom'", "[0, 1)"]),
    "negative mom": ([DATA, {**RATE, "mom": (0.9, -0.1)}], ["phase 1", "'mom'", "-0.1"]),
    "mom gap": ([DATA, RATE, {"ep": (0, 5), "mom": (0.9, 0.8)}], ["phase 2", "no momentum between epochs 5 and 10"]),
    "mom late": ([DATA, RATE, {"ep": 2, "mom": 0.9}], ["phase 2", "no momentum at epoch 0"]),
    "mom too long": ([DATA, RATE, {"ep": (0, 12), "mom": 0.9}], ["phase 2", "momentum goes past epoch 10"]),
    "mom overlap": (
        [DATA, {**RATE, "mom": 0.9}, {"ep": (5, 10), "mom": 0.8}],
        ["phases 1", "and 2", "momentum", "overlap"],
    ),
    "bs 0": ([{**DATA, "bs": 0}, RATE], ["phase 0", "'bs' must be a whole number from 1", "not 0"]),
    "bs bool": ([{**DATA, "bs": True}, RATE], ["phase 0", "'bs'", "True"]),
    "bs float": ([{**DATA, "bs": 64.0}, RATE], ["phase 0", "'bs'", "64.0"]),
    "bs text": ([{**DATA, "bs": "64"}, RATE], ["phase 0", "'bs'", "'64'"]),
    "bs huge": ([{**DATA, "bs": 10**400}, RATE], ["phase 0", "'bs'"]),
    "sz small": ([{**DATA, "sz": 7}, RATE], ["phase 0", "'sz' must be a whole number from 8", "not 7"]),
    "sz float": ([{**DATA, "sz": 32.5}, RATE], ["phase 0", "'sz'", "32.5"]),
    "val_sz": ([{**DATA, "val_sz": 0}, RATE], ["phase 0", "'val_sz'"]),
    "val_bs": ([{**DATA, "val_bs": -5}, RATE], ["phase 0", "'val_bs'", "-5"]),
    "min_scale 0": ([{**DATA, "min_scale": 0}, RATE], ["phase 0", "'min_scale' must lie between 0 and 1", "not 0"]),
    "min_scale 1": ([{**DATA, "min_scale": 1.0}, RATE], ["phase 0", "'min_scale'", "1.0"]),
    "aug above 1": ([{**DATA, "aug": 1.5}, RATE], ["phase 0", "'aug' must lie between 0 and 1", "1.5"]),
    "aug below 0": ([{**DATA, "aug": -0.1}, RATE], ["phase 0", "'aug'", "-0.1"]),
    "aug bool": ([{**DATA, "aug": True}, RATE], ["phase 0", "'aug'", "True"]),
    "aug not a number": ([{**DATA, "aug": float("nan")}, RATE], ["phase 0", "'aug'", "nan"]),
    "val_resize": ([{**DATA, "val_resize": 0.95}, RATE], ["phase 0", "'val_resize' must lie between 1 and 4", "0.95"]),
    "val_resize none": ([{**DATA, "val_resize": None}, RATE], ["phase 0", "'val_resize'", "None"]),
    "keep_dl other aug": (
        [DATA, RATE, {"ep": 3, "aug": 0.5, "bs": 5, "keep_dl": True}],
        ["phase 2", "'aug' stays 1.0", "Remove 'aug'"],
    ),
    "trndir": ([{**DATA, "trndir": 160}, RATE], ["phase 0", "'trndir' must be a text", "160"]),
    "valdir line break": ([{**DATA, "valdir": "a\nb"}, RATE], ["phase 0", "'valdir'", "a\\nb"]),
    "rect_val": ([{**DATA, "rect_val": 1}, RATE], ["phase 0", "'rect_val' must be True or False"]),
    "keep_dl": ([DATA, RATE, {**DATA, "ep": 3, "keep_dl": "yes"}], ["phase 2", "'keep_dl' must be True or False"]),
    "epoch_step": ([DATA, {**RATE, "epoch_step": 1}], ["phase 1", "'epoch_step' must be True or False"]),
    "epoch_step alone": ([{**DATA, "epoch_step": True}, RATE], ["phase 0", "'epoch_step' needs 'lr' or 'mom'"]),
    "curve": (
        [DATA, {**RATE, "curve": "cosine"}],
        ["phase 1", "'curve' must be 'linear', 'cos' or 'pow2'", "'cosine'"],
    ),
    "over alone": ([{**DATA, "over": (0, 9)}, RATE], ["phase 0", "'over' needs 'lr' or 'mom'"]),
    "over one number": ([DATA, {**RATE, "over": 9}], ["phase 1", "'over' must be the (start, end)", "not 9"]),
    "over three": ([DATA, {**RATE, "over": (0, 5, 9)}], ["phase 1", "'over' must be the (start, end)", "3 values"]),
    "over backwards": ([DATA, {**RATE, "over": (9, 0)}], ["phase 1", "begins at 9 and ends at 0", "Write 'over'"]),
    "over too short by a half": (
        [DATA, {**RATE, "over": (0, 9.5)}],
        ["phase 1", "'ep' must be a range inside 'over'", "9.5"],
    ),
    "over too narrow": ([DATA, {**RATE, "over": (1, 9)}], ["phase 1", "'ep' must be a range inside 'over'"]),
    "over of a constant": (
        [DATA, {"ep": (0, 9), "lr": 1, "over": (0, 20)}],
        ["phase 1", "'over' needs a curve, but no value is a range"],
    ),
    "keep_dl first": ([{"ep": 0, "bs": 5, "keep_dl": True}, RATE], ["phase 0", "'keep_dl'", "here is none"]),
    "keep_dl other sz": (
        [DATA, RATE, {"ep": 3, "sz": 224, "bs": 5, "keep_dl": True}],
        ["phase 2", "'keep_dl' keeps the loaders, so 'sz' stays 128"],
    ),
    "keep_dl other dir": (
        [DATA, RATE, {"ep": 3, "trndir": "-sz/1", "bs": 5, "keep_dl": True}],
        ["phase 2", "'trndir' stays ''"],
    ),
}


@pytest.mark.parametrize("phases, words", BAD_PHASES.values(), ids=BAD_PHASES.keys())
def test_bad_phases(capsys, phases, words):
    text = repr(phases)
    if "nan" in text or "inf" in text:  # no Python literals, but JSON text as Python reads it
        text = json.dumps(phases)
    line = refused(capsys, text)
    assert len(line) < 400
    for word in words:
        assert word in line
    with pytest.raises(PhaseError):
        Schedule.parse(phases)


NOT_PHASES = {
    "call": ("__import__('os').system('touch {marker}')", ["neither a phase list, a preset nor a file"]),
    "call in a list": ("[__import__('os').system('touch {marker}')]", ["__import__", "nothing is executed"]),
    "lambda": ("[(lambda: open('{marker}', 'w'))()]", ["nothing is executed"]),
    "comprehension": ("[open('{marker}', 'w') for x in (1, 2)]", ["nothing is executed"]),
    "f-string": ("[f\"{{open('{marker}', 'w')}}\"]", ["nothing is executed"]),
    "name": ("[{{'ep': 0, 'sz': size, 'bs': 5}}]", ["'size'", "nothing is executed"]),
    "power": ("[{{'ep': 0, 'bs': 2**8}}]", ["'2**8' is not a plain value", "Write the result itself"]),
    "remainder": ("[{{'ep': 0, 'bs': 7%4}}]", ["'7%4' is not a plain value"]),
    "division by zero": ("[{{'ep': (0, 5), 'lr': 1/(2-2)}}]", ["'1/(2-2)' divides by zero"]),
    "huge result": ("[{{'ep': 0, 'bs': 999999*999999*9}}]", ["'999999*999999*9' is more than 1e+12"]),
    "huge operand": ("[{{'ep': 0, 'bs': 1e308*10}}]", ["'1e308' is more than 1e+12"]),
    "difference of infinities": ("[{{'ep': 0, 'bs': 1e999-1e999}}]", ["'1e999' is more than 1e+12"]),
    "text times number": ("[{{'ep': 0, 'bs': 'ab'*99}}]", ["'ab'", "is not a number"]),
    "truth times number": ("[{{'ep': 0, 'bs': True*99}}]", ["'True' is not a number"]),
    "sum of lists": ("[{{'ep': 0}}] + [{{'ep': 1}}]", ["is not a number"]),
    "100 operations inside each other": ("[" + "1*" * 100 + "1]", ["more than 50 operations inside each other"]),
    "set": ("[{{'ep', 'sz'}}]", ["nothing is executed"]),
    "10,000 brackets": ("[" * 10_000 + "]" * 10_000, ["nested deeper"]),
    "10,000 open brackets": ("[" * 10_000, ["nested deeper"]),
    "brackets behind strings": ('[")",' * 10_000, ["nested deeper"]),
    "60,000 signs": ("[" + "-" * 60_000 + "1]", ["neither JSON nor a Python list"]),
    "30,000 sums": ("[" + "1+" * 30_000 + "1]", ["neither JSON nor a Python list"]),
    "60,000 digits": ("[" + "9" * 60_000 + "]", ["neither JSON nor a Python list"]),
    "60,000 hexadecimal digits": ("[0x" + "f" * 60_000 + "]", ["phase 0", "not a dict"]),
    "10 MB": ("[" + "1," * 5_000_000 + "]", ["more than 64 kB"]),
    "zero byte": ("[\0]", ["neither JSON nor a Python list"]),
    "lone surrogate": ("[\ud800]", ["neither JSON nor a Python list"]),
    "wrong escape": ("['\\d']", ["invalid escape"]),
    "key twice, Python": ("[{{'ep': 0, 'sz': 32, 'ep': 3}}]", ["'ep' is given twice"]),
    "key twice, JSON": ('[{{"ep": 0, "ep": 3}}]', ["'ep' is given twice"]),
    "unhashable key": ("[{{[]: 1}}]", ["neither JSON nor a Python list"]),
    "syntax": ("[{{'ep': 0,, 'sz': 3}}]", ["line 1, column"]),
    "one dict": ("{{'ep': 0, 'sz': 32, 'bs': 5}}", ["one dict alone", "list"]),
    "one number": ("(5)", ["5 is not a schedule"]),
    "prose": ("train it well", ["neither a phase list, a preset nor a file"]),
    "nothing": ("", ["neither a phase list, a preset nor a file"]),
    "near preset": (
        "imagnet18-1",
        ["unknown preset 'imagnet18-1'", "Did you mean 'imagenet18-1'?", "Known: alibaba-1"],
    ),
    "unknown preset": ("zzz", ["unknown preset 'zzz'", "Known: alibaba-1"]),
    "no such file": ("/no/such/phases.json", ["/no/such/phases.json", "No such file"]),
    "folder": ("/", ["/", "Is a directory"]),
    "endless file": ("/dev/zero", ["/dev/zero", "more than 64 kB"]),
}


IN_A_SHELL = (
    "double quotes outside and single ones inside, or write the schedule to a file and give that: --phases FILE"
)
QUOTES = {
    "typographic": ("[{‘ep’: 0, ‘sz’: 32}]", ["typographic quotes (‘)", "word processors", "--phases FILE"]),
    "typographic around": ("“[{'ep': 0, 'sz': 32}]”", ["typographic quotes (“)"]),
    "of HTML": ("[{&quot;ep&quot;: 0}]", ["quotes of HTML (&quot;)"]),
    "doubled by YAML": ("[{''ep'': 0, ''sz'': 32}]", ["doubled quotes (''ep'')", "YAML", ">-"]),
    "doubled double quotes": ('[{""ep"": 0}]', ['doubled quotes (""ep"")', "CSV"]),
    "escaped double quotes": ('[{\\"ep\\": 0}]', ["escaped quotes", "cmd", "PowerShell up to 7.2", IN_A_SHELL]),
    "escaped single quotes": ("[{\\'ep\\': 0}]", ["escaped quotes", IN_A_SHELL]),
    "PowerShell's escape in bash": ('[{`"ep`": 0}]', ["escaped quotes", IN_A_SHELL]),
    "lost": ("[{ep: 0, sz: 32, trndir: -sz/160}]", ["quotes around the names are lost", "PowerShell", IN_A_SHELL]),
    "lost in cmd": ("'[{ep:0,sz:32}]'", ["quotes around the whole list", "cmd does not know '...'", IN_A_SHELL]),
    "twice around": ("\"[{'ep': 0}]\"", ["quotes around the whole list", IN_A_SHELL]),
}


@pytest.mark.parametrize("text, words", QUOTES.values(), ids=QUOTES.keys())
def test_quotes_that_a_shell_or_a_page_has_changed_are_told(capsys, text, words):
    line = refused(capsys, text)
    for word in words:
        assert word in line


def test_a_schedule_that_the_shell_has_split_is_told(capsys):
    for argv in (["[{ep:", "0,", "sz:", "32}]"], ["'[{ep:", "0}]'"]):
        assert "pieces of a schedule" in refused(capsys, *argv)


@pytest.mark.parametrize("text, words", NOT_PHASES.values(), ids=NOT_PHASES.keys())
def test_text_that_is_no_schedule_is_refused_soon_and_not_executed(capsys, tmp_path, text, words):
    marker = tmp_path / "executed"
    began = time.process_time()  # of this process alone: the machine may be busy
    line = refused(capsys, text.format(marker=marker) if "{" in text else text)
    assert time.process_time() - began < 10  # a tenth of a second here; what is not linear in the text takes minutes
    assert len(line) < 500
    assert not marker.exists()
    for word in words:
        assert word in line


def test_a_file_is_held_to_the_same_rules(capsys, tmp_path):
    marker, file = tmp_path / "executed", tmp_path / "phases.json"
    file.write_text(f"[__import__('os').system('touch {marker}')]")
    assert str(file) in refused(capsys, str(file))
    assert not marker.exists()
    file.write_bytes(b"[\xff\xfe]")
    assert "not a text file" in refused(capsys, str(file))
    file.write_text("")
    assert str(file) in refused(capsys, str(file))
    file.write_text('{"phases": [], "world_size": 0}')
    assert "'world_size'" in refused(capsys, str(file))


def test_what_is_no_text_at_all():
    for source in (None, 5, {"ep": 0}, b"[]"):
        with pytest.raises(PhaseError, match="not a schedule"):
            Schedule.parse(source)


@pytest.mark.parametrize(
    "argv, words",
    [
        (["imagenet18-1", "--images", "0"], ["--images", "'0'"]),
        (["imagenet18-1", "--images", "many"], ["--images", "'many'"]),
        (["imagenet18-1", "--world-size", "-1"], ["--world-size"]),
        (["imagenet18-1", "--world-size", "1.5"], ["--world-size", "'1.5'"]),
        (["imagenet18-1", "--pgn", "x\ny"], ["unrecognized arguments", "--pgn x y"]),
        (["imagenet18-1", "--images", "100"], ["global batch of 4096", "100 training images"]),
        ([], ["PHASES"]),
    ],
)
def test_bad_options(capsys, argv, words):
    line = refused(capsys, *argv)
    for word in words:
        assert word in line


def test_unknown_command(capsys):
    assert main(["shw"]) == 2
    assert "'shw'" in capsys.readouterr().err
