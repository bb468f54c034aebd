"""The formats that can be read, by name, and how the format of a file is recognised.

A format turns a file into :class:`trough.load.records.RecordRow` and ``Skipped``. Formats of lines
read its numbered lines, the others the file itself. A file that is recognised but cannot be read
is refused with the name of its format, and with what to do instead.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from trough import errors
from trough.load.formats import captures, columnar, crawl_log, warc
from trough.load.formats.cdx import HEADER, cdx
from trough.load.formats.cdxj import cdxj
from trough.load.formats.crawl_log import crawl_log as crawl_log_rows
from trough.load.formats.delimited import comma_separated, tab_separated
from trough.load.formats.json_records import json_array, json_lines
from trough.load.lines import Line, numbered
from trough.load.records import FormatOptions, Records
from trough.load.sources import DICTIONARY, FRAME, Source

#: Formats of lines.
OF_LINES: dict[str, Callable[[Iterable[Line], FormatOptions], Records]] = {
    "cdx": cdx,
    "cdxj": cdxj,
    "crawl-log": crawl_log_rows,
    "csv": comma_separated,
    "tsv": tab_separated,
    "json": json_array,
    "jsonl": json_lines,
}
#: Formats of whole files.
OF_FILES: dict[str, Callable[[Source, FormatOptions], Records]] = {
    "warc": warc.warc,
    "parquet": columnar.parquet,
    "arrow": columnar.arrow,
}
NAMES = (*OF_LINES, *OF_FILES)

#: A table stores the fields of a capture for which it has columns, and need not have all. The
#: columns of a capture are always one of these objects.
CAPTURES = (captures.COLUMNS, crawl_log.COLUMNS, warc.COLUMNS)

#: All rows of a file in these formats have the same columns.
UNIFORM = frozenset({"csv", "tsv", "parquet", "arrow"})

# Lines that may show the format: a damaged beginning is not rare, but a longer one would be.
_LOOKED_AT = 50


@dataclass(frozen=True, slots=True)
class Opened:
    """A file whose format is known.

    :ivar format: the format's name
    :ivar records: makes the records, given what is known of the table
    """

    format: str
    records: Callable[[FormatOptions], Records]


def opened(source: Source, name: str | None, max_record: int) -> Opened:
    """Recognise the format of a file, unless a person names it.

    :param name: of the format, or None
    :raises trough.errors.BadRequest: it shows no format, or one that cannot be read
    :raises trough.load.records.DamagedEnd: its beginning is already damaged
    """
    if name is None:
        _refuse(source.head)
        name = _of_file(source)
    if name in OF_FILES:
        read = OF_FILES[name]
        return Opened(name, lambda reading: read(source, reading))
    lines = numbered(source.chunks(), max_record)
    first: list[Line] = []
    try:
        for line in lines:
            first.append(line)
            if len(first) == _LOOKED_AT:
                break
    except errors.TroughError as error:
        lines = _raised(error)
    if name in (None, "json"):
        name = _of_lines(first, source, name)
    make = OF_LINES[name]
    return Opened(name, lambda reading: make(chain(first, lines), reading))


def _raised(error: errors.TroughError) -> Iterator[Line]:
    """Lines that end with `error`."""
    raise error
    yield


# -- by the beginning of the file ------------------------------------------------

_REFUSED = {
    b"SQLite format 3\0": (
        "this is an SQLite database",
        "export its tables with: sqlite3 -csv -header FILE 'SELECT * FROM name'",
    ),
    b"PK\3\4": (
        "this is a zip archive (a WACZ, or a spreadsheet)",
        "unpack it, and load what is in it: of a WACZ, indexes/index.cdx.gz or archive/*",
    ),
    b"7z\xbc\xaf\x27\x1c": ("this is a 7z archive", "unpack it first"),
    b"\xff\xfe\0\0": ("this is UTF-32", "convert it first: iconv -f UTF-32 -t UTF-8"),
    b"\0\0\xfe\xff": ("this is UTF-32", "convert it first: iconv -f UTF-32 -t UTF-8"),
    b"\xff\xfe": ("this is UTF-16", "convert it first: iconv -f UTF-16 -t UTF-8"),
    b"\xfe\xff": ("this is UTF-16", "convert it first: iconv -f UTF-16 -t UTF-8"),
    b"%PDF-": ("this is a PDF", "load a file of records"),
}
_UTF_16 = {
    "UTF-16LE": re.compile(rb"(?:[\t -~]\0){4}"),
    "UTF-16BE": re.compile(rb"(?:\0[\t -~]){4}"),
}
_MARKUP = re.compile(rb"\s*<(!doctype|html|\?xml|head|body)", re.IGNORECASE)
_TAR = slice(257, 262)


def _refuse(head: bytes) -> None:
    for magic, (what, hint) in _REFUSED.items():
        if head.startswith(magic):
            raise errors.BadRequest(what, hint)
    for name, sign in _UTF_16.items():
        if sign.match(head):
            raise errors.BadRequest(
                f"this is {name}", f"convert it first: iconv -f {name} -t UTF-8"
            )
    if head[_TAR] == b"ustar":
        raise errors.BadRequest("this is a tar archive", "unpack it first")
    if _MARKUP.match(head):
        raise errors.BadRequest(
            "this is HTML or XML, perhaps a server's error page", "load a file of records"
        )


_WARC = (b"WARC/", b"filedesc://")


def _of_file(source: Source) -> str | None:
    head = source.head
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head)
        except zlib.error:
            return None
    if head.startswith(DICTIONARY):
        return "warc"
    if head.startswith(FRAME):
        head = _of_frame(head)
    return "warc" if head.startswith(_WARC) else None


def _of_frame(head: bytes) -> bytes:
    """The first bytes that a zstd frame holds, as far as they can be known."""
    try:
        import zstandard
    except ImportError:
        return b""
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(head)
    except zstandard.ZstdError:
        return b""


# -- by the first lines ----------------------------------------------------------

_ZIPNUM = re.compile(r"\S+ [0-9]{14}\t\S+\t[0-9]+\t[0-9]+(\t[0-9]+)?")
_BY_SUFFIX = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
# Used only if the lines show no format: many kinds of files are named .cdx.
_CAPTURES_BY_SUFFIX = {".cdx": "cdx", ".cdxj": "cdxj"}
_MARKS = {
    "cdxj": re.compile(r"!|@|\S+[ \t](\S{14}|\S{17,30})[ \t]([a-z]+[ \t])?\{"),
    "cdx": re.compile(
        rf"{HEADER.pattern}$|\S+[ \t][0-9]{{14}}[ \t]\S|\S+ [0-9A-Fa-f.:]+ [0-9]{{14}} \S+ "
    ),
    "crawl-log": crawl_log.LINE,
}


def _of_lines(first: list[Line], source: Source, asked: str | None) -> str:
    """The format that the first lines show.

    The first one may be damaged. So the first line that clearly has a format decides. Nearly
    everything could be CSV or TSV, so they come last.
    """
    shown = [text for line in first if (text := line.data.decode("utf-8", "replace")).strip()]
    if asked == "json" or (shown and shown[0].lstrip()[0] in "[{"):
        beginning = shown[0].strip() if shown else "["
        # An object on several lines begins with its brace, or ends on another line.
        return "json" if beginning[0] == "[" or beginning[-1] != "}" else "jsonl"
    if first:
        _refuse(first[0].data)
        if first[0].data.startswith((b"PAR1", b"ARROW1")):
            raise errors.BadRequest("this is a compressed Parquet or Arrow file", "decompress it")
    for suffix, name in _BY_SUFFIX.items():
        if source.plain_name.endswith(suffix):
            return name
    if not shown:
        return "csv"
    if shown[0].startswith("WARC/"):
        raise errors.BadRequest(*warc.NOT_BY_RECORD)
    if any(_ZIPNUM.match(text) for text in shown[:5]):
        raise errors.BadRequest("this is a zipnum index", "load the .cdx files it lists")
    if source.plain_name.endswith(".loc"):
        raise errors.BadRequest(
            "this lists where parts of an index are", "load the .cdx files it lists"
        )
    for text in shown:
        for name, mark in _MARKS.items():
            if mark.match(text.rstrip("\r\n")):
                return name
    for suffix, name in _CAPTURES_BY_SUFFIX.items():
        if source.plain_name.endswith(suffix):
            return name
    for delimiter, name in {",": "csv", "\t": "tsv"}.items():
        if delimiter in shown[0]:
            return name
    raise errors.BadRequest("its first lines show no known format", "name it with --format")
