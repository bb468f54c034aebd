"""Rows as text, in the formats of the shell and of HTTP.

A renderer takes the rows of one result set as they come and gives text back, holding no
more of them than it says; so a result may be of any size. The formats for people (TABLE,
PRETTY, JSON, VERTICAL, MARKDOWN) show values safely. The formats for programs (CSV, TSV,
JSONL) give every value exactly, and are made safe only where they go to a terminal. It
refuses to know segments, files and screens.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trough.util.safe_text import cut, padded, safe, safe_json, show_value, width

Row = Sequence[Any]

#: Rows, and characters in them, that a TABLE looks at before it decides how wide its
#: columns are.
TABLE_LOOKAHEAD = 500
TABLE_LOOKAHEAD_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """How values are shown.

    :ivar terminal: whether the text goes to a terminal, and must do nothing to it
    :ivar null: what stands for NULL in the formats for people
    :ivar max_column_width: columns of the screen after which TABLE cuts a value; 0: never
    """

    terminal: bool = False
    null: str = "<null>"
    max_column_width: int = 0


class Renderer:
    """One result set on its way to being text.

    Calls come as ``begin``, any number of ``rows``, ``end``. Each returns the text that is
    ready; ``flush`` returns what is held back, for a reader who has waited long enough.
    """

    #: For programs: no title or count may stand between the rows.
    for_programs = False
    #: The text of a result is one JSON value, so that a file of several would be none.
    is_document = False

    def __init__(self, columns: Sequence[str], options: RenderOptions) -> None:
        self.columns = list(columns)
        self.options = options

    def begin(self) -> str:
        """What comes before the first row."""
        return ""

    def rows(self, rows: Sequence[Row]) -> str:
        """Further rows."""
        raise NotImplementedError

    def flush(self) -> str:
        """What is held back."""
        return ""

    def end(self) -> str:
        """What comes after the last row."""
        return self.flush()


class Table(Renderer):
    """Columns side by side under their names."""

    def __init__(self, columns: Sequence[str], options: RenderOptions) -> None:
        super().__init__(columns, options)
        self._held: list[list[str]] = []
        self._held_size = 0
        self._widths: list[int] = []
        self._numeric: list[bool] = [True] * len(self.columns)
        self._begun = False

    def rows(self, rows: Sequence[Row]) -> str:
        null, most = self.options.null, self.options.max_column_width
        for row in rows:
            shown = [show_value(value, null) for value in row]
            texts = [cut(text, most) for text in shown] if most else shown
            self._held.append(texts)
            self._held_size += sum(map(len, texts))
            if not self._begun:
                self._note_numeric(row)
        full = len(self._held) >= TABLE_LOOKAHEAD or self._held_size >= TABLE_LOOKAHEAD_SIZE
        return self.flush() if full else ""

    def _note_numeric(self, row: Row) -> None:
        for index, value in enumerate(row):
            if value is not None and not isinstance(value, int | float):
                self._numeric[index] = False

    def flush(self) -> str:
        if not self._held:
            return ""
        held, self._held, self._held_size = self._held, [], 0
        head = "" if self._begun else self._head(held)
        # Columns only grow, so that what comes later does not jump to and fro.
        for index, texts in enumerate(zip(*held, strict=True)):
            self._widths[index] = max(self._widths[index], *map(width, texts))
        return head + "".join([self._line(texts) for texts in held])

    def end(self) -> str:
        return self.flush() if self._begun or self._held else self._head([])

    def _head(self, held: list[list[str]]) -> str:
        self._begun = True
        names = [safe(name) for name in self.columns]
        self._widths = [width(name) for name in names]
        for index, texts in enumerate(zip(*held, strict=True)):
            self._widths[index] = max(self._widths[index], *map(width, texts))
        rule = "-+-".join("-" * columns for columns in self._widths)
        pairs = zip(names, self._widths, strict=True)
        return f" {' | '.join(padded(*pair) for pair in pairs).rstrip()}\n-{rule}-\n"

    def _line(self, texts: list[str]) -> str:
        cells = map(padded, texts, self._widths, self._numeric)
        return f" {' | '.join(cells).rstrip()}\n"


class Vertical(Renderer):
    """One line a column, one block a row."""

    def __init__(self, columns: Sequence[str], options: RenderOptions) -> None:
        super().__init__(columns, options)
        names = [safe(name) for name in self.columns]
        widest = max(map(width, names), default=0)
        self._names = [padded(name, widest) for name in names]
        self._count = 0

    def rows(self, rows: Sequence[Row]) -> str:
        null = self.options.null
        parts: list[str] = []
        for row in rows:
            self._count += 1
            parts.append(f"-[ row {self._count} ]{'-' * 20}\n")
            for name, value in zip(self._names, row, strict=True):
                parts.append(f"{name} | {show_value(value, null)}\n")
        return "".join(parts)


class Markdown(Renderer):
    """A table for a text in Markdown."""

    def begin(self) -> str:
        names = [_markdown(safe(name)) for name in self.columns]
        return f"| {' | '.join(names)} |\n|{' --- |' * len(names)}\n"

    def rows(self, rows: Sequence[Row]) -> str:
        null = _markdown(self.options.null)
        return "".join(
            f"| {' | '.join([_markdown(show_value(value, null)) for value in row])} |\n"
            for row in rows
        )


def _markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


class JsonLines(Renderer):
    """One JSON object a line; a BLOB is ``{"blob": "<base64>"}``."""

    for_programs = True

    def rows(self, rows: Sequence[Row]) -> str:
        names = distinct(self.columns)
        text = "".join([f"{_json_object(names, row)}\n" for row in rows])
        return safe_json(text) if self.options.terminal else text


class JsonArray(Renderer):
    """One JSON array of objects, as a worker answers over HTTP."""

    is_document = True

    def __init__(self, columns: Sequence[str], options: RenderOptions) -> None:
        super().__init__(columns, options)
        self._names = distinct(self.columns)
        self._separator = "["

    def rows(self, rows: Sequence[Row]) -> str:
        parts: list[str] = []
        for row in rows:
            parts += (self._separator, self._object(row))
            self._separator = ",\n"
        text = "".join(parts)
        return safe_json(text) if self.options.terminal else text

    def _object(self, row: Row) -> str:
        return _json_object(self._names, row)

    def end(self) -> str:
        return "[]\n" if self._separator == "[" else "]\n"


class Pretty(JsonArray):
    """As JSON, one line a value."""

    def _object(self, row: Row) -> str:
        pairs = zip(self._names, row, strict=True)
        return "{\n" + ",\n".join(f"  {_encode(n)}: {json_value(v)}" for n, v in pairs) + "\n}"


def distinct(names: Sequence[str]) -> list[str]:
    """`names`, in which a later one of two that are alike gets a number: a, a_2."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return result


