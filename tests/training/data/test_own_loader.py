"""A loader of the user's that is none."""

import pytest
from refusals import training_refused
from tiny_run import flags

MINE = """from training.data.memory import open_loader

def takes_one(config): return None
def nothing(config, schedule, dataset, env, dtype): return None

class Short:
    train_images = validation_images = 60
    steps = 1
    set_phase = validation = first_images = lambda self, value=0: None
    def train(self, epoch, start=0): yield None
    def close(self): pass

def short(*arguments): return Short()

def shifted(config, schedule, dataset, env, dtype):
    loader = open_loader(config, schedule, dataset, env, dtype)
    train = loader.train
    loader.train = lambda *place: (batch._replace(targets=batch.targets + 6) for batch in train(*place))
    return loader

def shifted_validation(config, schedule, dataset, env, dtype):
    loader = open_loader(config, schedule, dataset, env, dtype)
    validation = loader.validation
    loader.validation = lambda: (batch._replace(targets=batch.targets - 1) for batch in validation())
    return loader
"""


@pytest.mark.parametrize(("function", "message"), [
    ("takes_one", "must be callable as takes_one(config"),
    ("nothing", "it has no train_images"),
    ("short", "train_images is 60, the dataset has 240"),
    ("shifted", "a target outside of 0 to 5"),
    ("shifted_validation", "a target outside of 0 to 5, in the validation"),
])  # fmt: skip
def test_a_loader_that_is_none(toy, tmp_path, capsys, function, message):
    """One line, before a run folder is made; a dry run says the same."""
    (tmp_path / "mine.py").write_text(MINE)
    own = ["--loader", f"{tmp_path / 'mine.py'}:{function}"]
    for more in ([], ["--dry-run"]):
        training_refused(capsys, flags(toy, tmp_path / "run", *own, *more), "--loader ", message)
    assert not (tmp_path / "run").exists()
