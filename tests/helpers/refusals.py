"""Command lines that must not run: exit code 2 and one line on standard error."""

from dawn.__main__ import main as dawn_main
from training.__main__ import main as training_main


def dawn_refused(capsys, *arguments: object) -> str:
    """The one line of a refused `python -m dawn` command."""
    return refused(capsys, dawn_main, [str(argument) for argument in arguments])


def training_refused(capsys, arguments: list[str], *words: str) -> str:
    """The one line of a refused `python -m training` command, which holds `words`."""
    line = refused(capsys, training_main, arguments)
    assert all(word in line for word in words), line
    return line


def refused(capsys, main, arguments: list[str]) -> str:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n"), err
    return err
