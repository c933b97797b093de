"""The functions for Python: bad input, and a run that crashes."""

import subprocess
import sys

import pytest
from tiny_run import flags

from training import Config, ConfigError, evaluate, recipe, resumed, train
from training.config.parser import config_from


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: train(Config()), "no dataset folder given"),
        (lambda: train(Config(data="nowhere", phases="toy")), "nowhere"),
        (lambda: train(Config(data="nowhere", phases="[]")), "phases"),
        (lambda: evaluate("nowhere"), "there is no such folder"),
        (lambda: resumed("nowhere"), "there is no such folder"),
        (lambda: recipe("toys"), "Did you mean 'toy'"),
        (lambda: recipe("toy", sede=1), "unknown setting 'sede'"),
    ],
)
def test_bad_input_is_a_config_error(action, message):
    with pytest.raises(ConfigError, match=message):
        action()


def test_a_run_that_misses_its_target_is_returned(toy, tmp_path, capsys):
    run = train(config_from(flags(toy, tmp_path / "run", "--target", "100")))
    counts = evaluate(tmp_path / "run")
    assert len(run.rows) == 2 and counts.percent("top1") == run.rows[-1].validation.percent("top1")
    with pytest.raises(ConfigError, match="holds another run"):
        train(config_from(flags(toy, tmp_path / "run")))


def test_a_crash_raises_its_error(toy, tmp_path, capsys):
    """Of a network that only fails in its fifth batch of twenty and more, which no check before the run sees."""
    code = "from torch import nn\n\nclass Net(nn.Sequential):\n    batches = 0\n    def forward(self, x):\n"
    code += "        self.batches += self.training and len(x) > 20\n        assert self.batches < 5, 'mine'\n"
    code += "        return super().forward(x)\n\n"
    code += "def net(classes):\n    return Net(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes))\n"
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(AssertionError, match="mine"):
        train(config_from(flags(toy, tmp_path / "run", "--model", f"{tmp_path / 'mine.py'}:net")))


def test_importing_the_package_is_light():
    code = "import sys, training; training.Config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
