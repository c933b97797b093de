"""The run log on disk: whole lines only, whatever happens."""

import json
import os
import resource

import pytest

from dawn import RunError, RunLog, read_events
from dawn.runlog import writer as runlog
from dawn.runlog.writer import read_lines

LINE = b'{"event": "a", "attempt": 0}\n'


def test_lines_come_back_as_written(tmp_path):
    path = tmp_path / "run.jsonl"
    values = {"loss": 0.1 + 0.2, "name": "tab\t, newline\n, é, <script>", "none": None, "list": [1, 2.0]}
    with RunLog(path, utc=lambda: "2026-11-22T15:30:00Z") as log:
        log.write("start", attempt=0, **values)
        log.write("note", attempt=0)
        assert len(read_events(path)) == 2  # handed over at once, not when the log is closed
    first, second = read_events(path)
    assert first == {"event": "start", "attempt": 0, "utc": "2026-11-22T15:30:00Z", **values}
    assert second["event"] == "note"
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("event", ["start", "epoch", "stop"])
def test_important_lines_are_on_the_disk(tmp_path, monkeypatch, event):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with RunLog(tmp_path / "run.jsonl") as log:
        log.write("phase", attempt=0)
        assert not synced
        log.write(event, attempt=0)
        assert len(synced) == 1


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_lacks_are_refused_and_leave_no_trace(tmp_path, number):
    with RunLog(tmp_path / "run.jsonl") as log:
        with pytest.raises(RunError, match=r"event 'epoch'.*null"):
            log.write("epoch", attempt=0, train_loss=number)
        log.write("epoch", attempt=0, train_loss=None)
    assert len(read_events(tmp_path / "run.jsonl")) == 1


@pytest.mark.parametrize("torn", [b'{"event": "b"', b"{", b"\x00\x00\x00", LINE[:-1]])
def test_torn_last_line_is_tolerated_reported_and_cut_off(tmp_path, torn):
    path = tmp_path / "run.jsonl"
    path.write_bytes(LINE + torn)
    events, is_torn = read_lines(path)
    assert (len(events), is_torn) == (1, True)
    with RunLog(path) as log:
        log.write("start", attempt=1)
    assert path.read_bytes().startswith(LINE + b'{"event": "start"')
    events, is_torn = read_lines(path)
    assert (len(events), is_torn) == (2, False)


def test_every_cut_of_a_log_can_be_appended_to(tmp_path):
    path, whole = tmp_path / "run.jsonl", LINE * 3
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        with RunLog(path) as log:
            log.write("start", attempt=1)
        assert len(read_events(path)) == length // len(LINE) + 1


def test_refused_write_leaves_no_half_line(tmp_path):
    """The system takes half a line and then no more, as a full disk does; later the log goes on whole."""
    path = tmp_path / "run.jsonl"
    with RunLog(path) as log:
        log.write("note", attempt=0)
        whole = path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, hard))
        try:
            with pytest.raises(OSError):
                log.write("epoch", attempt=0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == whole
        log.write("stop", attempt=0)
    assert [event["event"] for event in read_events(path)] == ["note", "stop"]


BAD_LINES = {
    "half": b'{"event": "a"',
    "nan": b'{"event": "a", "x": NaN}',
    "infinite": b'{"event": "a", "x": 1e999}',
    "no object": b"[1]",
    "no event": b'{"attempt": 0}',
    "event is a number": b'{"event": 1}',
    "empty": b"",
    "not UTF-8": b'{"event": "\xff"}',
    "deep": b"[" * 100_000,
    "long number": b'{"event": "a", "x": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES)
@pytest.mark.parametrize("after", [b"", LINE])
def test_bad_line_is_named_by_its_number(tmp_path, bad, after):
    path = tmp_path / "run.jsonl"
    path.write_bytes(LINE + bad + b"\n" + after)
    with pytest.raises(RunError, match=r"line 2: not ") as caught:
        read_events(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_oversized_lines_and_files_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "run.jsonl"
    path.write_bytes(LINE * 3)
    monkeypatch.setattr(runlog, "MAX_LINE_BYTES", 20)
    with pytest.raises(RunError, match="line 1: longer than 20"):
        read_events(path)
    path.write_bytes(b"x" * 50)
    with pytest.raises(RunError, match="no line end"):
        RunLog(path)
    path.write_bytes(b"")
    with RunLog(path) as log, pytest.raises(RunError, match="too many"):
        log.write("start", attempt=0, text="x" * 20)
    monkeypatch.setattr(runlog, "MAX_LINE_BYTES", 16_000_000)
    path.write_bytes(b"")
    os.truncate(path, 1_000_000_001)  # a hole, takes no disk
    for use in (read_events, RunLog):
        with pytest.raises(RunError, match="more than 1000000000"):
            use(path)


def test_full_file_takes_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(runlog, "MAX_FILE_BYTES", 200)
    with RunLog(tmp_path / "run.jsonl") as log, pytest.raises(RunError, match="too many"):
        for _ in range(10):
            log.write("note", attempt=0)
    assert all(json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines())


def test_missing_file_is_one_line(tmp_path):
    with pytest.raises(RunError, match="No such file"):
        read_events(tmp_path / "none.jsonl")
