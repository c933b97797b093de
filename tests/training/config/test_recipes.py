"""Recipes as a whole: their documentation, the dry run's parameter groups and arithmetic, smaller images."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from recipe_sources import resolved

from phases import PRESETS, PhaseError, Schedule
from phases.table import segments
from training.__main__ import main
from training.config.config import Config
from training.config.recipes.registry import FACTS, RECIPES, recipe_config, recipe_facts, recipes_markdown
from training.errors import ConfigError
from training.models.build import build_model
from training.models.flops import multiply_adds
from training.runs.dry_run import costs, group_rows, model_report

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_of_recipes_is_what_the_code_says():
    text = (ROOT / "docs" / "recipes.md").read_text()
    assert text == recipes_markdown() + "\n", "python -m training recipes --markdown > docs/recipes.md"


def test_the_page_has_a_row_and_a_section_with_every_fact_of_each_recipe():
    text = recipes_markdown()
    for name in RECIPES:
        row = next(line for line in text.splitlines() if line.startswith(f"| [`{name}`](#{name}) |"))
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        facts = recipe_facts(name)
        assert set(facts) == {"Summary", *FACTS} and all(facts.values())
        assert facts["Expected"] in row and facts["Hardware"] in row
        assert facts["Source"] in section and facts["Differs"] in section and facts["Command"] in section
        assert f"--recipe {name}" in facts["Command"]


def test_every_preset_is_a_recipe_and_every_recipe_has_its_preset():
    assert {recipe_config(name).phases for name in RECIPES} == set(RECIPES) == set(PRESETS)


# ---- dry run


@pytest.mark.parametrize(
    ("name", "published"), [("resnet18", 1.81e9), pytest.param("resnet50", 4.09e9, marks=pytest.mark.slow)]
)
def test_multiply_adds_are_the_published_ones(name, published):
    """At 224 px, of torchvision's tables; four times the pixels, four times as many."""
    model = build_model(Config(model=name), 1000).to("meta").eval()
    assert multiply_adds(model, 224) == pytest.approx(published, rel=5e-3)
    head = model.fc.in_features * 1000
    assert multiply_adds(model, 448) - head == 4 * (multiply_adds(model, 224) - head)


@pytest.mark.slow
def test_costs_are_images_times_arithmetic_of_each_size():
    config, schedule = resolved("imagenet18-1")
    model = build_model(replace(config, model="resnet18"), 1000)
    found = costs(model, schedule, 8, 1281167)
    assert [(cost.start, cost.end, cost.size) for cost in found] == [(0, 13, 128), (13, 25, 224), (25, 28, 288)]
    assert sum(cost.images for cost in found) == sum(item.images for item in segments(schedule, 8, 1281167))
    for cost in found:
        assert cost.flops == 6 * cost.multiply_adds * cost.images
        assert cost.multiply_adds == multiply_adds(model, cost.size)
    unknown = costs(model, schedule, 8, None)
    assert [cost.images for cost in unknown] == [cost.flops for cost in unknown] == [None] * 3


def test_the_gpu_schedule_of_cifar10_takes_200_steps():
    """airbench94_muon's; cifar10-94 takes 700."""
    schedules = [Schedule.parse(recipe_config(name).phases) for name in ("cifar10-94-gpu", "cifar10-94")]
    assert [schedule.total_epochs * (50_000 // schedule.data[0].bs) for schedule in schedules] == [200, 700]


def test_groups_name_every_trained_parameter_once():
    config, _ = resolved("torchvision-v2")
    model = build_model(config, 1000)
    rows = group_rows(config, model)
    assert [row[0] for row in rows] == ["weights", "norms and biases", "last linear layer"]
    assert sum(int(row[3].replace(",", "")) for row in rows) == sum(p.numel() for p in model.parameters()) == 25_557_032
    assert sum(int(row[2]) for row in rows) == 161
    assert [row[1] for row in rows] == ["SGD"] * 3 and [row[5] for row in rows] == ["2e-05", "0", "2e-05"]
    muon = group_rows(*(lambda c: (c, build_model(c, 10)))(recipe_config("cifar10-94")))
    assert [row[:2] for row in muon] == [
        ("convolutions", "Muon"),
        ("norms and biases", "SGD"),
        ("last linear layer", "SGD"),
    ]


@pytest.mark.slow
def test_dry_run_without_the_dataset_estimates_for_the_presets_images(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert main(["/nowhere", "--recipe", "torchvision-v1", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "MISSING: no dataset at /nowhere" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["norms", "and", "biases", "SGD", "107", "54,120", "1", "0.0001"] in rows
    assert "of resnet50 with 1,000 classes:\n" in out
    images = 90 * (1281167 // 256) * 256
    assert ["0-90", "224", f"{images:,}", "4.089", "2,829"] in rows
    assert f"estimate: {images:,} images, 2.829e+18 FLOP to train" in out


def test_dry_run_of_what_cannot_be_built_is_one_line(capsys):
    assert main(["/nowhere", "--recipe", "torchvision-v1", "--model", "resnet5", "--dry-run"]) == 2
    assert "error: --model resnet5: unknown model." in capsys.readouterr().err
    config, schedule = resolved("cifar10-94")
    with pytest.raises(ConfigError, match="cannot take images of 24 px"):
        model_report(replace(config, model="inception_v3"), schedule, 1, None, 10)


@pytest.mark.slow
def test_the_arithmetic_costs_no_real_tensor():
    model = build_model(Config(model="resnet50"), 1000)
    costs(model, Schedule.parse("imagenet18-1"), 8, None)
    assert all(p.device == torch.device("meta") for p in model.parameters())


# ---- smaller images


def test_size_factor_scales_training_and_validation_sizes():
    schedule = Schedule.parse("alibaba-1").with_size_factor(0.25)
    assert [(phase.sz, phase.val_sz) for phase in schedule.data] == [(32, 32), (32, 32), (56, 56), (72, 72)]
    assert Schedule.parse("toy").with_size_factor(0.1).data == Schedule.parse("toy").data  # small ones stay
    assert Schedule.parse("imagenet18-1").with_size_factor(1.0).data == Schedule.parse("imagenet18-1").data
    assert Schedule.parse(schedule.phases) == schedule
    with pytest.raises(PhaseError, match="size factor"):
        schedule.with_size_factor(0)


def test_size_factor_is_a_flag(capsys):
    arguments = [
        "/nowhere",
        "--recipe",
        "imagenet18-1",
        "--model",
        "timm/test_resnet",
        "--size-factor",
        "0.25",
        "--dry-run",
    ]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    rows = [line.split()[:2] for line in out.splitlines()]
    assert all([epochs, size] in rows for epochs, size in (("0-13", "32"), ("13-25", "56"), ("25-28", "72")))
    assert main([*arguments, "--size-factor", "0"]) == 2
    assert "error: --size-factor 0.0: must be from 0.01 to 16" in capsys.readouterr().err
