"""Runs with a planted fault, each named by `python -m training diagnose`."""

import json
import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import planted_faults
import pytest
import torch
from grey_image import tree_with_a_grey_image
from refusals import training_refused
from small_disk import small_disk
from tiny_run import train
from torch import nn

from data_prep.sources.toy import prepare_toy
from training.__main__ import main
from training.diagnosis.causes import Facts, Growth, causes, outside
from training.diagnosis.dissection import LOSS, Call, Culprit, Operation, Stats, Trace, culprit_of
from training.diagnosis.findings import logged_growth, own_growth
from training.diagnosis.log import Logged, good_checkpoint, read_ended
from training.diagnosis.replay import largest, replayed
from training.distributed.env import open_env
from training.engine.trainer import anomaly_warnings_told

PLANTED = Path(planted_faults.__file__)
FP16 = ("--precision", "fp16")
ONE_RATE = "[{'ep': 0, 'sz': 12, 'bs': 60}, {'ep': (0, 2), 'lr': %s}]"
THREE_EPOCHS = "[{'ep': 0, 'sz': 12, 'bs': 60}, {'ep': 1, 'sz': 16, 'bs': 40}, {'ep': (0, 3), 'lr': (0.1, 0.0)}]"
NAN = ("--inject-fault", '{"kind": "nan", "epoch": 1, "step": 3}')


def planted(name: str) -> tuple[str, str]:
    return "--model", f"{PLANTED}:{name}"


def diverge(toy, folder, *more: str) -> None:
    assert train(toy, folder, "--shift", "0", *more) == 4


