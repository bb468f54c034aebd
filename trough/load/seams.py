"""Whether a line goes on behind the end of a gzip member.

Crawlers write one member after the other, and some leave out the line end of the last line, so
the end of a member ends a line. Whoever compresses a file in parts cuts lines anywhere, so it
does not. Only the line behind the seam tells: it begins a record, or it does not. What cannot
be known ends the line.
"""

from __future__ import annotations

import re

#: Bytes of a line that are looked at.
LOOKED_AT = 1 << 16

#: The beginning of a capture: key and time, or the time, status and size of a crawl.log; and
#: lines about the file.
_CAPTURE = re.compile(
    rb"\S{1,4096}[ \t][0-9]{14}([0-9]{3})?[ \t]|\s*[0-9T:.Z-]{14,24}\s+-?[0-9]+\s+([0-9]+|-)\s"
    rb"|\s?CDX[ \t]\S|[!@]\S"
)
_QUOTED = re.compile(rb'"(?:[^"]|"")*"')


class Seams:
    """Follows the lines of a file, to know the one that a member's end cuts off."""

    def __init__(self) -> None:
        self._first = b""
        self._line = b""

    @property
    def within_line(self) -> bool:
        """Whether what was fed ends within a line."""
        return bool(self._line)

    def feed(self, content: bytes) -> None:
        """Take what comes next in the file."""
        end = content.rfind(b"\n")
        if not self._first and end >= 0:
            self._first = (self._line + content[:LOOKED_AT]).partition(b"\n")[0]
        line = content[end + 1 : end + 1 + LOOKED_AT]
        self._line = line if end >= 0 else (self._line + line)[:LOOKED_AT]

    def goes_on(self, content: bytes) -> bool:
        """Whether the line goes on with `content`, what there is behind the seam."""
        rest, *further = content[:LOOKED_AT].split(b"\n", 2)
        shape = self._first or (further[0] if len(further) == 2 else b"")
        return goes_on(shape, self._line, rest)


def goes_on(shape: bytes, line: bytes, rest: bytes) -> bool:
    """Whether `rest` belongs to `line`.

    :param shape: another line of the file, which shows how many fields there are; or nothing
    """
    if _CAPTURE.match(rest):
        return False
    if _CAPTURE.match(line):
        return True
    if line.lstrip()[:1] in (b"{", b"["):
        ended = line.rstrip()[-1:] in (b"}", b"]", b",")
        return not (ended and rest.lstrip()[:1] in (b"{", b"[", b"]"))
    cut, behind = _counted(line), _counted(rest)
    if not shape:
        return cut != behind
    expected = _counted(shape)
    # Of one field a line, nothing shows whether it is whole.
    return any(expected) and not expected == cut == behind


def _counted(line: bytes) -> list[int]:
    """How often each delimiter is in a line, outside of quotes."""
    plain = _QUOTED.sub(b"", line)
    return [plain.count(delimiter) for delimiter in (b",", b";", b"\t", b"|")]
