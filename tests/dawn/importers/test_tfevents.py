"""Event files: every scalar that TensorBoard's own accumulator finds, or a verdict; never a shorter list."""

import gzip
import math
import os
import struct
from pathlib import Path

import event_files as ef
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_ndarray, make_tensor_proto
from torch.utils.tensorboard import SummaryWriter

from dawn.importers.tfevents_file import MAX_RECORD_BYTES, Truncated, is_event_file, read_records
from dawn.importers.tfevents_scalars import EventLog, read_event_log
from dawn.importers.tfevents_tables import evaluations
from dawn.runlog.writer import RunError
from training.logs.tensorboard import Scalars


def reference(path: Path) -> dict[str, list[tuple[float, int, float]]]:
    """By tag, from TensorBoard's accumulator without its sampling: (wall time, step, value)."""
    accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    tags = accumulator.Tags()
    found = {tag: [(s.wall_time, s.step, s.value) for s in accumulator.Scalars(tag)] for tag in tags["scalars"]}
    numeric = (tag for tag in tags["tensors"] if accumulator.SummaryMetadata(tag).plugin_data.plugin_name == "scalars")
    for tag in numeric:
        found[tag] = [(t.wall_time, t.step, float(make_ndarray(t.tensor_proto))) for t in accumulator.Tensors(tag)]
    return {tag: sorted(scalars) for tag, scalars in found.items()}


def by_tag(log: EventLog) -> dict[str, list[tuple[float, int, float]]]:
    tags = {scalar.tag for scalar in log.scalars}
    return {tag: sorted((s.wall_time, s.step, s.value) for s in log.of(tag)) for tag in tags}


def test_every_scalar_of_a_2018_file(tmp_path):
    path = ef.write(tmp_path / ef.NAME, ef.run_2018())
    found = by_tag(read_event_log(path))
    assert found == reference(path) and len(found) == 10
    assert found["first"][0][0] == ef.BEGIN != found["first"][0][2]  # float32 holds a time to 128 s


def test_every_scalar_of_torchs_writer_in_all_its_forms(tmp_path):
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(30):
            writer.add_scalar("old", step / 7, step)
            writer.add_scalar("new", step / 7, step, new_style=True)
            writer.add_scalar("double", step / 7, step, new_style=True, double_precision=True)
        writer.add_text("note", "text is no scalar", 1)
        writer.add_histogram("histogram", np.arange(9.0), 1)
    (path,) = tmp_path.iterdir()
    found = by_tag(read_event_log(path))
    assert found == reference(path) and set(found) == {"old", "new", "double"}
    assert [value for _, _, value in found["double"]] == [step / 7 for step in range(30)]
    assert found["old"][9][2] == found["new"][9][2] == struct.unpack("f", struct.pack("f", 9 / 7))[0]


@pytest.mark.slow
def test_no_scalar_of_a_long_file_is_dropped(tmp_path):
    events = [ef.event(number * 0.25, number, "losses/xent", number / 3) for number in range(20_000)]
    path = ef.write(tmp_path / ef.NAME, events)
    found = by_tag(read_event_log(path))
    assert len(found["losses/xent"]) == 20_000 and found == reference(path)


def test_values_that_are_not_one_number_are_no_scalars(tmp_path):
    tensors = {
        "list": make_tensor_proto([1.0, 2.0]),
        "text": make_tensor_proto("x"),
        "whole": make_tensor_proto(7),
        "one in a list": make_tensor_proto([2.5]),
        "huge": make_tensor_proto(1.0),
    }
    tensors["huge"].tensor_shape.dim.add(size=2**60)
    broken = make_tensor_proto(1.0)
    broken.ClearField("float_val")
    broken.tensor_content = b"abc"  # no float
    tensors["broken"] = broken
    values = [Summary.Value(tag=tag, tensor=tensor) for tag, tensor in tensors.items()]
    path = ef.write(tmp_path / "x", [Event(wall_time=1, step=1, summary=Summary(value=values))])
    assert {tag: rows[0][2] for tag, rows in by_tag(read_event_log(path)).items()} == {"whole": 7, "one in a list": 2.5}


