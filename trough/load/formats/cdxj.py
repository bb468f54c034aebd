"""CDXJ: a key, a time and a JSON object a line, as pywb, OpenWayback and ipwb write it."""

from __future__ import annotations

from collections.abc import Iterable

from trough.load.formats.captures import by_name
from trough.load.formats.json_text import json_object
from trough.load.lines import Line, texts
from trough.load.records import Reading, Records, Row, Skipped, Unusable


def cdxj(lines: Iterable[Line], reading: Reading) -> Records:
    """Rows of a CDXJ file; lines that begin with ``!`` or ``@`` are about the file."""
    for line in texts(lines, reading.max_record):
        if isinstance(line, Skipped):
            yield line
        elif line.text.strip() and line.text[0] not in "!@":
            try:
                yield _record(line.number, line.text)
            except Unusable as reason:
                yield Skipped(line.number, line.number, str(reason))


def _record(number: int, text: str) -> Row:
    head, brace, rest = text.partition("{")
    parts = head.split()
    # OpenWayback has the type of the record, too.
    if len(parts) not in (2, 3) or not brace:
        raise Unusable("not: key, timestamp, {json}")
    found = json_object(brace + rest)
    if parts[2:] == ["revisit"]:
        found.setdefault("mime", "warc/revisit")
    return by_name(number, found, b=parts[1])
