"""WARC and ARC files: one row for each response, a revisit among them as a duplicate.

Needs ``warcio`` (the extra ``warc``). A record's number takes the place of a line's.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from trough import errors
from trough.load.formats.captures import host_of, integer, moment
from trough.load.records import DamagedEnd, Reading, Records, Row, Skipped, Unusable
from trough.load.sources import Source

COLUMNS = (
    "timestamp",
    "status_code",
    "size",
    "payload_size",
    "url",
    "mimetype",
    "content_digest",
    "is_duplicate",
    "warc_filename",
    "warc_offset",
    "warc_content_bytes",
    "host",
)


def warc(source: Source, reading: Reading) -> Records:
    """Rows of a WARC or ARC file, compressed record by record or not at all.

    :raises DamagedEnd: after all that could be read
    """
    try:
        from warcio.archiveiterator import ArchiveIterator
    except ImportError as error:
        raise errors.BadRequest(
            "WARC files need warcio, which is not installed", "pip install 'trough[warc]'"
        ) from error
    others: Counter[str] = Counter()
    number = 0
    records = ArchiveIterator(source.raw, arc2warc=True)
    try:
        for record in records:
            number += 1
            if record.rec_type not in ("response", "revisit"):
                others[record.rec_type] += 1
                continue
            try:
                yield _row(number, record, records, Path(source.path).name)
            except Unusable as reason:
                yield Skipped(number, number, str(reason))
    except Exception as error:
        # warcio raises its own, zlib's, and whatever a damaged header makes int() raise.
        raise DamagedEnd(f"cannot be read behind record {number}: {error}") from error
    if others:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
        reading.note(f"records that are no responses and are not stored: {counts}")


def _row(number: int, record: Any, records: Any, filename: str) -> Row:
    headers, http = record.rec_headers, record.http_headers
    url = headers.get_header("WARC-Target-URI") or "-"
    url = url.removeprefix("<").removesuffix(">")
    status = http.get_statuscode() if http else None
    mimetype = http.get_header("Content-Type") if http else headers.get_header("Content-Type")
    # The payload has to be read before the record's place and length are known.
    payload = _length(record.raw_stream)
    offset, size = records.get_record_offset(), records.get_record_length()
    content = headers.get_header("Content-Length")
    return Row(
        number,
        number,
        COLUMNS,
        (
            moment(headers.get_header("WARC-Date") or ""),
            integer("status", status) if status and status.isdigit() else None,
            size,
            payload,
            url,
            _media_type(mimetype),
            headers.get_header("WARC-Payload-Digest"),
            int(record.rec_type == "revisit"),
            filename,
            offset,
            integer("Content-Length", content),
            host_of(url),
        ),
    )


def _length(stream: Any) -> int:
    size = 0
    while piece := stream.read(65536):
        size += len(piece)
    return size


def _media_type(text: str | None) -> str | None:
    found = (text or "").partition(";")[0].strip()
    return found or None
