"""Captures, from any index, as rows of the table ``crawled_url`` that crawlers fill.

Damage in a field that is not stored never loses a row. Damage in a stored field does: the value
is not invented.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from trough.load.records import FormatOptions, RecordRow, UnusableRecord

#: Columns of a capture from an index.
COLUMNS = (
    "timestamp",
    "status_code",
    "size",
    "url",
    "mimetype",
    "content_digest",
    "is_duplicate",
    "warc_filename",
    "warc_offset",
    "host",
)

#: The letter of each field of CDX, by the names that other indexes give it.
LETTERS = {
    "urlkey": "N",
    "timestamp": "b",
    "date": "b",
    "url": "a",
    "original": "a",
    "original_uri": "a",
    "uri": "a",
    "mime": "m",
    "mimetype": "m",
    "mime_type": "m",
    "mct": "m",
    "status": "s",
    "statuscode": "s",
    "status_code": "s",
    "hsc": "s",
    "digest": "k",
    "sha": "k",
    "length": "S",
    "size": "S",
    "rle": "S",
    "offset": "V",
    "filename": "g",
    "robotflags": "M",
    "redirect": "r",
}

# Indexes of 2006 and before leave the scheme out.
_WITHOUT_SCHEME = re.compile(r"((?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24})(?::[0-9]+)?(?:/|$)")
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")


def capture(first: int, fields: Mapping[str, str]) -> RecordRow:
    """One capture as a row.

    :param first: number of its line
    :param fields: by CDX letter
    :raises Unusable: a stored field is damaged, or there is no URL
    """
    url = fields.get("a", "-")
    if url in ("", "-") and _URL.match(fields.get("A", "")):
        # NetarchiveSuite calls the original URL A.
        url = fields["A"]
    mimetype = known(fields.get("m"))
    values = (
        moment(fields["b"]) if known(fields.get("b")) else None,
        integer("status", fields.get("s")),
        integer("size", _first_known(fields, "Sn")),
        url,
        mimetype,
        known(fields.get("k")),
        int(mimetype == "warc/revisit"),
        known(fields.get("g")),
        integer("offset", _first_known(fields, "Vv")),
        host_of(url),
    )
    return RecordRow(first, first, COLUMNS, values)


def known(text: str | None) -> str | None:
    """The text of a field, or None if it is a dash or empty."""
    return None if text in (None, "", "-") else text


def _first_known(fields: Mapping[str, str], letters: str) -> str | None:
    return next(filter(None, (known(fields.get(letter)) for letter in letters)), None)


def integer(name: str, text: str | None) -> int | None:
    """The number of a field.

    :raises Unusable: it is no number
    """
    if known(text) is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,18}", text or ""):
        raise UnusableRecord(f"{name} is no number: {shown(text)}")
    return int(text or "")


_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}")


def moment(text: str) -> str:
    """``YYYY-MM-DD HH:MM:SS`` in UTC, from 14 or 17 digits or ISO 8601.

    :raises Unusable: it is no time
    """
    try:
        if re.fullmatch(r"[0-9]{14}([0-9]{3})?", text):
            return str(datetime.strptime(text[:14], "%Y%m%d%H%M%S"))
        if _ISO.match(text):
            found = datetime.fromisoformat(text)
            if found.tzinfo is not None:
                found = found.astimezone(UTC).replace(tzinfo=None)
            return str(found.replace(microsecond=0))
    except (ValueError, OverflowError) as error:
        raise UnusableRecord(f"no such time: {shown(text)}") from error
    raise UnusableRecord(f"timestamp is not 14 digits: {shown(text)}")


def host_of(url: str) -> str | None:
    """The host of a URL, if it has one.

    :raises Unusable: there is no URL, or one that cannot be read
    """
    if url in ("", "-"):
        raise UnusableRecord("no url")
    if found := _WITHOUT_SCHEME.match(url):
        return found[1].lower()
    try:
        return urlsplit(url).hostname
    except ValueError as error:
        raise UnusableRecord(f"url cannot be read: {error}") from error


def shown(text: object) -> str:
    """A value as shown in a message."""
    return ascii(text)[:60]


def by_name(line: int, found: Mapping[str, Any], **more: str) -> RecordRow:
    """A capture of an index that names its fields.

    :param more: fields by CDX letter that are outside the named ones
    :raises Unusable: as for :func:`capture`
    """
    fields = dict(more)
    for name, value in found.items():
        letter = LETTERS.get(name)
        if letter and value is not None and known(fields.get(letter)) is None:
            if not isinstance(value, str | int | float) or isinstance(value, bool):
                raise UnusableRecord(f"{name} is neither text nor number: {shown(value)}")
            fields[letter] = str(value)
    ref = found.get("ref")
    if isinstance(ref, str) and ref.startswith("warcfile:"):
        fields["g"], _, fields["V"] = ref.removeprefix("warcfile:").rpartition("#")
    return capture(line, fields)


def note_others(others: Mapping[str, int], reading: FormatOptions) -> None:
    """Report how many records of which types are no captures."""
    if others:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
        reading.note(f"records that are no responses and are not stored: {counts}")