def diagnosis(folder, capsys) -> list[str]:
    """What it prints, after the line that says from where it replays."""
    capsys.readouterr()
    assert main(["diagnose", str(folder)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("replaying from ") and out[-1] == str(folder / "diagnosis.md")
    return out[1:-1]


def others(folder) -> dict[str, bytes]:
    """The files of a run but the diagnosis."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.stem != "diagnosis")
    return {str(path): path.read_bytes() for path in files}


FAULTS = {  # name: more flags, where it is found, the cause
    "root": (
        (),
        "`sqrt` in `fault` (Root), forward",
        "sqrt of a negative number: the smallest input of sqrt is -0.1, in `fault`",
    ),
    "root_at_zero": (
        (),
        "in `fault` (RootAtZero), backward pass (SqrtBackward0)",
        "division by zero: a divisor is 0, in the backward pass of sqrt, in `fault`",
    ),
    "logarithm": ((), "`log` in `fault` (Logarithm)", "log of zero: the smallest input of log is 0, in `fault`"),
    "likelihood": ((), "`log` in `1` (LogLikelihood)", "log of zero: the smallest input of log is 0, in `1`"),
    "uninitialised": (
        (),
        "`weight` of `fault` (Conv2d) had values that were not finite",
        "an uninitialised layer: 4.69 % of the values of `weight` were not finite",
    ),
    "large": (
        FP16,
        "`convolution` in `fault.wide` (Conv2d), forward",
        "the range of fp16: in fp32 the same step is finite, with values up to 3.388e+05 in `fault.wide`",
    ),
    "steep": (
        (*FP16, "--epochs", "8"),
        "in `fault` (Steep), backward pass",
        "the range of fp16: in fp32 the same step is finite, and the gradients",
    ),
    "batch_of_one": (
        ("--accumulate", "60", "--phases", ONE_RATE % 0.01),
        "`std` in `fault`",
        "a batch of one with batch norm: `fault` (BatchNormOfMine)",
    ),
    "steps_without_end": (  # 0.1 times 100
        ("--phases", ONE_RATE % 10.0),
        "), forward",
        "a learning rate too high: at 10, the largest value of `",
    ),
}
QUICK = ("root_at_zero", "steps_without_end", "uninitialised", "large")


@pytest.mark.filterwarnings("ignore:std")
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in FAULTS])
def test_a_planted_fault_is_named(toy, tmp_path, capsys, name):
    """The first line says where, the next the most likely cause; nothing else in the run's folder changes."""
    folder, (more, place, cause) = tmp_path / "run", FAULTS[name]
    diverge(toy, folder, *planted(name), *more)
    before = others(folder)
    lines = diagnosis(folder, capsys)
    assert place in lines[0] and lines[1].startswith(f"cause 1: {cause}")
    assert others(folder) == before
    text = (folder / "diagnosis.md").read_text()
    assert lines[1].removeprefix("cause 1: ") in text and ".jpg`" in text and "| precision | fp" in text
    assert (folder / "diagnosis.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_an_image_of_one_value_is_named_with_its_file(toy, tmp_path, capsys):
    root, grey = tree_with_a_grey_image(toy, tmp_path / "toy")
    diverge(root, tmp_path / "run", "--loader", "threads", "--workers", "1", *planted("one_value"))
    lines = diagnosis(tmp_path / "run", capsys)
    assert "`div` in `0` (Standardised)" in lines[0]
    assert lines[1].startswith("cause 1: a bad image: image ") and lines[2].startswith("cause 2: division by zero")
    named = [
        line for line in (tmp_path / "run" / "diagnosis.md").read_text().splitlines() if "one value in all" in line
    ]
    assert f"`train/ring/{grey.name}`: has one value in all pixels, its part of the result is not finite" in named[-1]


def test_a_run_with_only_a_copy_of_the_dataset_is_diagnosed(toy, tmp_path, capsys):
    """DATA-sz/12 and no DATA."""
    copy = tmp_path / "data-sz" / "12"
    copy.parent.mkdir()
    copy.symlink_to(toy)
    phases = "[{'ep': 0, 'sz': 12, 'bs': 60, 'trndir': '-sz/12'}, {'ep': (0, 1), 'lr': 0.1}]"
    diverge(tmp_path / "data", tmp_path / "run", *planted("root"), "--phases", phases)
    assert "`sqrt` in `fault`" in diagnosis(tmp_path / "run", capsys)[0]
    assert (tmp_path / "run" / "diagnosis.png").is_file()


@pytest.mark.slow
def test_the_replay_begins_at_the_last_good_checkpoint(toy, tmp_path, capsys):
    """The fault is one that the log tells."""
    folder = tmp_path / "run"
    diverge(toy, folder, *NAN)
    lines = diagnosis(folder, capsys)
    assert lines[0].startswith("epoch 2, step 4:") and "`mul` in the loss" in lines[0]
    assert lines[1].startswith("cause 1: an injected fault")
    assert "| replayed | 3 steps before it, on cpu |" in (folder / "diagnosis.md").read_text()


def test_a_compiled_run_is_replayed_from_its_checkpoint_in_eager_code(toy, tmp_path, capsys, monkeypatch):
    """Its checkpoint says --compile. PyTorch's own switch spares the run of this test the compiler."""
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    diverge(toy, tmp_path / "run", *NAN, "--compile")
    monkeypatch.delenv("TORCHDYNAMO_DISABLE")
    lines = diagnosis(tmp_path / "run", capsys)
    assert lines[0].startswith("epoch 2, step 4:") and lines[1].startswith("cause 1: an injected fault")
    assert "| replayed | 3 steps before it" in (tmp_path / "run" / "diagnosis.md").read_text()
    ended = read_ended(tmp_path / "run")
    with open_env(ended.config) as env, replayed(ended, None, env) as bad:
        assert bad.job.state.forward is bad.job.state.model and not bad.job.config.compile


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--loader", "packed", "--workers", "1", "--accumulate", "2")])
def test_the_replay_has_the_losses_of_the_run(toy, tmp_path, more):
    """Bit for bit, with mixed images, an average and the whitening of the first layer."""
    mixing = ("--mixup", "0.4", "--cutmix", "1", "--ema-decay", "0.9", "--ema-every", "2", "--print-freq", "1")
    diverge(toy, tmp_path / "run", *NAN, *mixing, *more)
    ended = read_ended(tmp_path / "run")
    with open_env(ended.config) as env, replayed(ended, good_checkpoint(ended.folder, pytest.fail), env) as bad:
        assert (bad.epoch, bad.step, bad.first) == (1, 3, False)
        assert [past.loss for past in bad.past] == [line.loss for line in ended.logged[4:]]


@pytest.mark.slow
@pytest.mark.parametrize(("every", "steps"), [(2, 3), (3, 13)])
def test_an_average_and_muon_are_replayed_from_the_newest_checkpoint(toy, tmp_path, capsys, every, steps):
    """Also where no checkpoint was due before the fault in the third epoch."""
    fault = ("--inject-fault", json.dumps({"kind": "nan", "epoch": 2, "step": 3}))
    average = ("--ema-decay", "0.9", "--ema-every", "2", "--optimizer", "muon", "--phases", THREE_EPOCHS)
    diverge(toy, tmp_path / "run", *average, *fault, "--checkpoint-every", str(every))
    lines = diagnosis(tmp_path / "run", capsys)
    assert lines[0].startswith("epoch 3, step 4:") and lines[1].startswith("cause 1: an injected fault")
    assert f"| replayed | {steps} steps before it" in (tmp_path / "run" / "diagnosis.md").read_text()


def test_an_infinite_loss_with_finite_gradients_is_replayed_to_before_its_update(toy, tmp_path, capsys):
    """The loss is read after the update."""
    diverge(toy, tmp_path / "run", *planted("no_first_class"))
    ended = read_ended(tmp_path / "run", 1)
    with open_env(ended.config) as env, replayed(ended, None, env) as bad:
        assert (bad.epoch, bad.step, bad.first) == (0, 0, True)
        assert torch.equal(largest(list(bad.job.state.model.parameters())), bad.weights)
    assert diagnosis(tmp_path / "run", capsys)[0].startswith("epoch 1, step 1:")


@pytest.mark.slow
def test_damaged_and_missing_checkpoints_are_passed_over(toy, tmp_path, capsys):
    folder = tmp_path / "run"
    diverge(toy, folder, *NAN)
    for path in (folder / "checkpoints").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-100])
    capsys.readouterr()
    assert main(["diagnose", str(folder)]) == 0
    printed = capsys.readouterr()
    assert "damaged" in printed.err and "from the first step" in printed.out and "epoch 2, step 4:" in printed.out
    shutil.rmtree(folder / "checkpoints")
    assert diagnosis(folder, capsys)[0].startswith("epoch 2, step 4:")


def test_torchs_warning_of_an_anomaly_is_kept():
    kept: list[str] = []
    root = torch.tensor([-1.0], requires_grad=True)
    anomaly = pytest.raises(RuntimeError, match="nan")
    told = anomaly_warnings_told(kept.append)
    with warnings.catch_warnings(record=True) as shown, told, anomaly, torch.autograd.detect_anomaly():
        root.sqrt().sum().backward()
    assert not shown
    assert len(kept) == 1 and "Traceback of forward call" in kept[0] and "test_diagnosis.py" in kept[0]


@pytest.mark.slow
def test_a_run_that_torchs_anomaly_mode_ended_is_diagnosed(toy, tmp_path, capsys):
    diverge(toy, tmp_path / "run", *planted("root_at_zero"), "--detect-anomaly")
    assert "Function 'NativeBatchNormBackward0' returned nan" in capsys.readouterr().out  # behind the infinite gradient
    assert "Traceback of forward call" in (tmp_path / "run" / "debug.log").read_text()  # as the message says
    assert "backward pass (SqrtBackward0)" in diagnosis(tmp_path / "run", capsys)[0]


@pytest.mark.parametrize(("fault", "name"), [(planted_faults.Logarithm, "log"), (planted_faults.RootAtZero, "div")])
def test_the_hooks_name_the_same_module_as_the_operations(fault, name):
    """For code whose operations PyTorch does not show. A mask of minus infinity is no fault."""
    model, trace = planted_faults.Body(fault(), 3), Trace()
    with trace.of(model):
        masked = model(torch.randn(4, 3, 6, 6)).masked_fill(torch.tensor([True, False, False]), float("-inf"))
        masked[:, 1:].sum().backward()
    shown = culprit_of(trace)
    assert (shown.kind, shown.name, shown.operation.name) == ("operation", "fault", name)
    trace.first = None
    hidden = culprit_of(trace)
    assert (hidden.name, hidden.is_backward) == ("fault", shown.is_backward)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_log_of_zero_in_a_loss_is_named():
    model, trace = planted_faults.Body(nn.Identity(), 3), Trace()
    with trace.of(model):
        probabilities = (1e6 * model(torch.randn(4, 3, 6, 6))).softmax(1)
        (-torch.log(probabilities).mean()).backward()
    culprit = culprit_of(trace)
    (cause,) = causes(Facts(culprit, "fp32", 0.1, 4, [], [], [], {}))
    assert (culprit.name, culprit.operation.name) == (LOSS, "log")
    assert (cause.name, cause.evidence) == ("log of zero", "the smallest input of log is 0, in the loss")


def test_growth_is_by_orders_of_magnitude():
    assert not Growth("x", 9, 1.0, 99.0, 100).is_large and Growth("x", 9, 1.0, 100.0, 100).is_large
    assert Growth("x", 9, 1.0, float("nan"), 100).is_large and not Growth("x", 9, 0.0, 1.0, 100).is_large


@pytest.fixture(scope="module")
def late(toy, tmp_path_factory):
    """A bad step, as if it were the third of epoch 31, with four steps an epoch."""
    folder = tmp_path_factory.mktemp("late") / "run"
    diverge(toy, folder, *planted("root"), "--phases", "[{'ep': 0, 'sz': 12, 'bs': 60}, {'ep': (0, 40), 'lr': 0.1}]")
    with open_env(read_ended(folder).config) as env, replayed(read_ended(folder), None, env) as bad:
        return replace(bad, epoch=30, step=2, first=False)


@pytest.mark.parametrize(("logged", "told"), [
    ([(0, 0, 2.3), (0, 1, 500), (29, 3, 2), (30, 0, 2.1)], ["from 2 to 2.1 in 1 step"]),  # the first two: long ago
    ([(25, 1, 2), (30, 0, 500), (30, 1, 400)], ["from 2 to 500 in 19 steps"]),
    ([(30, 1, 2), (30, 2, 500), (31, 0, 600)], []),  # not before the bad step
])  # fmt: skip
def test_the_logged_loss_grows_in_the_last_steps_only(late, logged, told):
    found = logged_growth([Logged(*line) for line in logged], late)
    assert [str(growth) for growth in found] == [f"the logged loss went {words}" for words in told]


def test_of_a_module_only_parameters_grow_that_did_not_begin_at_zero(late):
    """The bias begins at 0, and the statistics of a batch norm follow its input."""
    initial = {"weight": stats(1, 1, 1), "bias": stats(0, 0, 0), "running_var": stats(1, 1, 1)}
    own = {"weight": stats(0, 200, 0), "bias": stats(0, 50, 0), "running_var": stats(0, 1e6, 0)}
    culprit = Culprit("output", Call("stem.1", "BatchNorm2d", 0, 0, None, own, 60, 0, 0), None)
    (growth,) = own_growth(late, culprit, initial)
    assert str(growth) == "the largest value of `stem.1.weight` went from 1 to 200 in 122 steps"
    assert own_growth(late, culprit, {"bias": initial["bias"], "running_var": initial["running_var"]}) == []


def stats(low: float, high: float, smallest: float) -> Stats:
    return Stats(low, (low + high) / 2, high, 0.0, smallest, "float32")


@pytest.mark.parametrize(("name", "arguments", "cause"), [
    ("log", [stats(0, 1, 0)], "log of zero"),
    ("log", [stats(-2, 1, 0.1)], "log of a negative number"),
    ("log1p", [stats(-1, 1, 0)], "log of zero"),
    ("log1p", [stats(-0.5, 1, 0)], ""),
    ("rsqrt", [stats(0, 1, 0)], "division by zero"),
    ("div", [stats(1, 2, 1), 0.0], "division by zero"),
    ("div", [stats(1, 2, 1), stats(-1, 1, 0.1)], ""),
    ("pow", [stats(0, 2, 0), -1.0], "division by zero"),
    ("pow", [stats(-1, 2, 0), 0.5], "a power of a negative number"),
    ("exp", [stats(0, 1000, 0)], "an overflow of exp"),
    ("convolution", [stats(0, 1, 0), stats(0, 1, 0)], ""),
])  # fmt: skip
def test_an_operation_outside_of_its_range_is_told_by_its_arguments(name, arguments, cause):
    assert outside(Operation(name, arguments, None, "", [])).partition(":")[0] == cause


# bad input


def test_what_cannot_be_diagnosed_is_refused(toy, tmp_path, capsys):
    """Nothing there, and a run whose code has changed."""
    training_refused(capsys, ["diagnose", str(tmp_path)], "no run there")
    mine = tmp_path / "mine.py"
    mine.write_bytes(PLANTED.read_bytes())
    diverge(toy, tmp_path / "run", "--model", f"{mine}:root")
    capsys.readouterr()
    mine.write_bytes(PLANTED.read_bytes() + b"\n")
    training_refused(capsys, ["diagnose", str(tmp_path / "run")], "mine.py", "Restore it")
    mine.write_bytes(PLANTED.read_bytes())
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"data": str(tmp_path / "gone")}))
    training_refused(capsys, ["diagnose", str(tmp_path / "run")], "gone")
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    (tmp_path / "run" / "run.jsonl").unlink()
    training_refused(capsys, ["diagnose", str(tmp_path / "run")], "run.jsonl: No such file")
    assert not (tmp_path / "run" / "diagnosis.md").exists()


