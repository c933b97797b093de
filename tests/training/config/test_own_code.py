"""Own code by name: what is not there, and recipes that are none."""

import pytest

from training.config.config import Config
from training.config.own_code import own_code, own_function
from training.config.parser import config_from
from training.config.saved import read_config, save_config
from training.errors import ConfigError

RECIPES = """
from training.config.config import Config

def mine_only(): return Config(phases="toy", model=f"{__file__}:net", momentum=0.5)
def number(): return 3
def needs_one(name): return Config()
def toy(): return Config(phases="toy")
def bad(): return Config(momentum=7)
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "mine.py").write_text(RECIPES)
    (tmp_path / "broken.py").write_text("import nowhere_at_all\n")
    return tmp_path / "mine.py"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{folder}/none.py:f", "there is no file"),
        ("no_such_module:f", "there is no module no_such_module"),
        ("json:no_such_function", "there is no no_such_function in"),
        ("json.decoder:", "not the name of a function"),
        ("{folder}/broken.py:f", "its import fails: ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ],
)
def test_a_name_of_nothing(file, name, message):
    with pytest.raises(ConfigError, match=message):
        own_function("model", name.format(folder=file.parent))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("number", "returned an int, not a Config"),
        ("needs_one", r"must be callable as needs_one\(\)"),
        ("toy", "toy is a recipe of ours"),
        ("bad", "--momentum 7: must be from 0"),
    ],
)
def test_a_recipe_that_is_none(file, function, message):
    with pytest.raises(ConfigError, match=message):
        config_from(["DATA", "--recipe", f"{file}:{function}"])


def test_an_own_recipe_with_a_flag_on_top_and_saved(file, tmp_path):
    config = config_from(["DATA", "--recipe", f"{file}:mine_only", "--seed", "4"])
    assert (config.recipe, config.momentum, config.seed) == ("mine-only", 0.5, 4)
    assert own_code(config)["model"]["name"] == "mine.py:net" and len(own_code(config)["model"]["sha256"]) == 64
    save_config(tmp_path, config)
    file.unlink()
    assert read_config(tmp_path).model == config.model


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": "3"}, "--seed '3': must be a whole number"),
        ({"epochs": 2.5}, "--epochs 2.5: must be a whole number"),
        ({"compile": 1}, "--compile 1: must be True or False"),
        ({"target": 94}, "--target 94: must be a text"),
        ({"flip": "always"}, "--flip 'always': choose from none, random, alternating"),
        ({"loader": "fast"}, "--loader 'fast': choose from auto, dali"),
    ],
)
def test_values_that_a_flag_would_not_take(settings, message):
    with pytest.raises(ConfigError, match=message):
        Config(**settings)
