"""What a run leaves behind for people: text logs and TensorBoard in the 2018 forms, console lines, forecasts."""

import contextlib
import io
import re

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import IMAGES, events, tiny_schedule, train

from phases import Schedule
from training.logs.console import HEADER, duration, epochs_to_target, forecast, seconds_to_end
from training.logs.logbook import TextLogs

PER_STEP = [
    *("memory/allocated_gb", "memory/max_allocated_gb", "times/step", "times/data"),
    *("times/1gpu_images_per_sec", "times/8gpu_images_per_sec"),
    *("losses/xent", "losses/train_1", "losses/train_5", "sizes/batch_total", "net/recv_gbit", "net/transmit_gbit"),
]
SEEN = [60, 120, 180, 240, 280, 320, 360, 400, 440, 480]  # images after each of the 4 + 6 steps
NUMBER = r"\d+\.\d{3}"


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    """Folder and console output of a run with every log on."""
    folder, console = tmp_path_factory.mktemp("logs") / "run", io.StringIO()
    with contextlib.redirect_stdout(console):
        assert train(toy, folder, "--tensorboard", "--print-freq", "1", "--momentum", "0.8") == 0
    return folder, console.getvalue()


@pytest.fixture(scope="module")
def scalars(run):
    accumulator = EventAccumulator(str(run[0]), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}


def test_event_log_has_the_2018_lines(run, toy):
    folder, _ = run
    text = (folder / "event.log").read_text()
    assert text.startswith("~~epoch\thours\ttop1\ttop5\n\n")
    changed = "Dataset changed.\nImage size: {}\nBatch size: {}\nTrain Directory: {}\nValidation Directory: {}\n"
    for size, batch in ((12, 60), (16, 40)):
        assert text.count(changed.format(size, batch, f"{toy}/train", f"{toy}/validation")) == 1
    results = re.findall(r"^~~(\d+)\t(\d+\.\d{5})\t\t(\d+\.\d{3})\t\t(\d+\.\d{3})\n\n", text, re.MULTILINE)
    for found, epoch in zip(results, events(folder), strict=True):
        counts = epoch["validation"]
        top1, top5 = (f"{100 * counts[key] / 60:.3f}" for key in ("correct1", "correct5"))
        assert found == (str(epoch["epoch"]), f"{epoch['clock']['total'] / 3600:.5f}", top1, top5)


def test_lr_changes_are_logged_at_the_first_and_last_step_of_an_epoch(run):
    lines = re.findall(r"^Changing LR from (\S+) to (\S+)$", (run[0] / "event.log").read_text(), re.MULTILINE)
    schedule = tiny_schedule()
    rates = [schedule.lr_at(position) for position in (1 / 4, 1.0, 1 + 1 / 6, 2.0)]
    assert lines == [(str(a), str(b)) for a, b in zip([None, *rates], rates, strict=False)]


def test_verbose_log_adds_steps_and_tests_to_the_events(run):
    verbose = (run[0] / "verbose.log").read_text()
    assert all(line in verbose.splitlines() for line in (run[0] / "event.log").read_text().splitlines())
    both = rf"{NUMBER} \({NUMBER}\)"
    step = rf"^Epoch: \[(\d)\]\[(\d)/(\d)\]\tTime {both}\tLoss \d\.\d{{4}} \(\d\.\d{{4}}\)\tAcc@1 {both}\t"
    step += rf"Acc@5 {both}\tData {both}\tBW {NUMBER} {NUMBER}$"
    places = [tuple(map(int, found)) for found in re.findall(step, verbose, re.MULTILINE)]
    assert places == [(0, s, 4) for s in range(1, 5)] + [(1, s, 6) for s in range(1, 7)]
    losses = [event["losses/xent"] for event in events(run[0], "step")]
    shown = re.findall(r"\tLoss (\S+) \((\S+)\)\t", verbose)
    means = [sum(losses[first : i + 1]) / (i + 1 - first) for i, first in enumerate([0] * 4 + [4] * 6)]
    assert shown == [(f"{loss:.4f}", f"{mean:.4f}") for loss, mean in zip(losses, means, strict=True)]
    tests = re.findall(rf"^Test:  \[(\d)\]\tTime {NUMBER}\tAcc@1 {NUMBER}\tAcc@5 {NUMBER}\t", verbose, re.MULTILINE)
    assert tests == ["0", "1"]


def test_debug_log_has_time_and_place_of_every_record(run):
    text = (run[0] / "debug.log").read_text()
    records = re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (\w+\.py):\d+ ", text, re.MULTILINE)
    assert "logbook.py" in records and len(records) >= 18


def test_a_change_of_the_batch_alone_is_one_line(toy, tmp_path):
    data = "{'ep': 0, 'sz': 12, 'bs': 60, 'val_bs': 60}, {'ep': 1, 'bs': 120, 'keep_dl': True}"
    phases = f"[{data}, {{'ep': (0, 2), 'lr': (0.1, 0)}}]"
    assert train(toy, tmp_path / "run", "--phases", phases) == 0
    text = (tmp_path / "run" / "event.log").read_text()
    assert text.count("Batch size changed: 120\n") == text.count("Dataset changed.") == 1


