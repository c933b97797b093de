"""Compare: pairs by seed, what is left without pairs or with misses, and what is refused."""

import json
import math

import numpy as np
import pytest
from dawn_script import CORRECT
from dawn_sets import HIT_SECONDS, LATE_SECONDS, seed_run, seed_runs
from refusals import dawn_refused as refused
from scipy import stats

from dawn.__main__ import main
from dawn.stats.compare import compare, compare_tables
from dawn.stats.runs import read_recipe

A, B = {"config": {"ema": 0.9}, "recipe": "quick"}, {"config": {"ema": 0.5}, "recipe": "slow"}


def compared(tmp_path, a: str, b: str):
    one, other = seed_runs(tmp_path / "a", a, **A), seed_runs(tmp_path / "b", b, **B)
    return compare(read_recipe([one]), read_recipe([other]))


def estimates(result) -> dict:
    return {name.split()[0]: estimate for name, estimate in result.differences.items()}


def test_pairs_by_seed(tmp_path):
    result = compared(tmp_path, "hhhl", "llll")
    found = estimates(result)
    logs = [math.log(HIT_SECONDS / LATE_SECONDS)] * 3 + [0.0]
    interval = stats.ttest_1samp(logs, 0).confidence_interval(0.95)
    time = found["T_total"]
    assert result.paired and result.names == ("quick", "slow") and "4 pairs" in result.design
    assert (time.value, time.low, time.high) == pytest.approx(tuple(np.exp([np.mean(logs), *interval])))
    assert found["epochs"].value == -0.75
    assert found["accuracy"].value == pytest.approx((0.1 * 3 + 0) / 4)  # 94.12 and 94.02 %
    assert result.needed["epochs to target, A - B"] == 6


def test_turned_round_it_is_the_inverse(tmp_path):
    result, turned = compared(tmp_path / "x", "hhl", "llh"), compared(tmp_path / "y", "llh", "hhl")
    one, other = estimates(result)["T_total"], estimates(turned)["T_total"]
    assert (one.value * other.value, one.low * other.high) == pytest.approx((1, 1))


def test_without_common_seeds_it_is_welch(tmp_path):
    for seed in range(3):
        seed_run(tmp_path / "a" / str(seed), seed, (*CORRECT[:4], (9410 + 3 * seed, 9960)), **A)
        seed_run(tmp_path / "b" / str(seed), seed + 10, (*CORRECT[:4], (9400 + seed, 9960)), **B)
    result = compare(read_recipe([tmp_path / "a"]), read_recipe([tmp_path / "b"]))
    found = estimates(result)["accuracy"]
    interval = stats.ttest_ind([94.1, 94.13, 94.16], [94.0, 94.01, 94.02], equal_var=False).confidence_interval(0.95)
    assert not result.paired and "not paired" in result.design
    assert (found.low, found.high) == pytest.approx(tuple(interval), abs=1e-6)
    assert estimates(result)["T_total"].value == pytest.approx(1)


def test_seeds_of_one_side_are_left_out_and_named(tmp_path):
    result = compared(tmp_path, "hhhhh", "lll")
    assert any("left out of the pairs: 3, 4" in note for note in result.notes) and "3 pairs" in result.design
    assert result.sides["hit rate"][0].value == 1.0


def test_misses_leave_ranks(tmp_path):
    result = compared(tmp_path, "hhhhhhh", "mmmmmmm")
    assert estimates(result)["T_total"].value is None and "did not reach" in estimates(result)["T_total"].note
    (note,) = (note for note in result.notes if "log-rank" in note)
    assert float(note.split("= ")[1]) < 0.01
    assert any("nothing can be said" in note for note in compared(tmp_path / "x", "mm", "mm").notes)


def test_runs_that_were_cut_off_are_left_out_and_named(tmp_path):
    result, without = compared(tmp_path / "x", "hhlc", "llle"), compared(tmp_path / "y", "hhl", "lll")
    assert result.differences == without.differences and result.needed == without.needed
    assert any("A, seed 3; B, seed 3" in note for note in result.notes)
    unpaired = compared(tmp_path / "z", "hc", "cl")
    assert not unpaired.paired and estimates(unpaired)["T_total"].value == pytest.approx(HIT_SECONDS / LATE_SECONDS)
    assert estimates(compared(tmp_path / "none", "cc", "ll"))["T_total"].value is None


def test_the_same_recipe_twice_is_said(tmp_path):
    seed_runs(tmp_path / "a", "hh")
    seed_runs(tmp_path / "b", "hh")
    result = compare(read_recipe([tmp_path / "a"]), read_recipe([tmp_path / "b"]))
    assert "A and B are the same recipe" in result.notes
    assert set(result.needed.values()) == {None} and estimates(result)["T_total"].value == 1


def test_one_run_each(tmp_path):
    result = compared(tmp_path, "h", "l")
    time = estimates(result)["T_total"]
    assert time.value == pytest.approx(HIT_SECONDS / LATE_SECONDS) and time.low is None and result.needed == {}
    assert not any("to tell them apart" in table.title for table in compare_tables(result))
    assert "(1 seed in both)" in result.design


def test_a_run_on_both_sides_is_refused(tmp_path, capsys):
    seed_runs(tmp_path / "a", "hl")
    error = refused(capsys, "compare", tmp_path / "a", "--with", tmp_path / "a" / "seed-1")
    assert f"{tmp_path / 'a' / 'seed-1' / 'run.jsonl'}: is in A and in B" in error


def test_command(tmp_path, capsys):
    a, b = seed_runs(tmp_path / "a", "hhl", **A), seed_runs(tmp_path / "b", "lll", **B)
    assert main(["compare", str(a), str(b)]) == 0
    folders = capsys.readouterr().out
    assert "A: quick, B: slow" in folders and "paired by seed, 3 pairs" in folders and "pairs of runs" in folders
    ones = [str(a / f"seed-{i}") for i in range(3)]
    out = tmp_path / "out.json"
    assert main(["compare", *ones, "--with", *(str(b / f"seed-{i}") for i in range(3)), "--json", str(out)]) == 0
    assert capsys.readouterr().out == folders
    found = json.loads(out.read_text())
    assert found["paired"] and found["differences"]["epochs to target, A - B"]["value"] == pytest.approx(-2 / 3)
    assert main(["compare", str(a), str(b), "--markdown", "--clock", "dawn"]) == 0
    assert "T\\_dawn to target" in capsys.readouterr().out


@pytest.mark.parametrize("changed", [{"target": 93.0}, {"task": "other"}, {"metric": "top5"}])
def test_other_targets_are_refused(tmp_path, capsys, changed):
    seed_runs(tmp_path / "a", "h", **A)
    seed_runs(tmp_path / "b", "h", **B | changed)
    error = refused(capsys, "compare", tmp_path / "a", tmp_path / "b")
    assert next(iter(changed)) in error and str(tmp_path / "b") in error


def test_wrong_number_of_names(tmp_path, capsys):
    assert "--with" in refused(capsys, "compare", tmp_path)
    assert "--with" in refused(capsys, "compare", "a", "b", "c")


def test_what_was_changed_of_one_recipe_is_named(tmp_path):
    """Both sides have the recipe's name."""
    for name, ema in (("a", 0.9), ("b", 0.5)):
        seed_runs(tmp_path / name, "hh", config={"ema": ema}, recipe="quick")
    result = compare(*(read_recipe([tmp_path / name]) for name in "ab"))
    assert "the settings of A and B: ema 0.9 and 0.5" in result.notes
