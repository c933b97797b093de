"""Reading a run: attempts merged, targets exact, and no log accepted that contradicts itself."""

import json
from pathlib import Path

import pytest
from dawn_script import Script, older_log, resumed_run, scripted_run

from dawn import RunError, read_run
from dawn.runlog.records import Validation
from dawn.runlog.run import divided, spans


def lines_of(folder: Path) -> list[dict]:
    """Without their links, so that a test can change them: a log from before there were chains."""
    texts = (folder / "run.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(text).items() if name != "chain"} for text in texts]


def write_lines(folder: Path, lines: list[dict]) -> Path:
    (folder / "run.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_undisturbed_run(tmp_path):
    run = read_run(scripted_run(tmp_path))
    assert read_run(tmp_path / "run.jsonl") == run
    assert [row.epoch for row in run.rows] == [0, 1, 2, 3, 4]
    assert [phase["size"] for phase in run.phases] == [24, 28, 32]
    assert (run.stop.outcome, run.torn, run.resumes) == ("target_reached", False, ())
    assert run.start is run.latest and run.start.seed == 0
    hit = run.hit()
    assert hit.epoch == 3
    train, rest = 4 * 50 * 0.201, 0.125 + 2 * 0.5  # two phase switches
    assert hit.clock["train"] == pytest.approx(train, abs=1e-9)
    assert run.hours(hit) == pytest.approx((train + rest) / 3600, abs=1e-12)
    assert run.hours(hit, "total") == pytest.approx((train + rest + 4 * 1.5 + 3 * 0.25) / 3600, abs=1e-12)
    assert run.hours(hit, "cold") == pytest.approx(run.hours(hit, "total") + 5.75 / 3600, abs=1e-12)


def test_prepare_train_is_training_with_what_is_done_once_for_the_data_or_the_seed(tmp_path):
    run = read_run(scripted_run(tmp_path))
    for row in run.rows:
        switches = {0: 1, 1: 1, 2: 2, 3: 2, 4: 3}[row.epoch]
        assert row.clock["prepare_train"] == pytest.approx(row.clock["train"] + 0.5 + 0.5 * switches, abs=1e-9)
    assert run.tells_prepare and run.stop.clock["prepare_train"] == run.rows[-1].clock["prepare_train"]


@pytest.mark.parametrize("made", [scripted_run, resumed_run])
def test_an_older_log_is_read_and_its_labels_are_added_up(tmp_path, made):
    whole, old = read_run(made(tmp_path)), read_run(older_log(tmp_path))
    assert whole.tells_prepare and not old.tells_prepare
    for ours, theirs in zip([*old.rows, old.stop], [*whole.rows, whole.stop], strict=True):
        without = {n: s for n, s in theirs.clock.items() if n != "prepare_train"}
        assert ours.clock == without | {"prepare_train": pytest.approx(theirs.clock["prepare_train"] - 0.5, abs=1e-9)}


def test_epoch_seconds_add_up_to_the_clock(tmp_path):
    run = read_run(scripted_run(tmp_path))
    for number, row in enumerate(run.rows, start=1):
        assert sum(sum(r.seconds.values()) for r in run.rows[:number]) == pytest.approx(row.clock["total"], abs=1e-6)


def test_resume_in_the_middle_of_an_epoch(tmp_path):
    whole = read_run(scripted_run(tmp_path / "whole"))
    run = read_run(resumed_run(tmp_path / "resumed"))
    assert [row.attempt for row in run.rows] == [0, 0, 1, 1, 1]
    assert [phase["epoch"] for phase in run.phases] == [0, 2, 4]
    assert [phase["attempt"] for phase in run.phases] == [0, 1, 1]
    (resume,) = run.resumes
    at = resume.resumed_from
    assert (at.epoch, at.step, at.lost_seconds, at.gap_seconds) == (2, 10, 2.01, 31.5)
    more = 0.25 + 0.5 + 0.125  # the extra checkpoint, the second opening of the phase, the second start
    for ours, theirs in zip(run.rows, whole.rows, strict=True):
        extra = more if ours.epoch >= 2 else 0
        assert ours.clock["total"] == pytest.approx(theirs.clock["total"] + extra, abs=1e-9)
        assert ours.clock["train"] == pytest.approx(theirs.clock["train"], abs=1e-9)
        assert ours.seconds["train"] == pytest.approx(theirs.seconds["train"], abs=1e-9)
        assert ours.validation == theirs.validation
    assert run.rows[4].clock["cold"] - run.rows[4].clock["total"] == pytest.approx(5.75, abs=1e-9)


def test_later_attempt_voids_epochs_and_the_stop_of_the_earlier_one(tmp_path):
    first = Script(tmp_path)
    state = first.epoch(0, (100, 200))
    first.epoch(1, (9999, 10000))  # reached the target, but its checkpoint was lost
    first.stop("preempted", exit_code=4)
    went_on = {"epoch": 1, "step": 0, "images_seen": 50000, "lost_seconds": None, "gap_seconds": None}
    second = Script(tmp_path, attempt=1, state=state, resumed_from=went_on)
    second.epoch(1, (300, 400))
    run = read_run(tmp_path)
    assert run.stop is None and run.hit() is None
    assert [row.validation.correct1 for row in run.rows] == [100, 300]


def test_attempt_that_begins_again_voids_everything(tmp_path):
    Script(tmp_path).epoch(0, (9999, 10000))
    Script(tmp_path, attempt=1).epoch(0, (1, 2))
    run = read_run(tmp_path)
    assert [row.attempt for row in run.rows] == [1] and run.resumes[0].resumed_from is None


def test_a_run_cut_at_any_line_is_readable_or_says_why(tmp_path):
    lines = lines_of(resumed_run(tmp_path))
    for length in range(1, len(lines)):
        assert len(read_run(write_lines(tmp_path, lines[:length])).attempts) >= 1


@pytest.mark.parametrize(
    ("metric", "target", "correct", "images", "reached"),
    [
        ("top5", 93.0, 46500, 50000, True),
        ("top5", 93.0, 46499, 50000, False),
        ("top1", 94.0, 9400, 10000, True),
        ("top1", 94.0, 9399, 10000, False),
        ("top1", 93.1, 931, 1000, True),
        ("top1", 64.1, 641, 1000, True),
        ("top1", 33.3, 1, 3, True),
        ("top1", 33.33333333333334, 1, 3, False),
        ("top1", 75.9, 37950, 50000, True),
        ("top1", 75.9, 37949, 50000, False),
        ("top1", 100, 3925, 3925, True),
        ("top1", 0, 0, 1, True),
    ],
)
def test_target_is_exact_on_integers(metric, target, correct, images, reached):
    counts = {"correct1": correct if metric == "top1" else 0, "correct5": correct}
    seen = Validation(**counts, images=images, size=32, weights="model", tta="none", k5=5)
    assert seen.reaches(metric, target) is reached


def test_every_tenth_of_a_percent_is_reached_by_its_own_count():
    """No rounding of a float target can shift the border: t/10 % of 1000 images is t of them."""
    for tenths in range(1, 1001):
        target = float(f"{tenths / 10:.1f}")
        for correct, reached in ((tenths, True), (tenths - 1, False)):
            seen = Validation(correct, correct, 1000, 32, "model", "none", 5)
            assert seen.reaches("top1", target) is reached


def test_hit_takes_the_first_row_and_ignores_epochs_without_evaluation(tmp_path):
    run = read_run(scripted_run(tmp_path, correct=(None, (9500, 9900), None, (9300, 9900), (9600, 9900))))
    assert run.hit().epoch == 1
    assert run.hit("top5", 99.5) is None
    assert [row.epoch for row in run.evaluations] == [1, 3, 4]


def test_run_without_target_never_hits(tmp_path):
    assert read_run(scripted_run(tmp_path, target=None)).hit() is None


def test_torn_line_is_reported(tmp_path):
    scripted_run(tmp_path)
    with open(tmp_path / "run.jsonl", "ab") as file:
        file.write(b'{"event": "st')
    run = read_run(tmp_path)
    assert run.torn and run.stop is not None


def put(line: int, *path: str, value: object):
    def change(lines: list[dict]) -> None:
        *parents, name = path
        place = lines[line]
        for parent in parents:
            place = place[parent]
        place[name] = value

    return change


def drop(line: int, *path: str):
    def change(lines: list[dict]) -> None:
        *parents, name = path
        place = lines[line]
        for parent in parents:
            place = place[parent]
        del place[name]

    return change


BAD_LOGS = {
    "missing field": (drop(0, "seed"), "line 1: 'seed' is missing"),
    "missing nested field": (drop(3, "clock", "dawn"), "line 4: clock: 'dawn' is missing"),
    "wrong type": (put(2, "steps", value="50"), "line 3: 'steps' is '50'"),
    "bool is no count": (put(2, "steps", value=True), "line 3: 'steps' is True"),
    "negative time": (put(2, "seconds", "eval", value=-1.0), "line 3: seconds: 'eval' is -1.0"),
    "huge count": (put(2, "images_seen", value=10**400), "line 3: 'images_seen' is 1000"),
    "huge number": (put(0, "target", value=10**400), "line 1: 'target' is 1000"),
    "no torch version": (drop(0, "versions", "torch"), "line 1: versions: 'torch' is missing"),
    "target beyond 100": (put(0, "target", value=101), "line 1: 'target' is 101"),
    "unknown metric": (put(0, "metric", value="top3"), "line 1: 'metric' is 'top3'"),
    "bad date": (put(0, "utc", value="yesterday\tor so"), "line 1: 'utc' is 'yesterday"),
    "unknown outcome": (put(-1, "outcome", value="won"), "line 10: 'outcome' is 'won'"),
    "more correct than images": (put(2, "validation", "correct5", value=10001), "line 3: validation: 'correct5'"),
    "top-1 above top-5": (put(2, "validation", "correct1", value=9001), "line 3: validation: 'correct1'"),
    "short pair": (put(2, "lr", value=[1.0]), "line 3: 'lr' is"),
    "text in pair": (put(2, "lr", value=[1.0, "x"]), "line 3: lr: 'last' is 'x'"),
    "epoch twice": (lambda lines: lines.insert(3, lines[2]), "line 4: 'epoch' is 0, expected 1"),
    "epoch deleted": (lambda lines: lines.pop(3), "line 4: 'epoch' is 2, expected 1"),
    "epochs swapped": (lambda lines: lines.insert(2, lines.pop(3)), "line 3: 'epoch' is 1, expected 0"),
    "total stands still": (put(3, "clock", "total", value=1.0), "line 4: clock 'total' does not go forward"),
    "dawn goes back": (put(3, "clock", "dawn", value=1.0), "line 4: clock 'dawn' does not go forward"),
    "train goes back": (put(3, "clock", "train", value=1.0), "line 4: clock 'train' goes back"),
    "dawn above total": (put(3, "clock", "dawn", value=1e6), "line 4: the clocks contradict each other"),
    "images seen stand still": (put(3, "images_seen", value=50000), "line 4: 'images_seen' does not grow"),
    "seconds of an epoch edited": (put(3, "seconds", "train", value=1.0), "line 4: clock 'total' went on by"),
    "evaluation shifted to training": (
        lambda lines: lines[2]["seconds"].update(eval=0.5, train=11.0), "line 3: clock 'dawn' went on by"),
    "cold goes its own way": (put(3, "clock", "cold", value=99.0), "line 4: clock 'cold' went on by another time"),
    "prepare_train goes its own way": (
        put(3, "clock", "prepare_train", value=21.5), "line 4: clock 'prepare_train' went on by another time"),
    "prepare_train below train": (
        put(2, "clock", "prepare_train", value=1.0), "line 3: the clocks contradict each other (train <="),
    "images are no steps": (put(2, "steps", value=49), "line 3: 'images' is 50000, but 49 steps of 1000 make 49000"),
    "images seen skip some": (put(3, "images_seen", value=150000), "line 4: 'images_seen' is 150000, not the sum"),
    "size is not the phase's": (put(2, "size", value=32), "line 3: 'size' is 32, 24 in the phase line"),
    "validated on some": (put(2, "validation", "images", value=9999), "line 3: validated on 9999 images"),
    "stop does not add up": (put(-1, "seconds", "eval", value=0.0), "line 10: clock 'total' is"),
    "stop too early": (put(-1, "clock", "total", value=1.0), "line 10: stops before"),
    "line after the stop": (lambda lines: lines.append(lines[-2]), "line 11: comes after the stop"),
    "no start": (lambda lines: lines.pop(0), "line 1: comes before any start line"),
    "second start": (lambda lines: lines.insert(1, lines[0]), "line 2: 'attempt' is 0, expected 1"),
    "foreign attempt": (put(3, "attempt", value=1), "line 4: 'attempt' is 1, expected 0"),
    "resume without a past": (put(0, "resumed_from", value={"epoch": 0, "step": 1} | dict.fromkeys(
        ("lost_seconds", "gap_seconds"))), "line 1: 'resumed_from' in the first attempt"),
    "empty": (lambda lines: lines.clear(), "no start line"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD_LOGS.values(), ids=BAD_LOGS)
def test_log_that_contradicts_itself_is_refused(tmp_path, change, message):
    lines = lines_of(scripted_run(tmp_path))
    change(lines)
    with pytest.raises(RunError) as caught:
        read_run(write_lines(tmp_path, lines))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["run_id", "task", "metric", "target", "total_epochs"])
def test_attempts_of_different_runs_are_refused(tmp_path, name):
    lines = lines_of(resumed_run(tmp_path))
    second = next(line for line in lines if line["event"] == "start" and line["attempt"] == 1)
    second[name] = {"metric": "top5", "target": 93.0, "total_epochs": 9}.get(name, "other")
    with pytest.raises(RunError, match=f"'{name}' is"):
        read_run(write_lines(tmp_path, lines))


def test_resume_beyond_the_log_is_refused(tmp_path):
    lines = lines_of(resumed_run(tmp_path))
    next(line for line in lines if line["attempt"] == 1)["resumed_from"]["epoch"] = 4
    with pytest.raises(RunError, match="resumes at epoch 4, but the log holds 2"):
        read_run(write_lines(tmp_path, lines))


def test_other_events_are_ignored(tmp_path):
    lines = lines_of(scripted_run(tmp_path))
    before = read_run(tmp_path)
    lines.insert(0, {"event": "hello"})
    lines.insert(5, {"event": "loader", "attempt": 99, "anything": [1, {}]})
    assert read_run(write_lines(tmp_path, lines)) == before


@pytest.mark.parametrize("make", [lambda p: p / "none", lambda p: p], ids=["no folder", "no log in it"])
def test_no_log(tmp_path, make):
    with pytest.raises(RunError, match="No such file"):
        read_run(make(tmp_path))


def test_a_cut_epoch_is_the_last_one(tmp_path):
    lines = lines_of(scripted_run(tmp_path, total_epochs=4.65))
    rows = [line for line in lines if line["event"] == "epoch"]
    rows[4]["end"] = 4.65
    run = read_run(write_lines(tmp_path, lines))
    assert [row.until for row in run.rows] == [1, 2, 3, 4, 4.65] and run.start.epochs == 5
    rows[2]["end"] = 2.5
    with pytest.raises(RunError, match="comes after an epoch that was cut short"):
        read_run(write_lines(tmp_path, lines))
    rows[2]["end"] = 3.5
    with pytest.raises(RunError, match=r"'end' is 3\.5\. It must be a number from 2 to 3"):
        read_run(write_lines(tmp_path, lines))


def test_parts_of_an_epoch_add_up_to_its_steps_and_images(tmp_path):
    lines = lines_of(scripted_run(tmp_path))
    row = next(line for line in lines if line["event"] == "epoch" and line["epoch"] == 2)
    part = {"start": 2, "size": 24, "batch_size": 1000, "global_batch_size": 1000, "steps": 25}
    row["parts"] = [part, part | {"start": 2.5, "size": 28}]
    run = read_run(write_lines(tmp_path, lines))
    found = [(row.epoch, row.until, row.size, row.steps) for row in divided(run.rows)]
    assert found[1:4] == [(1, 2, 24, 50), (2, 2.5, 24, 25), (2.5, 3, 28, 25)]
    assert [span.epochs for span in spans(divided(run.rows), lambda row: row.size)] == ["0-2.5", "2.5-4", "5"]
    part["steps"] = 24
    with pytest.raises(RunError, match="'images' is 50000, but 50 steps"):
        read_run(write_lines(tmp_path, lines))