def test_a_resumed_run_hides_what_came_after_the_resume_point(tmp_path):
    folder = ef.resumed_2018(tmp_path / "run")
    log = read_event_log(folder)
    found, expected = by_tag(log), reference(folder)
    assert found == expected
    at = 2 * ef.EPOCH_IMAGES
    assert not [row for row in found["losses/xent"] if at < row[1] < 2.5 * ef.EPOCH_IMAGES]
    assert [row[1] for row in found["losses/test_5"]] == [n * ef.EPOCH_IMAGES for n in (1, 2, 3, 4)]
    (session,) = log.sessions
    assert session.step == at + 1 and session.gap_seconds == pytest.approx(701.25 - 201.252, abs=1e-6)


def test_our_own_writer_over_three_attempts(tmp_path):
    """The third is begun within the second of the second one; tensor forms are hidden too."""
    for attempt, (begin, end) in enumerate([(0, 50), (20, 30), (25, 40)]):
        scalars = Scalars(tmp_path, True, attempt, begin)
        for step in range(begin + 1, end + 1):
            scalars.write(step, {"losses/xent": attempt})
        scalars.close()
    log = read_event_log(tmp_path)
    assert [(s.step, s.value) for s in log.scalars] == [(n, (n > 20) + (n > 25)) for n in range(1, 41)]
    assert by_tag(log) == reference(tmp_path) and [s.step for s in log.sessions] == [21, 26]


@pytest.fixture
def whole(tmp_path) -> Path:
    return ef.write(tmp_path / ef.NAME, ef.run_2018(ef.EPOCHS[:1]))


def test_a_file_cut_anywhere_is_told_or_has_all_records_before_the_cut(whole):
    data = whole.read_bytes()
    borders = [offset for offset, _ in read_records(whole)] + [len(data)]
    everything = read_event_log(whole).scalars
    for end in range(len(data)):
        whole.write_bytes(data[:end])
        if end in borders[1:]:
            log = read_event_log(whole)  # a cut between two records cannot be told
            assert log.scalars == everything[: len(log.scalars)] and len(log.scalars) == borders.index(end) - 1
        else:
            at = max(border for border in borders if border <= end)
            with pytest.raises(Truncated, match=f"at byte {at}, is cut off: .* byte {end} in|empty") as caught:
                read_event_log(whole)
            assert f"record {borders.index(at) + 1}," in str(caught.value) or end == 0


def test_a_flipped_bit_anywhere_is_told_with_its_record(whole):
    data = whole.read_bytes()
    borders = [offset for offset, _ in read_records(whole)] + [len(data)]
    for place in range(0, len(data), 3):
        whole.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        number = sum(border <= place for border in borders)
        with pytest.raises(RunError, match=f"record {number}, at byte {borders[number - 1]}, is"):
            read_event_log(whole)


def framed(length: int, data: bytes = b"") -> bytes:
    """A record whose length has the right checksum."""
    head = struct.pack("<Q", length)
    return head + struct.pack("<I", masked_crc32c(head)) + data


@pytest.mark.parametrize("length", [MAX_RECORD_BYTES + 1, 2**40, 2**63 - 1, 2**64 - 1])
def test_a_length_that_is_a_lie_costs_no_memory(whole, length):
    whole.write_bytes(whole.read_bytes() + framed(length, b"x" * 50))
    with pytest.raises(RunError, match=f"is corrupt: its length is given as {length} bytes"):
        read_event_log(whole)


def test_a_record_that_is_no_event(whole):
    with open(whole, "ab") as file:
        RecordWriter(file).write(b"\xff\xff\xff\xff")
    with pytest.raises(RunError, match=r"record 13, at byte \d+, is no event"):
        read_event_log(whole)


@pytest.mark.parametrize("data", [b"", b"hello, this is a text\n" * 9, b"\0" * 100, bytes(range(256)), b"\x89PNG\r\n"])
def test_content_that_is_no_event_file(tmp_path, data):
    path = tmp_path / "events.out.tfevents.1.x"
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"empty|corrupt|this is text|zero bytes|a picture") as caught:
        read_event_log(path)
    assert "\n" not in str(caught.value) and not is_event_file(path)


