"""The hash chain of a run log: each line ends in `"chain"`, a digest over the link of the line before and the line.

A line that is deleted, doubled, moved or edited breaks the chain there; a log that ends early (a kill) does not. It
guards against accidents and careless edits: whoever writes all lines anew can also chain them anew. Logs without a
chain are older ones; when such a run is gone on with, the chain begins at the first new line.
"""

import hashlib
import re
from dataclasses import dataclass

NAME = "chain"
END = re.compile(rb', "chain": "([0-9a-f]{16})"\}\n')
END_BYTES = 31  # what END matches


def digest(before: str, body: bytes) -> str:
    """The link of a line: 64 bits of SHA-256 in hex. body: its JSON object without "chain" and newline."""
    return hashlib.sha256(before.encode() + body).hexdigest()[:16]


def sealed(body: bytes, before: str) -> tuple[bytes, str]:
    """(the line as it is written, its link); body is a JSON object with at least one field."""
    link = digest(before, body)
    return body[:-1] + f', "{NAME}": "{link}"}}\n'.encode(), link


def link_after(line: bytes) -> str:
    """What the next line is chained to: this line's link; "" before the first line; else a digest of the line."""
    found = END.fullmatch(line[-END_BYTES:])
    if found:
        return found[1].decode()
    return digest("", line) if line else ""


def is_sealed(line: bytes) -> bool:
    """Whether the line ends in a link, byte for byte as it is written."""
    return END.fullmatch(line[-END_BYTES:]) is not None


@dataclass
class Follower:
    """Takes the lines of a log in order and says what is wrong with the chain at each."""

    before: str = ""  # the link of the line before
    chained: int = 0  # lines with a link so far
    unchained: int = 0

    def problem(self, line: bytes, number: int) -> str | None:
        """One sentence that begins with the number of the line, None if the line follows from those before it."""
        found = END.fullmatch(line[-END_BYTES:])
        before, self.before = self.before, link_after(line)
        if found is None:
            self.unchained += 1
            return f"line {number}: has no 'chain', unlike lines before it: it was changed" if self.chained else None
        first, self.chained = not self.chained, self.chained + 1
        if digest(before, line[:-END_BYTES] + b"}") == found[1].decode():
            return None
        either = f"line {number - 1} or " if first and number > 1 else ""
        return f"{either}line {number}: was changed, or lines before it are missing, doubled or out of order"
