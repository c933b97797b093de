"""A model of the user's that is none."""

import pytest
from refusals import training_refused
from tiny_run import flags

MINE = """from torch import nn

def takes_nothing(): return nn.Flatten()
def number(classes): return 3
def fails(classes): raise KeyError("no weights")
def seven(classes): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7))
def one_size(classes): return nn.Sequential(nn.Flatten(), nn.Linear(432, classes))
def norm(classes): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, classes))
def frozen(classes): return one_size(classes).requires_grad_(False)
LIST = []
"""


@pytest.mark.parametrize(("function", "message"), [
    ("takes_nothing", "must be callable as takes_nothing(classes)"),
    ("number", "returned an int, not a torch.nn.Module"),
    ("fails", "fails: KeyError"),
    ("seven", "are (1, 7), not (1, 6)"),
    ("one_size", "cannot take images of 16 px"),
    ("frozen", "has no parameter to train"),
    ("LIST", "cannot be called"),
    ("missing", "there is no missing in"),
])  # fmt: skip
def test_a_model_that_is_none(toy, tmp_path, capsys, function, message):
    """One line, before a run folder is made; a dry run says the same."""
    (tmp_path / "mine.py").write_text(MINE)
    own = ["--model", f"{tmp_path / 'mine.py'}:{function}"]
    for more in ([], ["--dry-run"]):
        training_refused(capsys, flags(toy, tmp_path / "run", *own, *more), "--model ", message)
    assert not (tmp_path / "run").exists()


def test_one_image_a_step_in_a_model_with_batch_norm(toy, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(MINE)
    own = ["--model", f"{tmp_path / 'mine.py'}:norm", "--accumulate", "60"]
    phases = ["--phases", "[{'ep': 0, 'sz': 16, 'bs': 60}, {'ep': (0, 1), 'lr': 0.1}]"]
    training_refused(capsys, flags(toy, tmp_path / "run", *own, *phases), "1 image in a part", "'bs' of 120 or more")
    assert not (tmp_path / "run").exists()
