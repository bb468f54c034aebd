"""Whether a line continues after a gzip member, or after a stream of bzip2, xz, zstandard.

Crawlers write one member after the other. Some omit the line end of the last line, so the end of
a member ends a line. Programs that compress a file in parts cut lines anywhere, so there it does
not. Only the line after the seam decides: it begins a record, or it does not. If that is unclear,
the line ends in a gzip file, because crawlers write gzip. In the other formats it continues,
because programs that compress in parallel write those.
"""

from __future__ import annotations

import re

#: Bytes of a line that are examined.
LOOKED_AT = 1 << 16

#: The beginning of a capture: key and time, or the time, status and size of a crawl.log; and
#: lines about the file.
_CAPTURE = re.compile(
    rb"\S{1,4096}[ \t][0-9]{14}([0-9]{3})?[ \t]|\s*[0-9T:.Z-]{14,24}\s+-?[0-9]+\s+([0-9]+|-)\s"
    rb"|\s?CDX[ \t]\S|[!@]\S"
)
_QUOTED = re.compile(rb'"(?:[^"]|"")*"')


class Seams:
    """Follows the lines of a file, to know the line that a member's end cuts off.

    :param cut_anywhere: a line continues unless both sides show that it does not
    """

    def __init__(self, cut_anywhere: bool = False) -> None:
        self._cut_anywhere = cut_anywhere
        self._first = b""
        self._line = b""

    @property
    def within_line(self) -> bool:
        """Whether the content so far ends within a line."""
        return bool(self._line)

    def feed(self, content: bytes) -> None:
        """Take the next content of the file."""
        end = content.rfind(b"\n")
        if not self._first and end >= 0:
            self._first = (self._line + content[:LOOKED_AT]).partition(b"\n")[0]
        line = content[end + 1 : end + 1 + LOOKED_AT]
        self._line = line if end >= 0 else (self._line + line)[:LOOKED_AT]

    def goes_on(self, content: bytes) -> bool:
        """Whether the line continues with `content`, which comes after the seam."""
        rest, *further = content[:LOOKED_AT].split(b"\n", 2)
        if self._cut_anywhere:
            return not are_two_records(self._line, rest)
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
    if _is_json(line):
        return not _are_two_values(line, rest)
    cut, behind = _counted(line), _counted(rest)
    if not shape:
        return cut != behind
    expected = _counted(shape)
    # With one field a line, nothing shows whether a line is complete.
    return any(expected) and not expected == cut == behind


def are_two_records(line: bytes, rest: bytes) -> bool:
    """Whether both certainly begin a capture or a JSON value."""
    if _is_json(line):
        return _are_two_values(line, rest)
    return _CAPTURE.match(line) is not None and _CAPTURE.match(rest) is not None


def _is_json(line: bytes) -> bool:
    return line.lstrip()[:1] in (b"{", b"[")


def _are_two_values(line: bytes, rest: bytes) -> bool:
    ended = line.rstrip()[-1:] in (b"}", b"]", b",")
    return ended and rest.lstrip()[:1] in (b"{", b"[", b"]")


def _counted(line: bytes) -> list[int]:
    """The count of each delimiter in a line, outside quotes."""
    plain = _QUOTED.sub(b"", line)
    return [plain.count(delimiter) for delimiter in (b",", b";", b"\t", b"|")]