def test_two_logs_of_different_folders_do_not_mix(tmp_path):
    logs = [TextLogs(folder, resume=False) for folder in (tmp_path / "a", tmp_path / "b") if not folder.mkdir()]
    logs[0].event("only in a")
    for log in logs:
        log.close()
    assert "only in a" in (tmp_path / "a" / "event.log").read_text()
    assert "only in a" not in (tmp_path / "b" / "debug.log").read_text()


def test_tensorboard_has_the_2018_tags_over_images_seen(scalars):
    assert {tag: [step for step, _ in scalars[tag]] for tag in PER_STEP} == dict.fromkeys(PER_STEP, SEEN)
    for tag in ("losses/test_1", "losses/test_5", "times/eval_sec", "epoch"):
        assert [step for step, _ in scalars[tag]] == [240, IMAGES], tag
    assert [step for step, _ in scalars["first"]] == [0]
    assert scalars["sizes/world"] == [(0, 1.0)]
    assert scalars["sizes/image"] == [(0, 12.0), (240, 16.0)] and scalars["sizes/batch"] == [(0, 60.0), (240, 40.0)]
    assert [value for _, value in scalars["sizes/batch_total"]] == [60.0] * 4 + [40.0] * 6


def test_tensorboard_agrees_with_the_run_log(run, scalars):
    epochs = events(run[0])
    top1 = [100 * epoch["validation"]["correct1"] / 60 for epoch in epochs]
    assert [value for _, value in scalars["losses/test_1"]] == pytest.approx(top1)
    eval_seconds = [epoch["seconds"]["eval"] for epoch in epochs]
    assert [value for _, value in scalars["times/eval_sec"]] == pytest.approx(eval_seconds)
    losses = [value for _, value in scalars["losses/xent"]]
    assert [sum(losses[:4]) / 4, sum(losses[4:]) / 6] == pytest.approx([e["train_loss"] for e in epochs], rel=1e-5)


def test_tensorboard_lr_and_momentum_are_those_of_the_steps(scalars):
    schedule = tiny_schedule()
    rates = [schedule.lr_at(position) for position in (1 / 4, 1.0, 1 + 1 / 6, 2.0)]
    assert [step for step, _ in scalars["sizes/lr"]] == [60, 240, 280, 480]
    assert [value for _, value in scalars["sizes/lr"]] == pytest.approx(rates)
    assert [value for _, value in scalars["sizes/momentum"]] == pytest.approx([0.8] * 4)


def test_no_tensorboard_writes_no_event_file(toy, tmp_path):
    assert train(toy, tmp_path / "run", "--epochs", "1") == 0
    assert not list((tmp_path / "run").glob("events.out*"))


def test_console_is_one_plain_line_per_epoch_when_not_a_terminal(run):
    lines = run[1].splitlines()
    assert "\x1b" not in run[1] and "\r" not in run[1]
    start = lines.index(HEADER)
    assert [line.split()[:3] for line in lines[start + 1 : start + 3]] == [["1", "12", "60"], ["2", "16", "40"]]
    assert lines.count(HEADER) == 1 and "ETA" not in run[1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.0"), (95.2, "1:35.2"), (59.97, "1:00.0"), (3599.99, "1:00:00.0"), (7325.5, "2:02:05.5")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("epoch", "done"), [(0, 0.0), (0, 0.5), (1, 0.25), (1, 1.0)])
def test_eta_is_exact_when_a_pixel_has_a_constant_cost(epoch, done):
    cost = [12**2 * 0.5, 16**2 * 0.5]  # seconds of the two epochs at 0.5 s per pixel
    rest = sum(cost[epoch:]) - done * cost[epoch]
    assert seconds_to_end(tiny_schedule(), epoch + done, 0.5) == pytest.approx(rest)


def test_epochs_to_the_target_on_the_line_of_the_last_two_validations():
    assert epochs_to_target([], 94) is None and epochs_to_target([(3, 90.0)], 94) is None
    assert epochs_to_target([(1, 50.0), (3, 80.0), (4, 85.0)], 94) == pytest.approx(9 / 5)
    assert epochs_to_target([(2, 80.0), (4, 84.0)], 94) == pytest.approx(5.0)
    assert epochs_to_target([(3, 85.0), (4, 85.0)], 94) is None  # no progress
    assert epochs_to_target([(3, 85.0), (4, 80.0)], 94) is None
    assert epochs_to_target([(3, 85.0), (4, 95.0)], 94) is None  # reached


def test_forecast_text():
    schedule = Schedule.parse("[{'ep': 0, 'sz': 10, 'bs': 60}, {'ep': (0, 9), 'lr': (0.1, 0)}]")
    assert forecast(schedule, 4.5, 0.1, [], 94) == "ETA 0:45.0"
    assert forecast(schedule, 4.5, 0.1, [(2, 80.0), (3, 90.0)], 95) == "ETA 0:45.0, target 0:00.0"
    assert forecast(schedule, 4.5, 0.1, [(2, 86.0), (3, 90.0)], 94) == "ETA 0:45.0, target 0:05.0"
    slow = forecast(schedule, 4.5, 0.1, [(2, 80.0), (3, 81.0)], 94)
    assert slow == "ETA 0:45.0, target not before the end at this rate"
    assert forecast(schedule, 4.5, 0.1, [(2, 80.0), (3, 90.0)], None) == "ETA 0:45.0"
