"""The lines of a file, numbered, in bounded memory.

A line includes its end, because a line end within quotes is part of a value. A line that is
longer than a limit comes in pieces. The module does not depend on what is in a line.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from trough.load.records import Skipped


class Line(NamedTuple):
    """A line, or a piece of one that is too long.

    :ivar number: from 1
    :ivar data: with the line's end, if it has one
    :ivar whole: it is the complete line
    """

    number: int
    data: bytes
    whole: bool = True


class TextLine(NamedTuple):
    """A line of text.

    :ivar number: from 1
    :ivar text: without the line's end
    """

    number: int
    text: str


def numbered(chunks: Iterable[bytes], limit: int) -> Iterator[Line]:
    """The lines in `chunks`, without a byte order mark before them.

    :param limit: bytes of the longest line that comes in one piece
    """
    number, rest, in_pieces = 1, b"", False
    for chunk in chunks:
        data = rest + chunk if rest else chunk
        if number == 1 and not in_pieces:
            if codecs.BOM_UTF8.startswith(data):
                rest = data
                continue
            data = data.removeprefix(codecs.BOM_UTF8)
        *complete, rest = data.split(b"\n")
        for line in complete:
            yield Line(number, line + b"\n", not in_pieces and len(line) < limit)
            number, in_pieces = number + 1, False
        if len(rest) >= limit:
            yield Line(number, rest, False)
            rest, in_pieces = b"", True
    if rest:
        yield Line(number, rest, not in_pieces)


def texts(lines: Iterable[Line], limit: int) -> Iterator[TextLine | Skipped]:
    """Lines as text, for formats in which a record is a line."""
    too_long = 0
    for number, data, whole in lines:
        if not whole:
            if too_long != number:
                too_long = number
                yield Skipped(number, number, f"longer than {limit} bytes (--max-record)")
            continue
        if too_long == number:
            continue
        try:
            yield TextLine(number, data.rstrip(b"\r\n").decode())
        except UnicodeDecodeError as error:
            yield Skipped(number, number, not_utf8(number, error))


def not_utf8(number: int, error: UnicodeDecodeError) -> str:
    """The reason why a line is not text."""
    return f"not UTF-8: line {number}, byte {error.start + 1}"
