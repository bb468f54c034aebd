"""JSON: one object a line, or one array of objects or of rows, on any number of lines.

The shell's output as JSONL, JSON and PRETTY is read back as the same values. In an array of
arrays, the first array names the fields, as the Wayback CDX API writes it. Objects that are
captures (Common Crawl, pywb and the Wayback CDX API write them) become rows of ``crawled_url``.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from trough.load.formats.captures import by_name
from trough.load.formats.json_text import DECODER, LENIENT, check_unicode, json_object, stored
from trough.load.lines import Line, TextLine, not_utf8, texts
from trough.load.records import (
    FormatOptions,
    RecordRow,
    Records,
    Skipped,
    UnusableRecord,
    count_of_fields,
)


def json_lines(lines: Iterable[Line], reading: FormatOptions) -> Records:
    """Rows of a file with one JSON object a line."""
    rows = _Rows(reading.is_column)
    for line in texts(lines, reading.max_record):
        if isinstance(line, Skipped):
            yield line
        elif line.text.strip():
            try:
                yield rows.of_object(line.number, line.number, json_object(line.text))
            except UnusableRecord as reason:
                yield Skipped(line.number, line.number, str(reason))


def is_capture(found: Mapping[str, Any]) -> bool:
    """Whether an object is a capture of an index, by its names and its time."""
    if "timestamp" not in found or not ("url" in found or "original" in found):
        return False
    # Only indexes have a urlkey. So a time that is none is damage.
    time = found["timestamp"]
    is_time = isinstance(time, str) and re.fullmatch(r"[0-9]{14}([0-9]{3})?", time)
    return bool(is_time) or "urlkey" in found


#: What an index may be asked for alone, although tables of captures have these columns.
_ALSO_COLUMNS = frozenset({"timestamp", "url"})


class _Rows:
    """Converts JSON values to rows.

    :param is_column: see :class:`trough.load.records.FormatOptions`
    """

    def __init__(self, is_column: Callable[[str], bool]) -> None:
        self._is_column = is_column
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._header: list[str] | None = None

    def of_value(self, first: int, last: int, value: Any) -> RecordRow | None:
        """The row of an element of an array; None if it names the fields.

        :raises Unusable: it is no row
        """
        if isinstance(value, dict):
            return self.of_object(first, last, value)
        if not isinstance(value, list):
            raise UnusableRecord("not a JSON object")
        if self._header is None:
            if not value or not all(isinstance(name, str) for name in value):
                raise UnusableRecord(
                    "the first of several arrays names the fields, and this does not"
                )
            self._header = value
            return None
        if len(value) != len(self._header):
            raise UnusableRecord(f"{count_of_fields(len(value))} instead of {len(self._header)}")
        return self.of_object(first, last, dict(zip(self._header, value, strict=True)))

    def of_object(self, first: int, last: int, found: dict[str, Any]) -> RecordRow:
        """The row of an object.

        :raises Unusable: it is none
        """
        if not found:
            raise UnusableRecord("an object without columns")
        if is_capture(found) and not self._is_of_table(found):
            return by_name(first, found)._replace(last=last)
        names = tuple(found)
        names = self._names.setdefault(names, names)
        if len(self._names) > 1000:
            self._names.clear()
        return RecordRow(first, last, names, [stored(value) for value in found.values()])

    def _is_of_table(self, found: Mapping[str, Any]) -> bool:
        """Whether an object is a row of the table itself, as the shell exports it."""
        if _ALSO_COLUMNS.issuperset(found) and self._is_column("is_duplicate"):
            return False
        return all(map(self._is_column, found))


# -- arrays ----------------------------------------------------------------------

_BLANK = " \t\r\n"
_BETWEEN = re.compile(r"[\s,]*")


def json_array(lines: Iterable[Line], reading: FormatOptions) -> Records:
    """Rows of a file that is one JSON array. Its elements take any number of lines."""
    rows = _Rows(reading.is_column)
    elements = _Elements(_decoded(lines), reading.max_record)
    for first, last, element in elements:
        if isinstance(element, Skipped):
            yield element
            continue
        try:
            if isinstance(element, ValueError | RecursionError):
                raise UnusableRecord(f"not JSON: {element or 'too deep'}")
            row = rows.of_value(first, last, element)
        except UnusableRecord as reason:
            yield Skipped(first, last, str(reason))
        else:
            if row is not None:
                yield row


def _decoded(lines: Iterable[Line]) -> Iterator[TextLine | Skipped]:
    """Text with its line ends. Long lines come in pieces: a whole array may be one line."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for number, data, _ in lines:
        try:
            yield TextLine(number, decoder.decode(data))
        except UnicodeDecodeError as error:
            decoder.reset()
            yield Skipped(number, number, not_utf8(number, error))


class _Elements:
    """The elements of an array: first line, last line, and the value or its error."""

    def __init__(self, lines: Iterator[TextLine | Skipped], limit: int) -> None:
        self._lines = lines
        self._limit = limit

    def __iter__(self) -> Iterator[tuple[int, int, Any]]:
        held, place, first, begun, tried = "", 0, 0, False, 0
        last = 0
        for line in self._lines:
            if isinstance(line, Skipped):
                # The end of the element that holds this line cannot be known.
                start = first if held[place:].strip(_BLANK) else line.first
                yield start, line.last, self._rest(start, line)
                return
            text, last = line.text, line.number
            if not begun:
                begun = bool(text.strip())
                text = text.lstrip().removeprefix("[") if begun else ""
            if not held[place:].strip(_BLANK):
                held, place, first, tried = "", 0, line.number, 0
            held = held[place:] + text
            place = 0
            # Long elements are parsed again only after they have grown by half.
            if len(held) < tried and not text.lstrip().startswith(("}", "]")):
                continue
            while True:
                place = _BETWEEN.match(held, place).end()  # type: ignore[union-attr]
                if place == len(held) or held[place] == "]":
                    if place < len(held):
                        held, place = "", 0
                        yield from self._after_end(line.number)
                        return
                    break
                end = _end_of(held, place)
                if end is None:
                    if len(held) - place > self._limit:
                        long = f"longer than {self._limit} bytes (--max-record)"
                        yield first, last, self._rest(first, Skipped(first, last, long))
                        return
                    tried = (len(held) - place) * 3 // 2 if len(held) > 65536 else 0
                    break
                element = held[place:end]
                yield first, last, _strict(element)
                place, first = end, line.number
        if held[place:].strip(_BLANK):
            reason = "not JSON, or the file ends within it"
            yield first, last, Skipped(first, last, reason)

    def _after_end(self, number: int) -> Iterator[tuple[int, int, Any]]:
        """Several arrays may follow each other, each on its own lines."""
        rest = iter(_Elements(self._lines, self._limit))
        yield from rest

    def _rest(self, first: int, wrong: Skipped) -> Skipped:
        """All that follows, if no end of an element can be found."""
        last = wrong.last
        for line in self._lines:
            last = line.last if isinstance(line, Skipped) else line.number
        more = "; nothing behind it can be read" if last > wrong.last else ""
        return Skipped(first, last, wrong.reason + more)


def _end_of(text: str, place: int) -> int | None:
    """The end of the value that begins at `place`, even if the value is refused."""
    try:
        return LENIENT.raw_decode(text, place)[1]
    except (ValueError, RecursionError):
        return None


def _strict(text: str) -> Any:
    try:
        found = DECODER.decode(text)
        check_unicode(text, found)
    except (ValueError, RecursionError) as error:
        return error
    return found
