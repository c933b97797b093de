"""An optimizer of the user's that is none."""

import pytest
from refusals import training_refused
from tiny_run import flags

MINE = """from torch.optim import SGD

def takes_one(groups): return SGD(groups)
def text(groups, config): return "sgd"
def bare(groups, config): return SGD([p for group in groups for p in group["params"]])
"""


@pytest.mark.parametrize(("function", "message"), [
    ("takes_one", "must be callable as takes_one(groups, config)"),
    ("text", "returned a str, not a torch.optim.Optimizer"),
    ("bare", "Hand it the groups as they come"),
])  # fmt: skip
def test_an_optimizer_that_is_none(toy, tmp_path, capsys, function, message):
    """One line, before a run folder is made; a dry run says the same."""
    (tmp_path / "mine.py").write_text(MINE)
    own = ["--optimizer", f"{tmp_path / 'mine.py'}:{function}"]
    for more in ([], ["--dry-run"]):
        training_refused(capsys, flags(toy, tmp_path / "run", *own, *more), "--optimizer ", message)
    assert not (tmp_path / "run").exists()
