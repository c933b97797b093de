"""Texts for people: an accuracy beside its target."""

from pathlib import Path

import pytest
from dawn_script import CORRECT, START, scripted_run

from dawn import read_run
from dawn.dawnbench.check import check_log
from dawn.page.html import accuracy_texts, result_in_words
from dawn.reports.summary import summary_text
from dawn.stats.estimates import mean
from dawn.stats.study import ACCURACY, estimate_table, study, study_tables
from dawn.tables import percent_text, plain_table
from training.logs.console import epoch_line


@pytest.mark.parametrize(("percent", "target", "text"), [
    (92.9999, 93, "92.9999"), (92.99996, 93, "92.99996"), (92.9994, 93, "92.999"), (93.0, 93, "93"),
    (93.00001, 93, "93"), (94.1200001, None, "94.12"), (93.0999984741211, 93.1, "93.099998"), (93.9, 94, "93.9"),
    (100.0, 100, "100"), (0.0, 94, "0"),
])  # fmt: skip
def test_an_accuracy_stands_on_its_side_of_the_target(percent, target, text):
    shown = percent_text(percent, target)
    assert shown == text and (target is None or (float(shown) >= target) == (percent >= target))


def test_decimals_that_a_column_has_in_common():
    assert [percent_text(value, 94, 3) for value in (93.9, 94.12, 93.99996)] == ["93.900", "94.120", "93.99996"]


@pytest.fixture
def near_miss(tmp_path) -> Path:
    """The best is 92.9999 % of a target of 93 %."""
    counts = ((500_000, 900_000), (929_999, 990_000))
    dataset = START["dataset"] | {"name": "toy", "validation_images": 1_000_000}
    return scripted_run(tmp_path, counts, images=1_000_000, task="toy", target=93.0, dataset=dataset)


def test_a_run_that_misses_by_a_hair_is_told_apart_from_its_target_everywhere(near_miss):
    run = read_run(near_miss)
    row = run.evaluations[-1]
    line = {
        "epoch": 1, "validation": vars(row.validation), "seconds": {"data": 0.0, "train": 1.0}, "clock": row.clock,
        "size": 24, "global_batch_size": 8, "lr": [1.0, 1.0], "train_loss": 1.0, "images": 8,
    }  # fmt: skip
    texts = (
        summary_text(run),
        " ".join(check_log(near_miss).notes),
        result_in_words(run),
        accuracy_texts(row, run.start)[0],
        epoch_line(line, "top1", 93.0),
    )
    for text in texts:
        assert "92.9999" in text and "93.000" not in text


def test_a_mean_below_its_target_by_a_hair_is_told_apart_from_it(tmp_path):
    """In the statistics of a study and in its claim."""
    seen = ((9_299_960, 9_900_000),) * len(CORRECT)
    dataset = START["dataset"] | {"name": "toy", "validation_images": 10_000_000}
    folders = [
        scripted_run(tmp_path / str(seed), seen, 10_000_000, "finished_without_target", task="toy", target=93.0,
                     dataset=dataset, seed=seed)
        for seed in (1, 2)
    ]  # fmt: skip
    text = "".join(map(plain_table, study_tables(study([read_run(folder) for folder in folders]))))
    assert "mean 92.9996," in text and text.count("92.9996") == 7 and "93.000" not in text


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        ((92.9996, 92.9996), ("92.9996", "92.9996 to 92.9996")),
        ((93.1, 92.9), ("93.000", "91.729 to 94.271")),
        ((93.01, 92.99, 93.01, 92.99), ("93.000", "92.982 to 93.018")),  # whatever their sum is rounded to
    ],
)
def test_the_digits_of_a_mean_accuracy(values, cells):
    (row,) = estimate_table("statistics", {ACCURACY: mean(values)}, 93.0).rows
    assert row[1:3] == cells
