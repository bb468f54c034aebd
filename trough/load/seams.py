"""Whether a line continues after a gzip member, or after a stream of bzip2, xz, zstandard.

Crawlers write one member after the other. Some omit the line end of the last line, so the end of
a member ends a line. Programs that compress a file in parts cut lines anywhere, so there it does
not. Only the line after the seam decides: it begins a record, or it does not. If that is unclear,
the line ends in a gzip file, because crawlers write gzip. In the other formats it continues,
because programs that compress in parallel write those.
"""

from __future__ import annotations

import codecs
import re

#: Bytes of what follows a seam, and of a line of fields, that are examined.
LOOKED_AT = 1 << 16

#: Bytes of a line of JSON that are examined. In a longer one nothing shows whether it is complete.
_JSON_LINE = 1 << 20

#: The beginning of a capture: key and time, with an IP address between them in NetarchiveSuite's
#: indexes; or the time, status and size of a crawl.log; and lines about the file.
_CAPTURE = re.compile(
    rb"\S{1,4096}[ \t](?:(?:-|[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]+)[ \t])?[0-9]{14}([0-9]{3})?[ \t]"
    rb"|\s*[0-9T:.Z-]{14,24}\s+-?[0-9]+\s+([0-9]+|-)\s|\s?CDX[ \t]\S|[!@]\S"
)
_QUOTED = re.compile(rb'"(?:[^"]|"")*"')

#: A text of JSON, with its last quote if it has one.
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)', re.DOTALL)


#: A byte order mark and blanks, which may come before the first line.
_BEFORE = codecs.BOM_UTF8 + b" \t\r\n"


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
            self._first = (self._line + content[:LOOKED_AT]).lstrip(_BEFORE).partition(b"\n")[0]
        line = content[end + 1 : end + 1 + _JSON_LINE]
        self._line = line if end >= 0 else (self._line + line)[:_JSON_LINE]

    def goes_on(self, content: bytes) -> bool:
        """Whether the line continues with `content`, which comes after the seam."""
        rest, *further = content[:LOOKED_AT].split(b"\n", 2)
        if _is_json(self._first or self._line):
            return not _are_two_values(self._line, rest)
        line = self._line[:LOOKED_AT]
        if self._cut_anywhere:
            return not (_CAPTURE.match(line) and _CAPTURE.match(rest))
        shape = self._first or (further[0] if len(further) == 2 else b"")
        return goes_on(shape, line, rest)


def goes_on(shape: bytes, line: bytes, rest: bytes) -> bool:
    """Whether `rest` belongs to `line`, in a file that is not JSON.

    :param shape: another line of the file, which shows how many fields there are; or nothing
    """
    if _CAPTURE.match(line):
        return not _CAPTURE.match(rest)
    if _CAPTURE.match(shape):
        # Neither side is a line of this file. What looks like a capture behind the seam may be part
        # of one: the end of a key, with its time.
        return not _CAPTURE.match(rest) or _CAPTURE.match(line + rest) is not None
    if _CAPTURE.match(rest):
        return not shape and _CAPTURE.match(line + rest) is not None
    cut, behind = _counted(line), _counted(rest)
    if not shape:
        return cut != behind
    expected = _counted(shape)
    # With one field a line, nothing shows whether a line is complete.
    return any(expected) and not expected == cut == behind


def _is_json(line: bytes) -> bool:
    return line.lstrip(_BEFORE)[:1] in (b"{", b"[")


def _are_two_values(line: bytes, rest: bytes) -> bool:
    """Whether a line is a whole JSON value, and another value follows it.

    A value can end within another one at any bracket, so they are counted. Between the elements of
    an array no line end is necessary.
    """
    if not _is_json(line) or not _is_json(rest) or len(line) >= _JSON_LINE:
        return False
    plain = _TEXT.sub(lambda text: b"" if text[1] else b"[", line).rstrip()
    begun = plain.count(b"{") + plain.count(b"[")
    return plain[-1:] in (b"}", b"]") and begun == plain.count(b"}") + plain.count(b"]")


def _counted(line: bytes) -> list[int]:
    """The count of each delimiter in a line, outside quotes."""
    plain = _QUOTED.sub(b"", line)
    return [plain.count(delimiter) for delimiter in (b",", b";", b"\t", b"|")]
