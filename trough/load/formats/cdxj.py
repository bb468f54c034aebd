"""CDXJ: a key, a time and a JSON object a line, as pywb, OpenWayback and ipwb write it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from trough.load.formats.captures import by_name, note_others
from trough.load.formats.json_text import json_object
from trough.load.lines import Line, texts
from trough.load.records import FormatOptions, RecordRow, Records, Skipped, UnusableRecord

_TYPE = re.compile(r"\S+[ \t]+\S+[ \t]+([a-z]+)[ \t]*\{")
_CAPTURES = frozenset({"response", "revisit", "resource"})


def cdxj(lines: Iterable[Line], reading: FormatOptions) -> Records:
    """Rows of a CDXJ file; lines that begin with ``!`` or ``@`` are about the file."""
    others: Counter[str] = Counter()
    for line in texts(lines, reading.max_record):
        if isinstance(line, Skipped):
            yield line
        elif (kind := _TYPE.match(line.text)) and kind[1] not in _CAPTURES:
            others[kind[1]] += 1
        elif line.text.strip() and line.text[0] not in "!@":
            try:
                yield _record(line.number, line.text)
            except UnusableRecord as reason:
                yield Skipped(line.number, line.number, str(reason))
    note_others(others, reading)


def _record(number: int, text: str) -> RecordRow:
    head, brace, rest = text.partition("{")
    parts = head.split()
    # OpenWayback also writes the type of the record.
    if len(parts) not in (2, 3) or not brace:
        raise UnusableRecord("not: key, timestamp, {json}")
    found = json_object(brace + rest)
    if parts[2:] == ["revisit"]:
        found.setdefault("mime", "warc/revisit")
    return by_name(number, found, b=parts[1])
