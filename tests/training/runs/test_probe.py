"""The probe: a line for each phase, what limits it, and what would help."""

import pytest
from refusals import training_refused as refused

from training.__main__ import main
from training.config.config import Config
from training.config.schedule import resolved_schedule
from training.runs.probe import Rates, advice, limit

PHASES = "[{'ep': 0, 'sz': 24, 'bs': 20}, {'ep': 1, 'sz': 40, 'bs': 20}, {'ep': (0, 2), 'lr': (0.1, 0.0)}]"
FLAGS = ["--width", "0.125", "--precision", "fp32", "--device", "cpu", "--phases", PHASES, "--loader", "threads"]


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        (Rates(100_000, 1000, 999), "the model"),
        (Rates(100_000, 1000, 951), "the model"),
        (Rates(500, 1000, 480), "the loader"),
        (Rates(500, 1000, 960), "the model"),  # measured together: the loader was slow once
        (Rates(100_000, 1000, 930), "what they share"),
    ],
)
def test_a_loader_forty_times_as_fast_as_the_model_is_not_what_limits(rates, words):
    """It was said to be wherever the two together were slower than the model."""
    assert limit(rates) == words


def test_advice_fits_what_limits(toy):
    config = Config(data=str(toy), phases=PHASES, loader="threads")
    schedule = resolved_schedule(config, 1, print)

    def advised(rates: Rates) -> str:
        return " ".join(advice(config, schedule, schedule.data[0], rates))

    assert advised(Rates(9000, 1000, 1000)) == ""
    slow, shared = advised(Rates(500, 1000, 400)), advised(Rates(9000, 1000, 800))
    for text in (slow, shared):
        assert f"python -m data_prep pack {toy}" in text and f"python -m data_prep resize {toy} --sizes 32" in text
    assert "more --workers" in slow and "share the cores" not in slow
    assert "share the cores" in shared and "more --workers" not in shared


def test_a_row_for_every_phase(toy, capsys):
    assert main(["probe", str(toy), *FLAGS, "--seconds", "0.02"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "loader threads, cifarnet, fp32, cpu"
    rows = [line.split(maxsplit=6) for line in lines[2:] if line[:5].strip().isdigit()]
    assert [row[:3] for row in rows] == [["0", "24", "20"], ["1", "40", "20"]]
    assert all(float(number.replace(",", "")) > 0 for row in rows for number in row[3:6])
    assert all(row[6] in ("the loader", "the model", "what they share") for row in rows)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "x"])
def test_seconds_that_are_none(toy, capsys, seconds):
    refused(capsys, ["probe", str(toy), *FLAGS, "--seconds", seconds], "--seconds")
