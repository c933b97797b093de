"""Study: outcome of each run, the statistics over them, the two claims, and what is refused."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from dawn_script import CORRECT, Script
from dawn_sets import HIT_SECONDS, LATE, LATE_SECONDS, MISSED, WHOLE_SECONDS, seed_run, seed_runs
from refusals import dawn_refused as refused

from dawn import RunError
from dawn.__main__ import main
from dawn.stats.runs import read_recipe, trial
from dawn.stats.study import NOT_SHOWN, NOT_TESTED, SHOWN, study, study_json, study_tables

ROOT = Path(__file__).resolve().parents[3]
CUT_SECONDS = 36.525  # of a run that was cut off after three epochs


def estimates(result) -> dict:
    """By the first word of their names."""
    return {name.split()[0]: estimate for name, estimate in result.estimates.items()}


def studied(tmp_path, outcomes: str, **start):
    return study(read_recipe([seed_runs(tmp_path / "set", outcomes, **start)]))


def test_outcome_of_each_run(tmp_path):
    result = studied(tmp_path, "hlmdce")
    found = [(t.seed, t.outcome, t.seconds, t.epochs) for t in result.trials]
    assert found == [
        (0, "hit", pytest.approx(HIT_SECONDS), 4),
        (1, "hit", pytest.approx(LATE_SECONDS), 5),
        (2, "miss", math.inf, None),
        (3, "diverged", math.inf, None),
        (4, "cut off", pytest.approx(CUT_SECONDS), None),
        (5, "cut off", 0, None),
    ]
    assert result.trials[2].duration == pytest.approx(WHOLE_SECONDS)
    assert [t.final is not None for t in result.trials] == [True, True, True, False, False, False]


def test_statistics_of_known_runs(tmp_path):
    found = estimates(studied(tmp_path, "hhlm"))
    assert found["hit"].value == 0.75
    assert found["median"].value == pytest.approx((HIT_SECONDS + LATE_SECONDS) / 2) and found["median"].high == math.inf
    assert found["geometric"].value is None and "1 did not" in found["geometric"].note
    spent = 2 * HIT_SECONDS + LATE_SECONDS + WHOLE_SECONDS
    assert found["expected"].value == pytest.approx(spent / 3)
    assert found["restricted"].value == pytest.approx(spent / 4)
    assert found["accuracy"].value == pytest.approx((94.12 * 2 + 94.02 + 93.99) / 4)


def test_all_hit_and_all_miss(tmp_path):
    hits = estimates(studied(tmp_path / "hits", "hhhhhl"))
    assert hits["geometric"].value == pytest.approx((HIT_SECONDS**5 * LATE_SECONDS) ** (1 / 6))
    assert hits["median"].confidence == pytest.approx(1 - 2 / 2**6)
    missed = studied(tmp_path / "misses", "mmmmmm")
    assert estimates(missed)["median"].value == estimates(missed)["expected"].value == math.inf
    assert estimates(missed)["hit"].value == 0 and estimates(missed)["hit"].high < 0.5
    assert [claim.verdict for claim in missed.claims] == [NOT_SHOWN, NOT_SHOWN]


def test_a_run_cut_off_at_once_changes_nothing(tmp_path):
    plain, with_it = studied(tmp_path / "a", "hhhlm"), studied(tmp_path / "b", "hhhlme")
    for name, estimate in plain.estimates.items():
        assert with_it.estimates[name].value == pytest.approx(estimate.value) if estimate.value else True
    assert any("seed 5" in note for note in with_it.notes)


def test_a_run_that_trained_everything_before_it_was_killed_is_a_miss(tmp_path):
    script = Script(tmp_path / "killed", seed=1)
    for epoch, correct in enumerate(MISSED):
        script.epoch(epoch, correct)
    script.log.close()
    (run,) = read_recipe([tmp_path / "killed"])
    assert trial(run).outcome == "miss" and trial(run).final is not None


def test_the_two_claims_are_apart(tmp_path):
    """Runs that end far above the target show the mean; that 95 % of runs hit needs 59."""
    correct = [(*CORRECT[:4], (9450 + seed, 9960)) for seed in range(6)]
    for seed, counts in enumerate(correct):
        seed_run(tmp_path / f"{seed}", seed, counts)
    mean_claim, share_claim = study(read_recipe([tmp_path])).claims
    assert mean_claim.verdict == SHOWN and "lower bound 94.5096" in mean_claim.evidence
    assert share_claim.verdict == NOT_SHOWN and "all of 59 runs" in share_claim.evidence
    assert "60.7 %" in share_claim.evidence  # 0.05 ** (1 / 6)


def test_runs_that_stop_at_the_target_say_nothing_about_the_mean(tmp_path):
    for seed in range(3):
        seed_run(tmp_path / f"{seed}", seed, CORRECT[:4])
    claim = study(read_recipe([tmp_path])).claims[0]
    assert claim.verdict == NOT_TESTED and "ended at the target" in claim.evidence
    assert estimates(study(read_recipe([tmp_path])))["accuracy"].value is None


def test_divergence_is_no_mean(tmp_path):
    claim = studied(tmp_path, "hhhd").claims[0]
    assert claim.verdict == NOT_SHOWN and "1 of 4 runs diverged" in claim.evidence


def test_one_run_is_a_study_without_intervals(tmp_path):
    result = studied(tmp_path, "h")
    assert estimates(result)["median"].value == pytest.approx(HIT_SECONDS)
    assert [claim.verdict for claim in result.claims] == [NOT_TESTED, NOT_SHOWN]
    assert studied(tmp_path / "none", "e").claims[1].verdict == NOT_TESTED


def test_every_clock_and_the_order_of_names(tmp_path):
    seed_runs(tmp_path, "hlm")
    places = [tmp_path / f"seed-{i}" for i in (2, 0, 1)]
    assert study_json(study(read_recipe(places))) == study_json(study(read_recipe([tmp_path])))
    dawn = study(read_recipe([tmp_path]), "dawn")
    assert dawn.clock == "T_dawn" and dawn.trials[0].seconds == pytest.approx(0.0114791667 * 3600)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"config": {"ema": 0.5}}, "ema 0.99 there, 0.5 here"),
        ({"target": 93.0}, "target 94.0 there, 93.0 here"),
        ({"precision": "fp32"}, "precision 'bf16' there, 'fp32' here"),
        ({"dataset": {"sha256": "x", "name": "c", "validation_images": 10000}}, "dataset"),
        ({"world_size": 2}, "world size 1 there, 2 here"),
        ({"seed": 0}, "seed 0 again"),
        ({"target": None}, "no target"),
    ],
)
def test_what_is_not_one_recipe_is_refused(tmp_path, changed, text):
    seed_run(tmp_path / "a", 0)
    seed_run(tmp_path / "b", **{"seed": 1} | changed)
    with pytest.raises(RunError) as refusal:
        read_recipe([tmp_path])
    assert text in str(refusal.value) and str(tmp_path / "b") in str(refusal.value)


def test_the_differences_of_two_recipes_do_not_fill_the_screen(tmp_path):
    seed_run(tmp_path / "a", 0)
    seed_run(tmp_path / "b", 1, config={f"setting_{i:02}": i for i in range(40)})
    with pytest.raises(RunError, match=r"ema .*; setting_00 .*; setting_03 None there, 3 here; and 36 more"):
        read_recipe([tmp_path])


def test_different_machines_are_said(tmp_path):
    seed_run(tmp_path / "a", 0)
    seed_run(tmp_path / "b", 1, hardware={"name": "other"}, dirty=True)
    notes = " ".join(study(read_recipe([tmp_path])).notes)
    assert "hardware: AMD EPYC 9B14, other" in notes and "uncommitted changes: seed 1" in notes


def test_command(tmp_path, capsys):
    seed_runs(tmp_path / "set", "hlm", recipe="evil\x1b[31m|<b>")
    out = tmp_path / "study.json"
    assert main(["study", str(tmp_path / "set"), "--json", str(out)]) == 0
    text = capsys.readouterr().out
    assert "2 of 3 runs hit" in text and "\x1b" not in text
    found = json.loads(out.read_text())
    assert found["runs"][2]["seconds"] == "infinity" and found["runs"][0]["final"] == {"correct": 9412, "images": 10000}
    assert found["estimates"]["hit rate"]["value"] == pytest.approx(2 / 3) and len(found["claims"]) == 2
    assert main(["study", str(tmp_path / "set"), "--markdown", "--horizon", "50"]) == 0
    text = capsys.readouterr().out
    assert "to 50 s" in text and "| 0 | hit |" in text and "<b>" not in text and "\\|" in text


def test_bad_input_is_one_line(tmp_path, capsys):
    seed_run(tmp_path / "set" / "a", 0)
    (tmp_path / "empty").mkdir()
    assert "no run.jsonl" in refused(capsys, "study", tmp_path / "empty")
    assert "No such file" in refused(capsys, "study", tmp_path / "none")
    assert "seed 0 again" in refused(capsys, "study", tmp_path / "set", tmp_path / "set")
    error = refused(capsys, "study", tmp_path / "set", "--json", tmp_path / "none" / "x.json")
    assert "x.json: cannot be written" in error and "--out" not in error  # study has no such flag
    for horizon in ("0", "-1", "nan", "inf"):
        assert "--horizon" in refused(capsys, "study", tmp_path / "set", f"--horizon={horizon}")


@pytest.mark.slow
def test_no_torch(tmp_path):
    seed_runs(tmp_path, "hl")
    code = "import sys; from dawn.__main__ import main; sys.exit(main(sys.argv[1:]) or 9 * ('torch' in sys.modules))"
    subprocess.run([sys.executable, "-c", code, "study", tmp_path], cwd=ROOT, check=True, capture_output=True)


def on_hosts(tmp_path, *hosts: str | None) -> list[Path]:
    """Runs of seed 0, 1, ...: an early hit on host a, a late one on every other."""
    for seed, host in enumerate(hosts):
        told = {"hosts": [{"id": host}]} if host else {}
        seed_run(tmp_path / f"seed-{seed}", seed, CORRECT if host == "a" else LATE, **told)
    return [tmp_path]


def test_the_spread_between_hosts_is_told_from_that_within_them(tmp_path):
    result = study(read_recipe(on_hosts(tmp_path, "a", "a", "b", "b")))
    within, between = (
        next(e for name, e in result.estimates.items() if f"{word} host" in name) for word in ("within a", "between")
    )
    ratio = math.log(LATE_SECONDS / HIT_SECONDS)
    assert within.value == pytest.approx(0, abs=1e-6) and between.value == pytest.approx(
        100 * math.expm1(ratio / math.sqrt(2))
    )
    average = result.estimates["mean over 2 hosts, s"]
    assert average.value == pytest.approx(math.sqrt(HIT_SECONDS * LATE_SECONDS)) and average.low < HIT_SECONDS
    tables = {table.title: table.rows for table in study_tables(result)}
    assert [row[:3] for row in tables["hosts"]] == [("a", "2", "2"), ("b", "2", "2")]


@pytest.mark.parametrize("hosts", [("a", "a"), ("a", None), (None, None)])
def test_one_host_or_an_unknown_one_leaves_the_statistics_as_they_were(tmp_path, hosts):
    result = study(read_recipe(on_hosts(tmp_path, *hosts)))
    assert not [name for name in result.estimates if "host" in name]
    assert "hosts" not in [table.title for table in study_tables(result)]


@pytest.mark.parametrize(
    ("outcomes", "words"), [("hhm", "2 of 3 runs hit"), ("hd", "1 of 2 runs hit"), ("c", "no run")]
)
def test_every_claim_begins_with_the_hit_rate(tmp_path, outcomes, words):
    assert all(claim.evidence.startswith(words) for claim in studied(tmp_path, outcomes).claims)