def json_value(value: object) -> str:
    """A value as in the line protocol."""
    if isinstance(value, bytes):
        return f'{{"blob": "{base64.b64encode(value).decode()}"}}'
    if isinstance(value, float) and not math.isfinite(value):
        return "null" if math.isnan(value) else "9e999" if value > 0 else "-9e999"
    return json.dumps(value, ensure_ascii=False)


# Made once, for making one takes longer than writing a row.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def _json_object(names: list[str], row: Row) -> str:
    """A row as a JSON object.

    :param names: of the columns, each once
    """
    try:
        return _encode(dict(zip(names, row, strict=True)))
    except (TypeError, ValueError):  # a BLOB, an infinity
        pairs = zip(names, row, strict=True)
        return f"{{{', '.join([f'{_encode(n)}: {json_value(v)}' for n, v in pairs])}}}"


class Csv(Renderer):
    """RFC 4180 with a header line. NULL is empty and the empty text is ``""``; a BLOB is
    written as in SQL, ``x'...'``. A text that looks like a number or a BLOB has quotes."""

    for_programs = True
    _end_of_line = "\r\n"
    _separator = ","

    def begin(self) -> str:
        return self._lines([self.columns])

    def rows(self, rows: Sequence[Row]) -> str:
        return self._lines(rows)

    def _lines(self, rows: Sequence[Row]) -> str:
        columns = [self._column(values) for values in zip(*rows, strict=True)]
        join, end = self._separator.join, self._end_of_line
        return "".join([join(cells) + end for cells in zip(*columns, strict=True)])

    def _column(self, values: Sequence[Any]) -> Sequence[str]:
        """The cells of some values of one column.

        A column at a time, for most have values of one type of which none needs quotes: that is
        seen with one search, instead of one call a cell.
        """
        kinds = set(map(type, values))
        if kinds == {int}:
            return list(map(str, values))
        if kinds == {str} and not self.options.terminal and self._are_plain(values):
            return values
        return [self._cell(value) for value in values]

    def _are_plain(self, texts: Sequence[str]) -> bool:
        """Whether each of these is a cell as it is."""
        joined = "\n" + "\n".join(texts)
        return (
            joined.count("\n") == len(texts)
            and not ("," in joined or '"' in joined or "\r" in joined)
            and not (_CSV_BEGINS.search(joined) or _CSV_ENDS.search(joined))
        )

    def _cell(self, value: object) -> str:
        if isinstance(value, str):
            text = safe(value) if self.options.terminal else value
            if _CSV_QUOTED.search(text):
                return '"' + text.replace('"', '""') + '"'
            return text
        return exact_text(value)


