"""How a run ends when a file fails in the middle of it."""

import errno
import os

import pytest
from tiny_run import events, train

NETWORK = """
import os
from pathlib import Path
from torch import nn

class Net(nn.Sequential):
    def forward(self, images):
        if {marker!r} and Path({marker!r}).exists():  # after the first epoch's save
            raise OSError({number}, os.strerror({number}), "/data/train/x.jpg")
        return super().forward(images)

def build(classes):
    return Net(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes))
"""


@pytest.mark.parametrize(("number", "code"), [(errno.EACCES, 2), (errno.ESTALE, 1)])
def test_a_file_that_fails_in_the_middle_of_a_run(toy, tmp_path, capsys, number, code):
    """Bad input where the next try would fail as well, else a crash; one line, the traceback in the folder, and what
    was saved stays."""
    run, own = tmp_path / "run", tmp_path / "net.py"
    own.write_text(NETWORK.format(marker=str(run / "checkpoints"), number=number))
    assert train(toy, run, "--model", f"{own}:build") == code
    err = capsys.readouterr().err
    assert f"error: /data/train/x.jpg: {os.strerror(number)}. " in err and "Traceback" not in err
    (stop,) = events(run, "stop")
    assert (stop["outcome"], stop["exit_code"], stop["epoch"]) == ("crashed", code, 1)
    assert "Traceback" in (run / "debug.log").read_text() and len(list((run / "checkpoints").glob("*.pt"))) == 1