def test_places_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, words in (("none", "No such file"), ("pipe", "not a file"), ("folder", "no event file")):
        with pytest.raises(RunError, match=words):
            read_event_log(tmp_path / name)


@pytest.mark.parametrize("cut", [1, 3, 17, 40])
def test_an_attempt_that_was_killed_in_a_record_is_no_obstacle_to_the_next(tmp_path, cut):
    """But is told. The same file alone is refused."""
    folder = ef.resumed_2018(tmp_path / "run", cut)
    log, undamaged = read_event_log(folder), read_event_log(ef.resumed_2018(tmp_path / "other"))
    assert log.scalars == undamaged.scalars and undamaged.notes == []
    assert len(log.notes) == 1 and "is cut off" in log.notes[0] and f"step {2 * ef.EPOCH_IMAGES + 1}" in log.notes[0]
    with pytest.raises(Truncated):
        read_event_log(folder / f"{ef.NAME}.1.0")


def test_the_last_file_of_a_resumed_run_must_be_whole(tmp_path):
    folder = ef.resumed_2018(tmp_path)
    last = max(folder.iterdir())
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(Truncated, match=last.name):
        read_event_log(folder)


def test_a_bad_checksum_in_an_earlier_attempt_is_refused(tmp_path):
    folder = ef.resumed_2018(tmp_path)
    first = min(folder.iterdir())
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    first.write_bytes(data)
    with pytest.raises(RunError, match=f"{first.name}: record .* is corrupt"):
        read_event_log(folder)


def test_two_runs_in_one_folder_are_not_mixed(tmp_path):
    for second in (1, 2):
        ef.write(tmp_path / f"events.out.tfevents.{second}.x", ef.run_2018())
    with pytest.raises(RunError, match=r"more than one run\. Name one file"):
        read_event_log(tmp_path)
    log = read_event_log(tmp_path / "events.out.tfevents.1.x")
    assert len(log.notes) == 1 and "one of 2 event files" in log.notes[0]


def test_a_file_that_only_goes_on_where_the_other_ended(tmp_path):
    events = ef.run_2018()
    ef.write(tmp_path / "events.out.tfevents.1.x", events[:20])
    ef.write(tmp_path / "events.out.tfevents.2.x", events[20:])
    path = ef.write(tmp_path / "whole", events)
    assert read_event_log(tmp_path).scalars == read_event_log(path).scalars


def test_not_a_number_is_read_as_it_stands(tmp_path):
    path = ef.write(tmp_path / "x", [ef.event(1, 1, "losses/xent", math.nan)])
    assert math.isnan(read_event_log(path).scalars[0].value)


