"""Lines of index and table files as rows for a segment: CDX, CDXJ, CSV, JSON lines.

Every line becomes a :class:`Row` or a :class:`Skipped` with the reason, so that nothing is
lost in silence, and one bad line costs only itself. Rows of the capture indexes (CDX and
CDXJ) are given the names of the ``crawled_url`` table that crawlers feed. It refuses to
know where rows go, and reads nothing itself but the lines that it is handed.
"""

from __future__ import annotations

import base64
import codecs
import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from trough import errors

#: Longest line that is read, in bytes; a longer one is skipped, in bounded memory.
MAX_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    :ivar line: number of its (last) line in the file, from 1
    :ivar values: by column
    """

    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line that is no row, and why."""

    line: int
    reason: str


#: A line of a file: its number, and its text or the reason why it has none.
Line = tuple[int, str | Skipped]


class _Unusable(Exception):
    """Why a line is no row."""


class Source(Protocol):
    """What lines are read from: a binary file, or a part of what one can do."""

    def readline(self, limit: int = ..., /) -> bytes:
        """The next line with its end, or `limit` bytes of it; empty at the end."""


def lines(stream: Source) -> Iterator[Line]:
    """The lines of a file, without their ends, and without a byte order mark before them."""
    number = 0
    while raw := stream.readline(MAX_LINE):
        number += 1
        if len(raw) == MAX_LINE and not raw.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                pass
            yield number, Skipped(number, f"longer than {MAX_LINE} bytes")
            continue
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            yield number, raw.rstrip(b"\r\n").decode()
        except UnicodeDecodeError as error:
            yield number, Skipped(number, f"not UTF-8: byte {error.start + 1} of the line")


def recognised(first: Iterable[str]) -> str | None:
    """The name of the format that a file's first lines show, or None.

    The first one may be damaged, so that one that is plainly of a format decides; CSV,
    which nearly everything could be, is what is left.
    """
    first = list(first)
    for text in first:
        for name, mark in _MARKS.items():
            if mark.match(text):
                return name
    return "csv" if first and "," in first[0] else None


_MARKS = {
    "jsonl": re.compile(r"\{"),
    "cdxj": re.compile(r"!|\S* \d{14} \{"),
    "cdx": re.compile(r" CDX |\S* \d{14} \S"),
}


# -- CDX -----------------------------------------------------------------------

# The letters of the header line ` CDX N b a ...`, where there is one; else what a number
# of fields means.
_CDX_BY_COUNT = {11: "NbamskrMSVg", 10: "NbamskrMVg", 9: "NbamskrVg"}
_CDX_NEEDED = "ba"


def cdx(source: Iterable[Line]) -> Iterator[Row | Skipped]:
    """Rows of a CDX file, whose header line may name any fields that include the
    date (b) and the original URL (a)."""
    fields: str | None = None
    for number, text in source:
        if isinstance(text, Skipped):
            yield text
        elif text.startswith(" CDX "):
            fields = _cdx_header(number, text)
        elif text:
            parts = text.split(" ")
            try:
                fields = fields or _cdx_without_header(parts)
                if len(parts) != len(fields):
                    raise _Unusable(_field_count(len(parts), len(fields)))
                yield Row(number, _capture(dict(zip(fields, parts, strict=True))))
            except _Unusable as reason:
                yield Skipped(number, str(reason))


def _cdx_header(number: int, text: str) -> str:
    letters = text.split()[1:]
    fields = "".join(letters)
    missing = [letter for letter in _CDX_NEEDED if letter not in letters]
    if missing or len(fields) != len(letters) or len(set(letters)) != len(letters):
        raise errors.BadRequest(
            f"line {number}: cannot be read as CDX: {text.strip()!r}",
            "a header names each field by one letter, once, with b (date) and a (URL) among them",
        )
    return fields


def _cdx_without_header(parts: list[str]) -> str:
    fields = _CDX_BY_COUNT.get(len(parts))
    if fields is None:
        raise _Unusable(f"{len(parts)} fields, and no header line that says what they are")
    return fields


def _field_count(found: int, expected: int) -> str:
    # The file name ends a line and the key begins one: two lines without the break
    # between them have one field fewer than twice as many.
    joined = "; two lines run together" if found == 2 * expected - 1 else ""
    return f"{found} fields instead of {expected}{joined}"


# -- CDXJ ----------------------------------------------------------------------

_CDXJ_NAMES = {
    "url": "a",
    "mime": "m",
    "status": "s",
    "digest": "k",
    "length": "S",
    "offset": "V",
    "filename": "g",
}


def cdxj(source: Iterable[Line]) -> Iterator[Row | Skipped]:
    """Rows of a CDXJ file: ``key timestamp {json}``; lines that begin with ``!`` are
    about the file and no captures."""
    for number, text in source:
        if isinstance(text, Skipped):
            yield text
        elif text and not text.startswith("!"):
            try:
                yield Row(number, _capture(_cdxj_fields(text)))
            except _Unusable as reason:
                yield Skipped(number, str(reason))


def _cdxj_fields(text: str) -> dict[str, str]:
    parts = text.split(" ", 2)
    if len(parts) != 3:
        raise _Unusable("not: key, timestamp, {json}")
    fields = {"b": parts[1]}
    for name, value in _json_object(parts[2]).items():
        if name in _CDXJ_NAMES and value is not None:
            fields[_CDXJ_NAMES[name]] = str(value)
    if "a" not in fields:
        raise _Unusable("no url")
    return fields


# -- captures ------------------------------------------------------------------


