"""The command dawn-report: what it writes, and one line with exit code 2 for every bad input."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dawn_script import CORRECT, Script, scripted_run
from refusals import dawn_refused as refused

from dawn.__main__ import COMMANDS, main
from dawn.files import write_atomic

ROOT = Path(__file__).resolve().parents[3]
OF_ONE_RUN = ("tsv", "entry", "summary", "chart", "report")  # commands whose one argument is RUN


def test_each_command_makes_the_same_file_again(tmp_path, capsys):
    scripted_run(tmp_path)
    assert main(["report", str(tmp_path), "--author", "A", "--author-email", "a@example.org"]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in printed] == ["result.tsv", "entry.json", "summary.txt", "accuracy.png", "report.html"]
    before = {path.name: path.read_bytes() for path in printed}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    log = str(tmp_path / "run.jsonl")
    assert main(["tsv", log, "--out", str(elsewhere / "result.tsv")]) == 0
    assert main(["chart", log, "--out", str(elsewhere / "accuracy.png")]) == 0
    assert main(["entry", log, "--author", "A", "--author-email", "a@example.org"]) == 0
    assert (tmp_path / "entry.json").read_bytes() == before.pop("entry.json")
    assert main(["report", log, "--out", str(elsewhere / "report.html")]) == 0
    capsys.readouterr()
    assert main(["summary", log]) == 0
    assert capsys.readouterr().out.encode() == before.pop("summary.txt")
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == before


def test_a_reader_that_has_gone_is_no_crash():
    """As in `board --historical | head -1`."""
    command = [sys.executable, "-m", "dawn", "board", "--historical"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 0


def test_default_place_is_beside_the_log(tmp_path, capsys):
    scripted_run(tmp_path)
    assert main(["tsv", str(tmp_path / "run.jsonl")]) == main(["chart", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "result.tsv"), str(tmp_path / "accuracy.png")]


@pytest.mark.parametrize("command", (*OF_ONE_RUN, "cost"))
def test_bad_run_is_one_line(tmp_path, capsys, command):
    (tmp_path / "no log").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "run.jsonl").touch()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.jsonl").write_text("{}\n")
    assert "No such file" in refused(capsys, command, tmp_path / "none")
    no_log = refused(capsys, command, tmp_path / "no log")
    assert ("no run.jsonl in it" if command == "report" else "No such file") in no_log  # report takes folders of runs
    assert "the log is empty" in refused(capsys, command, tmp_path / "empty")
    assert "line 1: not an object with an 'event'" in refused(capsys, command, tmp_path / "bad")
    Script(tmp_path / "early").epoch(0, None)
    assert "no evaluation yet. Reports need at least one; let" in refused(capsys, command, tmp_path / "early")


@pytest.mark.parametrize("command", (*OF_ONE_RUN, "cost"))
def test_a_run_that_diverged_in_its_first_epoch_is_one_line(tmp_path, capsys, command):
    """It has no epoch line at all, and nothing to go on with."""
    Script(tmp_path).stop("diverged")
    assert "no evaluation, the run has ended (diverged)" in refused(capsys, command, tmp_path)


@pytest.mark.parametrize("argv", [[], ["nonsense", "x"], ["tsv"], ["entry", "x", "--cost-per-hour", "free"]])
def test_bad_flags_are_one_line(capsys, argv):
    refused(capsys, *argv)


@pytest.mark.parametrize("cost", ["-1", "nan", "inf"])
def test_bad_cost_is_one_line(tmp_path, capsys, cost):
    scripted_run(tmp_path)
    for command in ("entry", "report"):
        assert "cost per hour" in refused(capsys, command, tmp_path, f"--cost-per-hour={cost}")
        assert not (tmp_path / "entry.json").exists()


def test_bad_place_is_one_line(tmp_path, capsys):
    scripted_run(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for command, out in (
        ("tsv", "none/x.tsv"),
        ("chart", "folder"),
        ("entry", "none"),
        ("entry", "file"),
        ("report", "none"),
    ):
        assert str(tmp_path / out) in refused(capsys, command, tmp_path, "--out", tmp_path / out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "run.jsonl"]  # no temporary files


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder_is_one_line(tmp_path, capsys):
    scripted_run(tmp_path)
    tmp_path.chmod(0o500)
    assert "Permission denied" in refused(capsys, "report", tmp_path)
    tmp_path.chmod(0o700)


def test_command_line_end_to_end(tmp_path):
    """As a user calls it, and without the heavy libraries where they are not needed."""
    scripted_run(tmp_path, CORRECT)
    code = (
        "import sys; from dawn.__main__ import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'matplotlib', 'numpy', 'scipy', 'rich'} & set(sys.modules);"
        "sys.exit(code or (9 if heavy else 0))"
    )
    subprocess.run([sys.executable, "-c", code, "tsv", tmp_path], cwd=ROOT, check=True, capture_output=True)
    command = [sys.executable, "-m", "dawn"]
    shown = subprocess.run([*command, "--help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert all(name in shown for name in COMMANDS)
    failed = subprocess.run([*command, "tsv", tmp_path / "no"], cwd=ROOT, capture_output=True, text=True)
    assert failed.returncode == 2 and failed.stderr.startswith("error: ") and failed.stderr.count("\n") == 1


def test_summary_on_a_terminal_is_drawn_with_tables(tmp_path, capsys, monkeypatch):
    """rich takes FORCE_COLOR for a terminal; the numbers are the same."""
    scripted_run(tmp_path, model="[red]net")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["summary", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b[" in out and "4975.1" in out and "[red]net" in out


def test_a_device_is_written_to_and_not_replaced(tmp_path):
    """`--out /dev/stdout` as root once put a file in its place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert write_atomic(pipe, b"epoch\thours\n") == pipe
    assert os.read(reader, 100) == b"epoch\thours\n" and not pipe.is_file()
    os.close(reader)


def test_a_chart_under_the_name_of_another_format_is_refused(capsys, tmp_path):
    """`--out x.jpg` once held a PNG."""
    scripted_run(tmp_path)
    assert "ends in .png" in refused(capsys, "chart", tmp_path, "--out", tmp_path / "x.jpg")
    assert not (tmp_path / "x.jpg").exists()
