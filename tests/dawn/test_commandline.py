"""Output that cannot be written, and commands that are quoted for a shell."""

import errno
import io
import os
import shlex
import subprocess
import sys

import pytest

from dawn.commandline import ended, quoted, safe_output


def text_file(encoding: str = "utf-8") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


def pipe_without_a_reader() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


def printing(text: str, code: int = 0) -> int:
    print(text)
    return code


@pytest.mark.parametrize(
    ("encoding", "text", "printed"),
    [
        ("ascii", "rün", b"r\\xfcn"),
        ("latin-1", "rün ≥ 1", b"r\xfcn \\u2265 1"),
        ("utf-8", os.fsdecode(b"r\xfcn"), b"r\\udcfcn"),
        ("utf-8", "rün", "rün".encode()),
    ],
)
def test_characters_that_the_output_lacks_are_escaped(monkeypatch, encoding, text, printed):
    out = text_file(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    assert ended(lambda: printing(text)) == 0
    assert out.buffer.getvalue() == printed + b"\n" and sys.stdout is out


@pytest.mark.parametrize("code", [0, 3])
def test_a_reader_that_has_gone_changes_nothing_else(monkeypatch, capsys, code):
    with pipe_without_a_reader() as out:
        monkeypatch.setattr(sys, "stdout", out)
        done = []
        assert ended(lambda: printing("x" * 100_000, code) + (done.append("all") or 0)) == code
        assert done == ["all"] and capsys.readouterr().err == ""


def test_a_full_disk_under_the_output_is_told_and_a_run_keeps_its_code(monkeypatch, capsys):
    for result, code, word in ((True, 2, "error"), (False, 0, "warning")):
        with open("/dev/full", "w") as out:
            monkeypatch.setattr(sys, "stdout", out)
            assert ended(lambda: printing("text"), output_is_result=result) == code
        line = f"{word}: standard output: cannot be written (No space left on device)\n"
        assert capsys.readouterr().err == line


def test_a_file_that_the_system_refuses_is_one_line(tmp_path, capsys):
    assert ended(lambda: len((tmp_path / "none").read_text())) == 2
    reason = "No such file or directory. Check that it may be read and written, or choose another place."
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: {reason}\n"
    with pytest.raises(OSError, match="a fault of ours"):
        ended(lambda: [].append(1) or (_ for _ in ()).throw(OSError("a fault of ours")))


@pytest.mark.parametrize(
    ("number", "code", "advice"),
    [
        (errno.EACCES, 2, "may be read"),
        (errno.EISDIR, 2, "may be read"),
        (errno.ENOSPC, 2, "Free some space"),
        (errno.EIO, 1, "Try again"),
        (errno.ESTALE, 1, "Try again"),
        (errno.EMFILE, 1, "ulimit -n"),
    ],
)
def test_what_may_succeed_at_the_next_try_is_no_bad_input(capsys, number, code, advice):
    error = OSError(number, os.strerror(number), "x.jpg")
    assert ended(lambda: [].append(1) or (_ for _ in ()).throw(error)) == code
    line = capsys.readouterr().err
    assert line.startswith(f"error: x.jpg: {os.strerror(number)}. ") and advice in line and line.count("\n") == 1


def test_output_that_was_closed_before_the_start(monkeypatch):
    """`>&-`: Python has None for it."""
    monkeypatch.setattr(sys, "stdout", None)
    assert ended(lambda: printing("text") + sys.stdout.write("")) == 0


def test_the_terminal_is_still_seen_through_it(capsys):
    with safe_output() as out:
        assert not out.isatty() and out.encoding.lower() == "utf-8"


@pytest.mark.parametrize("path", ["/a/run", "/a b/it's  run", "/rün/$(x)/*", "/a\nb\\'c", os.fsdecode(b"/r\xfcn")])
def test_a_quoted_path_is_read_back_by_a_shell(path):
    line = f"printf %s {quoted(path)}"
    assert line.isprintable()
    assert subprocess.run(["bash", "-c", line], capture_output=True).stdout == os.fsencode(path)
    if path.isprintable():
        assert shlex.split(line) == ["printf", "%s", path]