def _capture(fields: Mapping[str, str]) -> dict[str, Any]:
    """One capture, by its CDX letters, as a row of ``crawled_url``."""
    url = fields["a"]
    mimetype = _known(fields.get("m"))
    return {
        "timestamp": _timestamp(fields["b"]),
        "status_code": _integer("status", fields.get("s")),
        "size": _integer("size", fields.get("S")),
        "url": url,
        "mimetype": mimetype,
        "content_digest": _known(fields.get("k")),
        "is_duplicate": int(mimetype == "warc/revisit"),
        "warc_filename": _known(fields.get("g")),
        "warc_offset": _integer("offset", fields.get("V")),
        "host": _host(url),
    }


def _known(text: str | None) -> str | None:
    return None if text in (None, "", "-") else text


def _integer(name: str, text: str | None) -> int | None:
    if _known(text) is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,18}", text or ""):
        raise _Unusable(f"{name} is no number: {_shown(text)}")
    return int(text or "")


def _timestamp(text: str) -> str:
    if not re.fullmatch(r"[0-9]{14}", text):
        raise _Unusable(f"timestamp is not 14 digits: {_shown(text)}")
    try:
        day = (int(text[:4]), int(text[4:6]), int(text[6:8]))
        return str(datetime(*day, int(text[8:10]), int(text[10:12]), int(text[12:])))
    except ValueError as error:
        raise _Unusable(f"no such time: {_shown(text)}") from error


def _host(url: str) -> str | None:
    if url in ("", "-"):
        raise _Unusable("no url")
    try:
        return urlsplit(url).hostname
    except ValueError as error:
        raise _Unusable(f"url cannot be read: {error}") from error


# -- CSV -----------------------------------------------------------------------


def comma_separated(source: Iterable[Line]) -> Iterator[Row | Skipped]:
    """Rows of a CSV file, whose first row names the columns.

    An empty field is NULL: CSV has no other way to say it. A quoted field may hold
    line ends.

    :raises trough.errors.BadRequest: the first row names none; what is behind it means
        nothing then
    """
    text_lines = _TextLines(source)
    header: list[str] | None = None
    for parts in _csv_records(text_lines):
        damage, number = text_lines.taken_damage(), text_lines.last
        if header is None and damage:
            raise _no_csv_header(damage[0].line, damage[0].reason)
        yield from damage
        if header is None:
            header = _csv_header(number, parts) if parts else None
        elif isinstance(parts, csv.Error):
            yield Skipped(number, f"not CSV: {parts}")
        elif len(parts) == len(header):
            yield Row(number, dict(zip(header, (part or None for part in parts), strict=True)))
        elif parts:
            yield Skipped(number, f"{len(parts)} fields instead of {len(header)}")
    yield from text_lines.taken_damage()


class _TextLines:
    """Lines as :mod:`csv` wants them; what has no text is put aside.

    :ivar last: number of the line handed out last
    """

    def __init__(self, source: Iterable[Line]) -> None:
        self._source = iter(source)
        self._damage: list[Skipped] = []
        self.last = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for number, text in self._source:
            if not isinstance(text, Skipped):
                self.last = number
                return f"{text}\n"
            self._damage.append(text)
        raise StopIteration

    def taken_damage(self) -> list[Skipped]:
        """The lines that had no text since the last call."""
        damage, self._damage = self._damage, []
        return damage


def _csv_records(text_lines: Iterator[str]) -> Iterator[list[str] | csv.Error]:
    reader = csv.reader(text_lines, strict=True)
    while True:
        try:
            yield next(reader)
        except csv.Error as error:
            yield error
        except StopIteration:
            return


def _csv_header(number: int, names: list[str] | csv.Error) -> list[str]:
    if isinstance(names, csv.Error):
        raise _no_csv_header(number, f"not CSV: {names}")
    if "" in names or len({name.lower() for name in names}) != len(names):
        told = f"a column without a name, or two of one name: {','.join(names)!r}"
        raise _no_csv_header(number, told)
    return names


def _no_csv_header(number: int, reason: str) -> errors.BadRequest:
    hint = "the first row of a CSV file names the columns"
    return errors.BadRequest(f"line {number}: {reason}", hint)


# -- JSON lines ----------------------------------------------------------------


def json_lines(source: Iterable[Line]) -> Iterator[Row | Skipped]:
    """Rows of a file with one JSON object a line, by column.

    ``{"blob": "<base64>"}``, as query results have it, is a BLOB; other objects and
    lists are stored as the JSON text that they are.
    """
    for number, text in source:
        if isinstance(text, Skipped):
            yield text
        elif text.strip():
            try:
                found = _json_object(text)
                if not found:
                    raise _Unusable("an object without columns")
                yield Row(number, {name: _json_value(value) for name, value in found.items()})
            except _Unusable as reason:
                yield Skipped(number, str(reason))


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
        if "\\ud" in text.lower():  # half a pair is JSON, and yet no text
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise _Unusable(f"not JSON: {error or 'too deep'}") from error
    if not isinstance(found, dict):
        raise _Unusable("not a JSON object")
    return found


def _json_value(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"blob"} and isinstance(value["blob"], str):
        try:
            return bytearray(base64.b64decode(value["blob"], validate=True))
        except ValueError as error:
            raise _Unusable(f"a blob that is not base64: {error}") from error
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise _Unusable(f"an integer of more than 64 bits: {value}")
    return value


def _shown(text: object) -> str:
    return ascii(text)[:60]


#: The formats, by the name that a user gives: lines in, rows or the reason why not out.
FORMATS: dict[str, Callable[[Iterable[Line]], Iterator[Row | Skipped]]] = {
    "cdx": cdx,
    "cdxj": cdxj,
    "csv": comma_separated,
    "jsonl": json_lines,
}
