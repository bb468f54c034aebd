"""CSV and TSV: records of fields. A field may continue over line ends within quotes.

The shell's output is read back as the same values. In CSV an empty field is NULL and ``""`` the
empty text. In TSV NULL is ``\\N`` and an empty field the empty text. ``x'...'`` without quotes is
a BLOB, with quotes a text. A number without quotes becomes a number if the column keeps the type
of a stored value. For other columns SQLite converts the text to the column's type.

A record, even a damaged one, ends where its quotes are closed and its line ends. So no part of a
damaged record is taken for a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from trough import errors
from trough.load.lines import Line, not_utf8, texts
from trough.load.records import (
    FormatOptions,
    Quoted,
    Record,
    RecordRow,
    Records,
    Skipped,
    alike,
    count_of_fields,
)
from trough.util.quoting import quoted

_BLOB = re.compile(r"[xX]'((?:[0-9a-fA-F]{2})*)'")
_INFINITY = re.compile(r"-?9e999")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_REAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?", re.IGNORECASE)


class _Raw(NamedTuple):
    """A record with its fields as in the file.

    :ivar fields: texts; None is NULL
    :ivar quoted: numbers of the fields that had quotes
    :ivar blobs: one of the fields may be a BLOB
    """

    first: int
    last: int
    fields: list[str | None]
    quoted: frozenset[int] = frozenset()
    blobs: bool = False


def comma_separated(lines: Iterable[Line], reading: FormatOptions) -> Records:
    """Rows of a CSV file, whose first record names the columns.

    :raises trough.errors.BadRequest: it does not, and no option named them
    """
    records = _csv_records(lines, reading.max_record, reading.delimiter)
    return _rows(records, reading, "CSV")


def tab_separated(lines: Iterable[Line], reading: FormatOptions) -> Records:
    """Rows of a TSV file, whose first record names the columns.

    :raises trough.errors.BadRequest: it does not, and no option named them
    """
    return _rows(_tsv_records(lines, reading.max_record), reading, "TSV")


# -- rows ----------------------------------------------------------------------


def _rows(records: Iterable[_Raw | Skipped], reading: FormatOptions, kind: str) -> Iterator[Record]:
    header: tuple[str, ...] | None = reading.fields
    convert = _converter(header or (), reading)
    for record in records:
        if header is None:
            if isinstance(record, _Raw) and record.fields in ([], [None]):
                continue  # spreadsheets write empty lines before their header
            header = _header(record, kind)
            # A program that quotes every name also quotes every value.
            all_quoted = isinstance(record, _Raw) and len(record.quoted) == len(header)
            convert = _converter(header, reading, quotes_tell=not all_quoted)
        elif isinstance(record, Skipped):
            yield record
        elif len(record.fields) == len(header):
            yield convert(record)
        elif record.fields not in ([], [None]):
            reason = f"{count_of_fields(len(record.fields))} instead of {len(header)}"
            yield Skipped(record.first, record.last, reason)


def _header(record: _Raw | Skipped, kind: str) -> tuple[str, ...]:
    hint = f"the first record of a {kind} file names the columns; --fields names them otherwise"
    if isinstance(record, Skipped):
        raise errors.BadRequest(f"line {record.first}: {record.reason}", hint)
    names = tuple(name or "" for name in record.fields)
    if None in record.fields or ("" in names and not record.quoted):
        wrong = "a column without a name"
    elif same := alike(names):
        wrong = f"two columns of one name, {same[0]}"
    elif len(names) == 1 and (found := re.search(r"[;|\t]", names[0])):
        wrong, hint = (
            "one column only",
            f"its delimiter seems to be {quoted(found[0])}: --delimiter",
        )
    elif "\0" in "".join(names):
        wrong = "a NUL in a column's name"
    else:
        return names
    raise errors.BadRequest(f"line {record.first}: {wrong}: {','.join(names)[:200]!a}", hint)


def _converter(
    header: tuple[str, ...], reading: FormatOptions, quotes_tell: bool = True
) -> Callable[[_Raw], RecordRow]:
    """Converts records to rows, with numbers if a column keeps the type of a stored value.

    :param quotes_tell: quotes distinguish a text from a number
    """
    known, typed = False, []

    def convert(record: _Raw) -> RecordRow:
        nonlocal known, typed
        first, last, fields, quoted, blobs = record
        values: list[Any] = fields
        if not known and (known := reading.types_known()):
            typed = [place for place, name in enumerate(header) if reading.keeps_type(name)]
        if blobs:
            for place, value in enumerate(values):
                if value and place not in quoted and (blob := _BLOB.fullmatch(value)):
                    values[place] = bytearray.fromhex(blob[1])
        if not known and quotes_tell:
            for place in quoted:
                values[place] = Quoted(values[place])
        for place in typed:
            value = values[place]
            if isinstance(value, str) and place not in quoted:
                values[place] = _number(value)
        return RecordRow(first, last, header, values)

    return convert


def typed_row(row: RecordRow, keeps_type: Callable[[str], bool]) -> RecordRow:
    """A row that was made before the types of its columns were known."""
    values = [
        _number(value) if type(value) is str and keeps_type(name) else value
        for name, value in zip(row.columns, row.values, strict=True)
    ]
    return row._replace(values=[str(v) if type(v) is Quoted else v for v in values])


def _number(text: str) -> str | int | float:
    """The number in a text, if the shell writes the number like this; otherwise the text."""
    if _INTEGER.fullmatch(text):
        number = int(text)
        return number if -(2**63) <= number < 2**63 else text
    if _INFINITY.fullmatch(text):
        return float("-inf" if text[0] == "-" else "inf")
    if _REAL.fullmatch(text) and repr(float(text)) == text:
        return float(text)
    return text


# -- CSV -----------------------------------------------------------------------


def _csv_records(lines: Iterable[Line], limit: int, delimiter: str) -> Iterator[_Raw | Skipped]:
    record = _CsvRecord(limit, delimiter)
    for line in lines:
        number, data, whole = line
        if not record.open:
            if whole and b'"' not in data:
                yield _without_quotes(number, data, delimiter)
                continue
            record.begin(number)
        if record.add(line):
            yield record.finish(number)
    if record.open:
        yield record.cut_off()


def _without_quotes(number: int, data: bytes, delimiter: str) -> _Raw | Skipped:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return Skipped(number, number, not_utf8(number, error))
    if text == "\n":
        return _Raw(number, number, [])
    # For a single column, the shell writes NULL as an empty line, with its carriage return.
    text = text.removesuffix("\n").removesuffix("\r")
    if "\r" in text:
        return Skipped(number, number, _LONE_CR)
    fields: list[str | None] = text.split(delimiter)  # type: ignore[assignment]
    if "" in fields:
        fields = [part or None for part in fields]
    return _Raw(number, number, fields, blobs="x'" in text or "X'" in text)


_LONE_CR = "not CSV: a carriage return that ends no line, outside of quotes"

#: A field with quotes, from after the first quote.
_QUOTED = re.compile(r'[^"]*(?:""[^"]*)*')


class _CsvRecord:
    """A record that is being read, with its lines.

    :ivar open: the record has begun
    """

    def __init__(self, limit: int, delimiter: str) -> None:
        self._limit = limit
        self._delimiter = delimiter
        self._plain = re.compile(f"[^{re.escape(delimiter)}]*")
        self.open = False

    def begin(self, number: int) -> None:
        self.open = True
        self._first = number
        self._size = 0
        self._fields: list[str | None] = []
        self._quoted: set[int] = set()
        self._within: list[str] | None = None  # pieces of the field whose quote is open
        self._quote_line = 0
        self._state = _START
        self._wrong = ""

    def add(self, line: Line) -> bool:
        """Take a line. Return whether the record ends with it."""
        self._size += len(line.data)
        if not line.whole or self._size > self._limit or self._wrong:
            return self._pass_over(line)
        try:
            text = line.data.decode()
        except UnicodeDecodeError as error:
            self._wrong = not_utf8(line.number, error)
            return self._pass_over(line)
        return self._parse(text, line.number)

    def finish(self, last: int) -> _Raw | Skipped:
        """The record that ends with line `last`."""
        self.open = False
        if self._wrong:
            return Skipped(self._first, last, self._wrong)
        return _Raw(self._first, last, self._fields, frozenset(self._quoted), True)

    def cut_off(self) -> Skipped:
        """The record, if the file ends within it."""
        self.open = False
        if self._state != _QUOTED_STATE:
            # The last piece of a line that is too long and has no line end.
            return Skipped(self._first, self._last, self._wrong)
        took = self._last - self._quote_line + 1
        reason = (
            f"not CSV: the quote that opens at line {self._quote_line} is never closed; "
            f"it took {took} lines, to the end of the file"
        )
        return Skipped(self._first, self._last, reason)

    # -- reading what is a row

    def _parse(self, text: str, number: int) -> bool:
        self._last = number
        place = 0
        if self._within is not None:
            place = self._quoted_field(text, 0)
            if place < 0:
                return False
        elif text[:1] == '"':
            place = self._open_quote(text, 1, number)
            if place < 0:
                return False
        else:
            place = self._plain_field(text, 0)
        # At each pass, `place` is after a field: at a delimiter, or at the end.
        while text[place : place + 1] == self._delimiter:
            if text[place + 1 : place + 2] == '"':
                place = self._open_quote(text, place + 2, number)
                if place < 0:
                    return False
            else:
                place = self._plain_field(text, place + 1)
        return True

    def _plain_field(self, text: str, place: int) -> int:
        end = self._plain.match(text, place).end()  # type: ignore[union-attr]
        field = text[place:end]
        if field.endswith("\n"):
            field = field.removesuffix("\n").removesuffix("\r")
        elif end == len(text) and field.endswith("\r"):
            field = field[:-1]
        if "\r" in field:
            self._wrong = self._wrong or _LONE_CR
        self._fields.append(field or None)
        return end

    def _open_quote(self, text: str, place: int, number: int) -> int:
        self._quote_line = number
        self._within = []
        return self._quoted_field(text, place)

    def _quoted_field(self, text: str, place: int) -> int:
        """Continue within quotes. Return the place after the field, or -1 if they stay open."""
        assert self._within is not None
        end = _QUOTED.match(text, place).end()  # type: ignore[union-attr]
        self._within.append(text[place:end])
        if end == len(text):
            self._state = _QUOTED_STATE
            return -1
        self._quoted.add(len(self._fields))
        self._fields.append("".join(self._within).replace('""', '"'))
        self._within = None
        self._state = _START
        rest = self._plain.match(text, end + 1).group()  # type: ignore[union-attr]
        if rest.rstrip("\r\n"):
            self._wrong = self._wrong or "not CSV: something follows a closing quote"
        return end + 1 + len(rest)

    # -- finding the end of what is none

    def _pass_over(self, line: Line) -> bool:
        self._last = line.number
        self._wrong = self._wrong or f"longer than {self._limit} bytes (--max-record)"
        self._within = None
        self._fields.clear()
        self._state = _scanned(self._state, line.data, self._delimiter.encode(), self._note_quote)
        if self._state == _QUOTED_STATE:
            return False
        if self._state == _AFTER_QUOTE and not line.data.endswith(b"\n"):
            return False  # a second quote may follow in the next piece
        return line.data.endswith(b"\n")

    def _note_quote(self) -> None:
        self._quote_line = self._last


_START, _PLAIN_STATE, _QUOTED_STATE, _AFTER_QUOTE = range(4)


def _scanned(state: int, data: bytes, delimiter: bytes, on_quote: Callable[[], None]) -> int:
    """The state after `data`, in time linear in its length."""
    place, size = 0, len(data)
    while place < size:
        if state == _START:
            quote = data[place] == 0x22
            state = _QUOTED_STATE if quote else _PLAIN_STATE
            if quote:
                on_quote()
                place += 1
        elif state == _PLAIN_STATE:
            end = data.find(delimiter, place)
            if end < 0:
                return state
            state, place = _START, end + 1
        elif state == _QUOTED_STATE:
            quote_place = data.find(b'"', place)
            if quote_place < 0:
                return state
            state, place = _AFTER_QUOTE, quote_place + 1
        else:
            state = _QUOTED_STATE if data[place] == 0x22 else _PLAIN_STATE
            place += state == _QUOTED_STATE
    return state


# -- TSV -----------------------------------------------------------------------

_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
_ESCAPE = re.compile(r"\\([tnr\\])")
#: A text in quotes; quotes within it are doubled.
_TSV_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def _tsv_records(lines: Iterable[Line], limit: int) -> Iterator[_Raw | Skipped]:
    for line in texts(lines, limit):
        if isinstance(line, Skipped):
            yield line
        elif line.text:
            yield _tsv_record(line.number, line.text)


def _tsv_record(number: int, text: str) -> _Raw:
    parts = text.split("\t")
    fields: list[str | None] = []
    if '"' not in text and "\\" not in text:
        fields += parts
        return _Raw(number, number, fields, blobs="'" in text)
    quoted = set()
    for place, part in enumerate(parts):
        if part == "\\N":
            fields.append(None)
            continue
        if found := _TSV_QUOTED.fullmatch(part):
            part = found[1].replace('""', '"')
            quoted.add(place)
        fields.append(_ESCAPE.sub(lambda escape: _ESCAPES[escape[1]], part))
    return _Raw(number, number, fields, frozenset(quoted), True)