def test_a_folder_that_cannot_be_written_is_told_before_the_replay(toy, tmp_path, capsys):
    diverge(toy, tmp_path / "run", *planted("root"))
    with small_disk(tmp_path / "disk", "4m") as disk:
        shutil.copytree(tmp_path / "run", disk / "run")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        capsys.readouterr()
        training_refused(capsys, ["diagnose", str(disk / "run")], f"{disk / 'run'}: cannot be written", "Copy it")


@pytest.mark.parametrize("other", [("--compile",), ("--precision", "fp16")])
def test_anomaly_mode_is_refused_with_what_would_mislead_it(tmp_path, capsys, other):
    training_refused(capsys, [str(tmp_path), "--detect-anomaly", *other], "--detect-anomaly: ", other[0][2:])


@pytest.mark.slow
def test_another_dataset_and_a_run_that_did_not_diverge_are_refused(toy, tmp_path, capsys):
    assert train(toy, tmp_path / "well") == 0
    capsys.readouterr()
    training_refused(capsys, ["diagnose", str(tmp_path / "well")], "did not diverge, it ended as finished")
    other = tmp_path / "toy"
    prepare_toy(other, images=120)
    diverge(toy, tmp_path / "run", *planted("root"))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"data": str(other)}))
    capsys.readouterr()
    training_refused(capsys, ["diagnose", str(tmp_path / "run")], "another dataset than the run's")
