"""A run folder that was written before the packages became rooms (commit ccf8b04) is still a run."""

import json
import shutil
from pathlib import Path

from run_toy import events, refuse, run

from data_prep.sources.toy import prepare_toy
from dawn.__main__ import main as dawn
from training.engine.checkpoint import load
from training.engine.state import fingerprint

OLD = Path(__file__).parents[1] / "fixtures" / "run_before_rooms"  # killed before step 3 of epoch 1
# of the model in its checkpoint, as commit ccf8b04 computed it
SHA256 = "f33a645cf15a7999b1ee4381a024109228c0e40b09e1660c54086a4d27af7e06"

MACHINE = ("warning: device was ", "warning: cpu_capability was ")  # where the processor is not that of the fixture


def test_a_run_from_before_the_rooms_resumes(tmp_path, capsys):
    """Bit for bit was tried by hand: the two ends of one run, by the code before and after, had equal hashes. Other
    processors round otherwise, so here it must resume from exactly these weights and end as a run that passes."""
    folder = shutil.copytree(OLD, tmp_path / "run")
    prepare_toy(tmp_path / "toy", images=240)
    settings = json.loads((folder / "config.json").read_text()) | {"data": str(tmp_path / "toy")}
    (folder / "config.json").write_text(json.dumps(settings))
    assert fingerprint(load(folder, warn=refuse)["state"]["model"]) == SHA256
    ended = run("--resume", folder)
    assert ended.code == 3 and not [line for line in ended.err.splitlines() if not line.startswith(MACHINE)], ended.err
    resumed = events(folder, "start")[-1]
    assert resumed["attempt"] == 1 and len(events(folder, "epoch")) == 3
    assert dawn(["check", str(folder / "run.jsonl")]) == 0
    assert "3 epochs in 2 attempts" in capsys.readouterr().out