BESIDE = {
    "events.out.tfevents.1536151999.host": (b"", "the file is empty"),
    "._events.out.tfevents.1536151072.host": (b"\0\x05\x16\x07\0\2\0\0Mac OS X" + bytes(99), "macOS"),
    "tfevents notes.txt": (b"run 3, better lr\n", "this is text"),
    "events.out.tfevents.1536151000.gz": (gzip.compress(b"x", mtime=0), "gunzip"),
    "events.out.tfevents.1536151001.host": (ef.VERSION_RECORD[:-3], "ends in its first record"),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_holds_no_event_is_passed_over_beside_a_whole_run(tmp_path, name):
    """A writer that was killed at its start, a file of macOS, a note: told, and no reason to refuse the folder."""
    data, words = BESIDE[name]
    path = ef.write(tmp_path / "run" / ef.NAME, ef.run_2018())
    (tmp_path / "run" / name).write_bytes(data)
    log = read_event_log(tmp_path / "run")
    assert log.scalars == read_event_log(path).scalars and read_event_log(path).notes == []
    assert len(log.notes) == 1 and log.notes[0].startswith(f"{name} was passed over: ") and words in log.notes[0]
    path.unlink()
    with pytest.raises(RunError, match="No other event file is in this folder"):
        read_event_log(tmp_path / "run")


@pytest.mark.parametrize(("data", "words"), [
    (b"<!DOCTYPE html>\n<html><body>404</body></html>", "an HTML or XML page"),
    (gzip.compress(b"x", mtime=0), "gunzip"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "lfs pull"),
])  # fmt: skip
def test_an_event_file_that_is_something_else_is_called_so(tmp_path, data, words):
    path = tmp_path / ef.NAME
    path.write_bytes(data)
    with pytest.raises(RunError, match=words) as caught:
        read_event_log(path)
    assert "corrupt" not in str(caught.value)


def test_the_clock_was_set_back_before_the_resume(tmp_path):
    """The attempts are in the order of their session starts; no time is counted between them."""
    log = read_event_log(ef.resumed_2018(tmp_path / "run", second_begins=-5000.0))
    undisturbed = read_event_log(ef.resumed_2018(tmp_path / "other"))
    assert [(s.tag, s.step, s.value) for s in log.scalars] == [(s.tag, s.step, s.value) for s in undisturbed.scalars]
    assert log.sessions[0].gap_seconds == 0 and len(log.notes) == 1 and "the clock was set back" in log.notes[0]
    rows, expected = evaluations(log), evaluations(undisturbed)
    gap = undisturbed.sessions[0].gap_seconds / 3600
    assert [row.hours for row in rows] == pytest.approx([row.hours - gap * (row.epoch > 2) for row in expected])


@pytest.mark.parametrize(("factor", "words"), [(1e6, "in microseconds"), (1e3, "in milliseconds")])
def test_wall_times_in_another_unit_are_read_so_and_told(tmp_path, factor, words):
    events = ef.run_2018()
    for item in events:
        item.wall_time *= factor
    log = read_event_log(ef.write(tmp_path / "x", events))
    assert [row.hours for row in evaluations(log)] == pytest.approx([row[0] / 3600 for row in ef.EPOCHS], rel=1e-5)
    assert len(log.notes) == 1 and words in log.notes[0]


def test_a_run_of_no_time_and_one_of_centuries_are_refused(tmp_path):
    for seconds, words in ((0.0, "stands at 0.0 hours"), (4e8, "more than 100000")):
        log = read_event_log(ef.write(tmp_path / "x", ef.run_2018([(seconds, 1.0, 40.0, 60.0)])[:-1]))
        with pytest.raises(RunError, match=words):
            evaluations(log)
    log = read_event_log(ef.write(tmp_path / "x", ef.run_2018([(5e6, 1.0, 40.0, 60.0)])))
    assert evaluations(log) and "58 days" in log.notes[0]


def test_scalars_that_all_stand_at_step_0(tmp_path):
    events = [ef.event(0, 0, "first", ef.BEGIN)]
    for seconds, top1, top5 in ((100, 20.0, 50.0), (200, 75.0, 93.5), (300, 40.0, 60.0)):
        events += [ef.event(seconds, 0, "losses/test_1", top1), ef.event(seconds, 0, "losses/test_5", top5)]
    log = read_event_log(ef.write(tmp_path / "x", events))
    (row,) = evaluations(log)
    assert (row.top5, row.hours) == (50.0, 100 / 3600)
    assert len(log.notes) == 2 and "losses/test_5 has 3 values at step 0" in log.notes[1]
    assert "(93.5, 60)" in log.notes[1]


def test_of_two_evaluations_of_an_epoch_the_first_counts(tmp_path):
    events = ef.run_2018(ef.EPOCHS[:3])
    step = 3 * ef.EPOCH_IMAGES + 1
    again = [("losses/test_1", 99.0), ("losses/test_5", 99.5), ("epoch", 2)]
    log = read_event_log(ef.write(tmp_path / "x", events + [ef.event(400, step, tag, value) for tag, value in again]))
    assert [(row.epoch, row.top5) for row in evaluations(log)] == [(1, 66.5), (2, 90.0), (3, 93.0)]
    assert len(log.notes) == 1 and "epoch 3 was evaluated again" in log.notes[0] and "99.5 %" in log.notes[0]
