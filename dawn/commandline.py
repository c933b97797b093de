"""What every command does alike: print to whatever standard output is, end with one line where the system refuses, and
quote the commands it proposes. Standard library only; every package may import it.
"""

import errno
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

UNEXPECTED, BAD_INPUT = 1, 2  # exit codes
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
BAD_PATH = (  # the same again at the next try
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY,
    errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EXDEV, errno.ENXIO, errno.ETXTBSY,
)  # fmt: skip
MANY_FILES = (errno.EMFILE, errno.ENFILE)


class Output:
    """A text stream that a program may print to in every case. Characters that its encoding lacks are escaped. Once it
    cannot be written any more, what is printed is lost and the program goes on: a reader may go at any time (`| head`),
    and that must not cut off a training run, or a dataset that is half prepared."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.error: OSError | None = None  # what made it unusable

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except UnicodeEncodeError:
            encoding = self.stream.encoding
            return self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError as error:
            self.lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError as error:
            self.lose(error)

    def lose(self, error: OSError) -> None:
        """What is still in a buffer goes nowhere too, so that the interpreter's own flush at its end succeeds."""
        self.error = self.error or error
        with suppress(OSError), nowhere() as file:  # OSError: a stream that is no file
            os.dup2(file.fileno(), self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def safe_output() -> Iterator[Output]:
    """Inside, sys.stdout and sys.stderr are an Output; this is the first of them."""
    before = sys.stdout, sys.stderr
    own = [Output(stream or nowhere()) for stream in before]
    sys.stdout, sys.stderr = own
    try:
        yield own[0]
    finally:
        for stream in own:
            stream.flush()
        sys.stdout, sys.stderr = before


def ended(action: Callable[[], int], output_is_result: bool = True) -> int:
    """The exit code of a whole command, which is `action`: what that returns, or file_code() after one line for a file
    that the system refuses, and 2 in place of 0 where standard output could not be written and `output_is_result`. A
    reader that has gone changes nothing."""
    with safe_output() as output:
        try:
            code = action()
        except OSError as error:
            if not is_about_files(error):
                raise
            print(f"error: {refusal(error)}", file=sys.stderr)
            return file_code(error)
        output.flush()
        if output.error is None or isinstance(output.error, BrokenPipeError):
            return code
        kind = "error" if output_is_result else "warning"
        print(f"{kind}: standard output: cannot be written ({output.error.strerror})", file=sys.stderr)
        return code or (BAD_INPUT if output_is_result else 0)


def nowhere() -> TextIO:
    """In place of a stream that was closed before the start (`>&-`)."""
    return open(os.devnull, "w")


def is_about_files(error: OSError) -> bool:
    """Whether one line can say what to do; any other one is a fault of the code."""
    return error.filename is not None or error.errno in DISK_FULL


def file_code(error: OSError) -> int:
    """The exit code for an error that is about files: 2 for what a user can mend by another path, other rights or more
    space; 1 where the same command may succeed at the next try, as when a network drive was away."""
    return BAD_INPUT if error.errno in (*DISK_FULL, *BAD_PATH) else UNEXPECTED


def refusal(error: OSError) -> str:
    """One line: place, reason and remedy."""
    place = "a file" if error.filename is None else os.fsdecode(error.filename)
    return f"{place}: {error.strerror or error}. {remedy(error)}."


def remedy(error: OSError) -> str:
    if error.errno in DISK_FULL:
        return "Free some space, or choose another place"
    if error.errno in BAD_PATH:
        return "Check that it may be read and written, or choose another place"
    if error.errno in MANY_FILES:
        return "Raise the limit of open files (ulimit -n)"
    return "The disk or the network drive under it may be at fault. Try again, or choose another place"


def quoted(word: object) -> str:
    """A path or a text of a user as one word of a command line that a message proposes, such as
    `python -m dawn report '/a b/run'`. What cannot be printed is written as bash reads it: $'a\\nb'."""
    text = str(word)
    return shlex.quote(text) if text.isprintable() else "$'" + "".join(map(escaped, text)) + "'"


def escaped(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    return char if char.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