# What trough-load would take for a number or a BLOB.
_LIKE_A_VALUE = r"^-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?$|^[xX]'"
# Empty, with something that ends a value, or with blanks that readers like to strip.
_CSV_QUOTED = re.compile(r'^$|[,"\r\n]|^\s|\s$|' + _LIKE_A_VALUE)
_TSV_QUOTED = re.compile('^"|' + _LIKE_A_VALUE)
# The same of several values, each with a line's end in front: without anchors, which are tested at
# each character, a search takes a fifth of the time.
_NUMBERS = r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?(?:\n|\Z)|[xX]'"
_CSV_BEGINS = re.compile(rf"\n(?:\s|\Z|{_NUMBERS})")
_CSV_ENDS = re.compile(r"[^\S\n](?:\n|\Z)")
_TSV_BEGINS = re.compile(rf"\n(?:\"|{_NUMBERS})")


class Tsv(Csv):
    """Tab-separated values with a header line. NULL is ``\\N``; tab, newline, carriage
    return and backslash within a value are written ``\\t``, ``\\n``, ``\\r``, ``\\\\``. A text
    that looks like a number or a BLOB, or begins with a quote, has quotes as in CSV."""

    _end_of_line = "\n"
    _separator = "\t"

    def _are_plain(self, texts: Sequence[str]) -> bool:
        joined = "\n" + "\n".join(texts)
        return (
            len(self.columns) > 1
            and joined.count("\n") == len(texts)
            and not ("\\" in joined or "\t" in joined or "\r" in joined)
            and not _TSV_BEGINS.search(joined)
        )

    def _cell(self, value: object) -> str:
        if isinstance(value, str):
            text = value.translate(_TSV_ESCAPES)
            # Of one column, an empty text would be an empty line, which is no record.
            if _TSV_QUOTED.search(text) or (not text and len(self.columns) == 1):
                text = '"' + text.replace('"', '""') + '"'
            return safe(text) if self.options.terminal else text
        return "\\N" if value is None else exact_text(value)


_TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def exact_text(value: object) -> str:
    """A value that is no text, so that it can be read back; NULL is empty."""
    if isinstance(value, int):
        return str(value)
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, float) and math.isinf(value):
        return "9e999" if value > 0 else "-9e999"
    return repr(value) if isinstance(value, float) else str(value)
