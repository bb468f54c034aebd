"""``crawl.log`` of Heritrix: one fetch a line, the source of the columns of ``crawled_url``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from trough.load.formats.captures import host_of, integer, known, moment, shown
from trough.load.formats.json_text import json_object
from trough.load.lines import Line, texts
from trough.load.records import (
    FormatOptions,
    RecordRow,
    Records,
    Skipped,
    UnusableRecord,
    count_of_fields,
)

#: The beginning of a line: time, status, size, URL.
LINE = re.compile(
    r"\s*([0-9]{14}|[0-9]{17}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]+)?Z?)"
    r"\s+-?[0-9]+\s+([0-9]+|-)\s+[A-Za-z][A-Za-z0-9+.-]*:\S*\s"
)

COLUMNS = (
    "timestamp",
    "status_code",
    "size",
    "payload_size",
    "url",
    "hop_path",
    "via",
    "mimetype",
    "content_digest",
    "seed",
    "is_duplicate",
    "warc_filename",
    "warc_offset",
    "host",
)
_THREAD = re.compile(r"#-?[0-9]+|-")
_BEGUN = re.compile(r"[0-9]{14,17}(\+(-?[0-9]+|-))?|-")
_ANNOTATION = re.compile(r"([0-9]+t|[a-z]+[A-Za-z]*:[0-9]+|duplicate.*|unwritten)(,|$)")
_CONTENT_SIZE = re.compile(r"(?:^|[\s,])content-size:([0-9]{1,18})(?=[\s,]|$)")
_DUPLICATE = re.compile(r"(?:^|[\s,])(?:duplicate:|warcRevisit:)")


def crawl_log(lines: Iterable[Line], reading: FormatOptions) -> Records:
    """Rows of a crawl log, including failed fetches and ``dns:``."""
    for line in texts(lines, reading.max_record):
        if isinstance(line, Skipped):
            yield line
        elif line.text.strip():
            try:
                yield _record(line.number, line.text)
            except UnusableRecord as reason:
                yield Skipped(line.number, line.number, str(reason))


def _record(number: int, text: str) -> RecordRow:
    parts = text.split(None, 10)
    if len(parts) < 10:
        raise UnusableRecord(f"{count_of_fields(len(parts))}; a line of crawl.log has at least 10")
    time, status, size, url, hops, via, mimetype, thread, begun, digest, *rest = parts
    if not (_THREAD.fullmatch(thread) and _BEGUN.fullmatch(begun)):
        # A blank in a field would shift all fields after it.
        raise UnusableRecord(f"fields 8 and 9 are no thread and time: {shown(f'{thread} {begun}')}")
    seed, annotations, brace, extra = _rest(rest[0] if rest else "")
    found: dict[str, Any] = json_object(brace + extra) if brace else {}
    content_size = _CONTENT_SIZE.search(annotations)
    values = (
        moment(time),
        integer("status", status),
        integer("size", size),
        int(content_size[1]) if content_size else _number(found, "contentSize"),
        url,
        known(hops),
        known(via),
        known(mimetype),
        known(digest),
        seed,
        int(bool(_DUPLICATE.search(annotations))),
        _text(found, "warcFilename"),
        _number(found, "warcFileOffset"),
        host_of(url),
    )
    return RecordRow(number, number, COLUMNS, values)


def _rest(text: str) -> tuple[str | None, str, str, str]:
    """Seed, annotations, and the brace and the rest of the JSON after them."""
    before, brace, extra = text.partition("{")
    seed, _, annotations = before.partition(" ")
    if _ANNOTATION.match(seed):  # the first releases had no seed
        seed, annotations = "-", before
    return known(seed), annotations, brace, extra


def _number(found: dict[str, Any], name: str) -> int | None:
    value = found.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(found: dict[str, Any], name: str) -> str | None:
    value = found.get(name)
    return value if isinstance(value, str) else None
