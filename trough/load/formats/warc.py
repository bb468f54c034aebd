"""WARC and ARC files: one row for each response, with a revisit as a duplicate.

Needs ``warcio`` (the extra ``warc``). A record's number takes the place of a line's.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from trough import errors
from trough.load.formats.captures import host_of, moment, note_others, shown
from trough.load.records import (
    DamagedEnd,
    FormatOptions,
    PartDamaged,
    RecordRow,
    Records,
    Skipped,
    UnusableRecord,
)
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


#: Bytes of a record within which its HTTP headers must end.
_HEAD = 1 << 18
_HTTP_END = re.compile(rb"\r?\n\r?\n")
_OTHERWISE_COMPRESSED = (b"BZh", b"\xfd7zXZ\0")


def warc(source: Source, reading: FormatOptions) -> Records:
    """Rows of a WARC or ARC file, compressed by gzip or zstd record by record, or not at all.

    :raises trough.errors.BadRequest: it is neither
    :raises DamagedEnd: after all readable records
    """
    try:
        from warcio.archiveiterator import ArchiveIterator

        from trough.load.formats.warc_reader import reader_of
    except ImportError as error:
        raise errors.BadRequest(
            "WARC files need warcio, which is not installed", "pip install 'trough[warc]'"
        ) from error
    if source.head.startswith(_OTHERWISE_COMPRESSED):
        raise errors.BadRequest(*NOT_BY_RECORD)
    # HTTP is parsed here: an error in it must not lose the records after it.
    records = ArchiveIterator(source.raw, no_record_parse=True, arc2warc=True)
    records.INC_RECORD = ""  # otherwise warcio writes it to the terminal
    try:
        records.reader = reader_of(source.head, records.fh)
    except PartDamaged as error:
        raise DamagedEnd(str(error)) from error
    records.offset = records.fh.tell()
    return _rows(records, reading, Path(source.path).name)


#: The error for a WARC file whose records cannot be found by place, and the hint.
NOT_BY_RECORD = (
    "this is a WARC file that is not compressed with gzip or zstd, record by record",
    "decompress it first",
)


def _rows(records: Any, reading: FormatOptions, filename: str) -> Records:
    others: Counter[str] = Counter()
    number = 0
    try:
        for record in records:
            number += 1
            head = _read_whole(number, record)
            place, damage = _place(number, records)
            if record.rec_type not in ("response", "revisit"):
                others[str(record.rec_type)] += 1
            else:
                try:
                    yield _row(number, record, head, place, filename)
                except UnusableRecord as reason:
                    yield Skipped(number, number, str(reason))
            if damage is not None:
                raise damage
    except (DamagedEnd, GeneratorExit):
        raise
    except PartDamaged as error:
        raise DamagedEnd(f"record {number + 1}: {error}") from error
    except Exception as error:
        # warcio raises its own errors, zlib's, and those that int() raises for a damaged header.
        raise _damage(number, error) from error
    note_others(others, reading)


def _damage(number: int, error: Exception) -> errors.TroughError:
    """Translate an error of warcio, without the bytes that it found."""
    text = " ".join(str(error).split())
    if "non-chunked gzip" in text:
        return DamagedEnd(
            f"record {number} is followed by another one in one gzip member or zstd frame, "
            "so that their places cannot be known",
            "decompress the file, or: warcio recompress OLD NEW",
        )
    if "first line" in text and not number:
        return errors.BadRequest("this is no WARC or ARC file", "--format names what it is")
    if "first line" in text:
        return DamagedEnd(f"what follows record {number} is no record")
    return DamagedEnd(f"cannot be read behind record {number}: {text[:100]}")


def _read_whole(number: int, record: Any) -> bytes:
    """Read a record to its end. Return its first bytes.

    :raises DamagedEnd: the file ends before
    """
    if record.length is None:
        raise DamagedEnd(
            f"record {number} has no Content-Length, or the file ends within it: "
            "where the next one begins is unknown"
        )
    head, length = b"", 0
    try:
        while piece := record.raw_stream.read(_HEAD):
            length += len(piece)
            head += piece[: _HEAD - len(head)]
    except PartDamaged as error:
        raise DamagedEnd(f"record {number}: {error}") from error
    if length < record.length:
        raise DamagedEnd(f"the file ends early, within record {number}")
    return head


class _Place(NamedTuple):
    """Where a record is.

    :ivar offset: of its first byte in the file
    :ivar size: its bytes in the file
    :ivar ends: whether it ends where its Content-Length says
    """

    offset: int
    size: int
    ends: bool


def _place(number: int, records: Any) -> tuple[_Place, DamagedEnd | None]:
    """The place of a record that was read, and what is wrong with the end of its part."""
    before = records.err_count
    try:
        records.read_to_end()
    except PartDamaged as error:
        size = records.fh.tell() - records.offset
        return _Place(records.offset, size, True), DamagedEnd(f"record {number}: {error}")
    offset, size = records.member_info
    return _Place(offset, size, records.err_count == before), None


def _row(number: int, record: Any, head: bytes, place: _Place, filename: str) -> RecordRow:
    headers = record.rec_headers
    content = headers.get_header("Content-Length")
    if not _is_number(content):
        raise UnusableRecord(f"its Content-Length is no number: {shown(content)}")
    url = headers.get_header("WARC-Target-URI") or "-"
    url = url.removeprefix("<").removesuffix(">")
    mimetype, status, payload = _content(record, head, url)
    if not place.ends:
        raise UnusableRecord("its Content-Length is wrong: no record follows its end")
    return RecordRow(
        number,
        number,
        COLUMNS,
        (
            moment(headers.get_header("WARC-Date") or ""),
            status,
            place.size,
            payload,
            url,
            _media_type(mimetype),
            headers.get_header("WARC-Payload-Digest"),
            int(record.rec_type == "revisit"),
            filename,
            place.offset,
            int(content),
            host_of(url),
        ),
    )


def _is_number(text: str | None) -> bool:
    return text is not None and text.isascii() and text.isdigit() and len(text) < 19


def _content(record: Any, head: bytes, url: str) -> tuple[str | None, int | None, int]:
    """Media type, HTTP status and length of the payload.

    :param head: the first bytes of the record
    """
    mimetype = record.rec_headers.get_header("Content-Type")
    if not url.lower().startswith(("http:", "https:")):
        return mimetype, None, record.length
    # The record's own type is HTTP's.
    end = _HTTP_END.search(head)
    if end is None or not head.startswith(b"HTTP"):
        return None, None, record.length
    lines = head[: end.start()].decode("latin-1").splitlines()
    found = _STATUS.match(lines[0])
    status = int(found[1]) if found else None
    return _header(lines[1:], "content-type"), status, record.length - end.end()


_STATUS = re.compile(r"HTTP\S*\s+([0-9]{3})(?!\d)")


def _header(lines: list[str], name: str) -> str | None:
    for line in lines:
        key, colon, value = line.partition(":")
        if colon and key.strip().lower() == name:
            return value.strip()
    return None


def _media_type(text: str | None) -> str | None:
    found = (text or "").partition(";")[0].strip()
    return found or None
