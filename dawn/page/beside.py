"""Files beside a run's log that the page shows. None of them is part of the result: what is damaged or missing is told
in a line, and the page stands."""

import base64
from pathlib import Path

from dawn.page.html import text

PNG, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"


class Broken(Exception):
    """A file that cannot be shown; one line."""


def read_png(path: Path) -> bytes:
    """Raises: Broken."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Broken(f"{path.name} cannot be read: {error.strerror}.") from None
    if not (content.startswith(PNG) and PNG_END in content[-12:]):
        raise Broken(f"{path.name} is damaged: it is no whole PNG picture.")
    return content


def picture_tag(content: bytes, words: str) -> str:
    """A PNG in the page itself; `words` for those who do not see it."""
    return f'<img src="data:image/png;base64,{base64.b64encode(content).decode()}" alt="{text(words)}">'
