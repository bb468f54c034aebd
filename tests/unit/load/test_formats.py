"""Records of files become rows, or say why not, whole or not at all."""

import bz2
import gzip
import io
import json
import lzma
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import SAMPLES

from trough import errors
from trough.load import formats
from trough.load.lines import numbered
from trough.load.records import DamagedEnd, FormatOptions, RecordRow, Skipped
from trough.load.sources import Source

CAPTURE = {
    "timestamp": "2014-01-27 17:12:00",
    "status_code": 200,
    "size": 1046,
    "url": "http://example.com",
    "mimetype": "text/html",
    "content_digest": "B2LT",
    "is_duplicate": 0,
    "warc_filename": "dupes.warc.gz",
    "warc_offset": 334,
    "host": "example.com",
}
ELEVEN = (
    "com,example)/ 20140127171200 http://example.com text/html 200 B2LT - - 1046 334 dupes.warc.gz"
)


def read(format_name, text, **reading):
    """What a file of this content gives: lines and values by column, or what is skipped."""
    content = text if isinstance(text, bytes) else text.encode()
    reading = FormatOptions(**reading)
    lines = numbered([content], reading.max_record)
    return [plain(record) for record in formats.OF_LINES[format_name](lines, reading)]


def plain(record):
    """A record, its values by column."""
    if isinstance(record, Skipped):
        return record
    return record.first, record.last, dict(zip(record.columns, record.values, strict=True))


def loaded(path, name=None, **reading):
    """What a file on disk gives, its format, and what its end is damaged by."""
    found, damage = [], None
    with Source(str(path)) as source:
        reading = FormatOptions(**reading)
        opened = formats.opened(source, name, reading.max_record)
        try:
            for record in opened.records(reading):
                found.append(plain(record))
        except DamagedEnd as error:
            damage = str(error)
    return found, opened.format, damage


def sample(name):
    """A file of real crawl data, or a skipped test."""
    if not (SAMPLES / name).exists():
        pytest.skip(f"no real crawl data: {SAMPLES / name} is not there")
    return SAMPLES / name


# -- CDX -----------------------------------------------------------------------


def test_eleven_fields():
    """CDX without a header has the usual eleven fields."""
    assert read("cdx", f"{ELEVEN}\n") == [(1, 1, CAPTURE)]


@pytest.mark.parametrize(
    ("line", "lacks"),
    [
        ("- 334 dupes.warc.gz", {"size"}),
        ("- - 334 dupes.warc.gz", {"size"}),
        ("1046", {"warc_filename", "warc_offset"}),
        ("1046 whatever", {"warc_filename", "warc_offset"}),
        ("- 334 dupes.warc.gz - - -", {"size"}),
        ("- - 334 dupes.warc.gz - - -", {"size"}),
        ("- - 1046 334 dupes.warc.gz - - -", set()),
        ("- - 1046 334 dupes.warc.gz 900 12 first.warc.gz", set()),
        ("- - 1046 334 dupes.warc.gz - - - more", set()),
        ("a redirect with blanks - 1046 334 dupes.warc.gz", set()),
    ],
)
def test_seven_to_fifteen_fields_without_a_header(line, lacks):
    """Fields are known by their places and their looks; none that is not stored matters."""
    first = "com,example)/ 20140127171200 http://example.com text/html 200 B2LT"
    assert read("cdx", f"{first} {line}  ") == [(1, 1, CAPTURE | dict.fromkeys(lacks))]


def test_names_of_files_that_are_no_archives_are_known_by_their_place():
    """Where nothing else shows it, the number of fields says what they are."""
    [(_, _, row)] = read("cdx", ELEVEN.replace("dupes.warc.gz", "part-00001"))
    assert row == CAPTURE | {"warc_filename": "part-00001"}


def test_netarchivesuite():
    """Its index has the URL first, and the IP address before the date."""
    line = "http://example.com 192.0.2.1 20140127171200 text/html 1046 dupes.warc.gz 334 B2LT"
    assert read("cdx", line) == [(1, 1, CAPTURE | {"status_code": None})]


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (" CDX a b c g V s\nhttp://example.com 20140127171200 x dupes.warc.gz 334 200\n", {}),
        ("\tCDX\ta\tb\tg\tV\ts\nhttp://example.com\t20140127171200\tdupes.warc.gz\t334\t200", {}),
        ("CDX a b g V s \nhttp://example.com 20140127171200 dupes.warc.gz 334 200  \n", {}),
        (" CDX a b a g V s\n- 20140127171200 http://example.com dupes.warc.gz 334 200\n", {}),
        (" CDX a b a g V s\nhttp://example.com 20140127171200 x dupes.warc.gz 334 200\n", {}),
        (" CDX b a R7 g V s ?\n20140127171200 http://example.com x dupes.warc.gz 334 200 9", {}),
        (
            " CDX a b r g V s\nhttp://example.com 20140127171200 C:\\a b\\c dupes.warc.gz 334 200",
            {},
        ),
        (
            " CDX A b m e n g v c\nhttp://example.com 20140127171200 t/h 192.0.2.1 5 x.arc 7 B2LT",
            {
                "size": 5,
                "warc_filename": "x.arc",
                "warc_offset": 7,
                "status_code": None,
                "mimetype": "t/h",
            },
        ),
    ],
)
def test_a_header_says_what_the_fields_are(text, more):
    """Any letters, in any order, repeated, unknown, with tabs, and blanks within a field."""
    lacks = {"size": None, "mimetype": None, "content_digest": None}
    assert read("cdx", text) == [(2, 2, CAPTURE | lacks | more)]


def test_the_first_indexes():
    """Sixteen fields, an IP address among them, and URLs without a scheme."""
    line = (
        "e.example/x.html 20140127171200 192.0.2.1 e.example:80/x.html text/html 200 58670 B2LT - "
        "334 59129865 1927657 6501523 DE_crawl6.20010424210458 - 1046"
    )
    row = CAPTURE | {"url": "e.example:80/x.html", "host": "e.example"}
    row["warc_filename"] = "DE_crawl6.20010424210458"
    assert read("cdx", line) == [(1, 1, row)]
    header = "CDX A b e a m s c k r V v D d g M n"
    assert read("cdx", f"{header}\n" + line.replace(" ", "\t")) == [(2, 2, row)]
    [skipped] = read("cdx", line.removesuffix(" - 1046"))
    assert "an IP address where the URL is" in skipped.reason


def test_fields_can_be_named():
    """For a file without a header, by letters or by names."""
    text = "x 200 http://example.com 20140127171200 y\n"
    for fields in (("?", "s", "a", "b", "?"), ("other", "status", "url", "timestamp", "y")):
        [(_, _, row)] = read("cdx", text, fields=fields)
        assert (row["url"], row["status_code"]) == ("http://example.com", 200)
        assert row["timestamp"] == CAPTURE["timestamp"]


def test_a_header_without_a_url_is_refused():
    """What follows means nothing then."""
    with pytest.raises(errors.BadRequest, match="line 1"):
        read("cdx", f" CDX N m s\n{ELEVEN}\n")


def test_revisits_are_duplicates_and_dashes_are_null():
    """A capture without a status has none, and a revisit is marked as a duplicate."""
    line = ELEVEN.replace("text/html 200", "warc/revisit -").replace("1046", "-")
    [(_, _, row)] = read("cdx", line)
    assert (row["status_code"], row["size"], row["is_duplicate"]) == (None, None, 1)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (ELEVEN + ELEVEN, "21 fields instead of 11; two lines run together"),
        (f" CDX N b a m s k r M S V g\n{ELEVEN}{ELEVEN}", "21 fields instead of 11; two lines"),
        (" CDX N b a m s k r M S V g\nx 20140127171200", "2 fields instead of 11"),
        (ELEVEN.replace("20140127171200", "2014012717120"), "no header line"),
        (ELEVEN.replace("20140127171200", "20141327171200"), "no such time"),
        (ELEVEN.replace(" 200 ", " ok "), "status is no number: 'ok'"),
        (ELEVEN.replace(" 334 ", " \x1b[2J "), r"offset is no number: '\\x1b\[2J'"),
        (ELEVEN.replace("http://example.com", "-"), "no url"),
        (ELEVEN.replace("http://example.com", "http://[::1"), "url cannot be read"),
    ],
)
def test_damaged_lines_are_skipped_with_the_reason(line, reason):
    """One bad line costs only itself."""
    first, skipped, last = read("cdx", f"{ELEVEN}\n{line}\n{ELEVEN.replace(' CDX', '')}")
    assert first == (1, 1, CAPTURE) and last[2] == CAPTURE
    assert skipped.first == skipped.last == last[0] - 1
    assert re.search(reason, skipped.reason)


def test_lines_without_text_are_skipped():
    """Bytes that are not UTF-8, and a line longer than memory should be, are reported."""
    long = b"x" * 5000
    text = ELEVEN.encode() + b"\n\xff\n" + long + b"\n\n" + ELEVEN.encode() + b"\r\n"
    content = [text[place : place + 7] for place in range(0, len(text), 7)]
    found = formats.OF_LINES["cdx"](numbered(content, 1000), FormatOptions(max_record=1000))
    assert [plain(record) for record in found] == [
        (1, 1, CAPTURE),
        Skipped(2, 2, "not UTF-8: line 2, byte 1"),
        Skipped(3, 3, "longer than 1000 bytes (--max-record)"),
        (5, 5, CAPTURE),
    ]


def test_the_real_cdx_is_read_line_by_line():
    """Every line of the real sample is a row or is damaged: two lines run together."""
    path = sample("zipnum-sample.cdx")
    content = [line.split(" ") for line in path.read_text().splitlines()]
    found, name, _ = loaded(path)
    assert name == "cdx" and [item[0] for item in found] == list(range(1, len(content) + 1))
    skipped = [item for item in found if isinstance(item, Skipped)]
    assert [item.first for item in skipped] == [
        number for number, fields in enumerate(content, 1) if len(fields) != 11
    ]
    assert {item.reason for item in skipped} == {"21 fields instead of 11; two lines run together"}


# -- CDXJ ----------------------------------------------------------------------


def test_cdxj():
    """CDXJ has the same captures under its own names; lines about the file are none."""
    text = (
        "!OpenWayback-CDXJ 1.0\n"
        'com,example)/ 20140127171200 {"url": "http://example.com", "mime": "text/html", '
        '"status": "200", "digest": "B2LT", "length": "1046", "offset": 334, '
        '"filename": "dupes.warc.gz", "languages": "eng"}\n'
    )
    assert read("cdxj", text) == [(2, 2, CAPTURE)]


def test_cdxj_of_openwayback():
    """It has ISO times, the type of the record, and names of its own."""
    text = (
        '(com,example,)/ 2014-01-27T17:12:00Z response {"uri": "http://example.com", '
        '"mct": "text/html", "hsc": 200, "sha": "B2LT", "rle": 1046, '
        '"ref": "warcfile:dupes.warc.gz#334"}\n'
    )
    assert read("cdxj", text) == [(1, 1, CAPTURE)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("com,example)/ 20140127171200", "not: key, timestamp"),
        ("com,example)/ 20140127171200 {", "not JSON"),
        ('com,example)/ 20140127171200 {"url": "x"} more', "not JSON"),
        ('com,example)/ 20140127171200 {"mime": "x"}', "no url"),
        ('com,example)/ 20140127171200 {"url": "a", "url": "b"}', "the key 'url' is there twice"),
        ('com,example)/ 20140127171200 {"url": "\\ud800"}', "not JSON"),
        ('com,example)/ 2014 {"url": "http://a"}', "timestamp is not 14 digits"),
        (
            'com,example)/ 20140127171200 {"url": "http://a", "status": []}',
            "neither text nor number",
        ),
        ('com,example)/ 20140127171200 {"url": ["http://a"]}', "url is neither text nor number"),
        ('com,example)/ 20140127171200 {"x": ' + "[" * 100_000, "not JSON"),
    ],
)
def test_damaged_cdxj_is_skipped(line, reason):
    """Each kind of damage is named."""
    [skipped] = read("cdxj", line)
    assert isinstance(skipped, Skipped) and reason in skipped.reason


def test_a_request_in_a_cdxj_is_no_capture():
    """OpenWayback's have the type of each record; what is left out is counted."""
    notes = []
    text = "".join(
        f'(com,example,)/> 2014-01-27T17:12:00Z {kind} {{"uri": "http://example.com/"}}\n'
        for kind in ("request", "response", "metadata", "request", "revisit")
    )
    found = read("cdxj", text, note=notes.append)
    assert [(first, row["is_duplicate"]) for first, _, row in found] == [(2, 0), (5, 1)]
    assert notes == ["records that are no responses and are not stored: 1 metadata, 2 request"]


def test_the_real_cdxj_is_whole():
    """Every line of the real sample is a capture, the revisits without a status."""
    found, name, _ = loaded(sample("iana.cdxj"))
    assert name == "cdxj" and not any(isinstance(item, Skipped) for item in found)
    revisits = [row for _, _, row in found if row["is_duplicate"]]
    assert revisits and all(row["status_code"] is None for row in revisits)


def test_each_header_of_files_put_together_counts():
    """The second header names other fields of the lines behind it; --fields wins over both."""
    text = " CDX b a s\n20140127171200 http://a 200\n CDX b s a\n20140127171200 404 http://b\n"
    rows = [(row["url"], row["status_code"]) for _, _, row in read("cdx", text)]
    assert rows == [("http://a", 200), ("http://b", 404)]
    [row, skipped] = read("cdx", text, fields=("b", "a", "s"))
    assert row[2]["status_code"] == 200 and "is no number" in skipped.reason


# -- crawl.log -----------------------------------------------------------------

LOG = (
    "2026-01-02T03:04:06.100Z   200       1270 http://h.example/ LE http://v.example/ text/html "
    "#002 20260102030405900+180 sha1:3I42 http://s.example/ "
)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (LOG.replace("h.example/", "h.example/a b"), "no thread and time"),
        (LOG.replace("text/html", "text/html; x"), "no thread and time"),
        (LOG.replace("#002", "002"), "no thread and time"),
    ],
)
def test_a_blank_in_a_field_of_crawl_log_invents_no_row(line, reason):
    """Fields behind it would be taken for others."""
    [skipped] = read("crawl-log", f"{line}-\n")
    assert reason in skipped.reason


def test_annotations_of_a_crawl_log_without_seeds():
    """The first releases of Heritrix wrote none."""
    line = LOG.replace("http://s.example/ ", "3t,content-size:7\n")
    [(_, _, row)] = read("crawl-log", line)
    assert (row["seed"], row["payload_size"]) == (None, 7)


def test_crawl_log():
    """The columns that crawlers feed, with a dash for NULL."""
    row = {
        "timestamp": "2026-01-02 03:04:06",
        "status_code": 200,
        "size": 1270,
        "payload_size": None,
        "url": "http://h.example/",
        "hop_path": "LE",
        "via": "http://v.example/",
        "mimetype": "text/html",
        "content_digest": "sha1:3I42",
        "seed": "http://s.example/",
        "is_duplicate": 0,
        "warc_filename": None,
        "warc_offset": None,
        "host": "h.example",
    }
    with_file = row | {"warc_filename": "x y.warc.gz", "warc_offset": 7, "payload_size": 9}
    failed = dict.fromkeys(row) | {
        "timestamp": "2026-01-02 03:04:07",
        "status_code": -9998,
        "url": "dns:h.example",
        "mimetype": "unknown",
        "is_duplicate": 0,
    }
    text = (
        f"{LOG}-\n"
        f"{LOG}2t,content-size:15\n"
        f"{LOG}2t duplicate:digest,content-size:15\n"
        f'{LOG}- {{"contentSize":9,"warcFilename":"x y.warc.gz","warcFileOffset":7}}\n'
        "20260102030407123 -9998 - dns:h.example - - unknown #004 - -\n"
    )
    text += f"{LOG}-".replace("03:04", "27:04")
    *found, skipped = read("crawl-log", text)
    assert found == [
        (1, 1, row),
        (2, 2, row | {"payload_size": 15}),
        (3, 3, row | {"payload_size": 15, "is_duplicate": 1}),
        (4, 4, with_file),
        (5, 5, failed),
    ]
    assert "no such time" in skipped.reason


# -- CSV and TSV -----------------------------------------------------------------


def test_csv():
    """The first row names the columns; quoted fields may hold commas, quotes, line ends."""
    text = 'id,name,note\r\n1,"a,""b""","two\r\nlines"\n2,,""\r\n"",x\'ff\',"x\'ff\'"'
    assert read("csv", text) == [
        (2, 3, {"id": "1", "name": 'a,"b"', "note": "two\r\nlines"}),
        (4, 4, {"id": "2", "name": None, "note": ""}),
        (5, 5, {"id": "", "name": bytearray(b"\xff"), "note": "x'ff'"}),
    ]


def test_numbers_stay_numbers_where_a_column_keeps_what_it_is_given():
    """Without quotes, and written as the shell writes them; elsewhere they are texts."""
    text = 'a,b\n1,1\n"1",1\n007,1\n-1.5,x\n9e999,\n9223372036854775808,1\n1e5,1'
    found = [row for _, _, row in read("csv", text, keeps_type=lambda name: name == "a")]
    assert [row["a"] for row in found] == [
        *(1, "1", "007", -1.5, float("inf"), "9223372036854775808", "1e5")
    ]
    assert {row["b"] for row in found} == {"1", "x", None}


def test_damaged_csv_is_skipped_whole():
    """Too few fields, stray quotes and bytes that are no text cost their record, all of it."""
    text = (
        b'a,b\n1,2\n1\n"x"y,2\n\xff,2\n3,4\n\n5,6\n"one\ncaf\xe9 two\nthree",x\n"x"y,"7\n8"\n9,10\n'
        b'11,5" disk\n12,x\ry\n13,14'
    )
    assert read("csv", text) == [
        (2, 2, {"a": "1", "b": "2"}),
        Skipped(3, 3, "1 field instead of 2"),
        Skipped(4, 4, "not CSV: something follows a closing quote"),
        Skipped(5, 5, "not UTF-8: line 5, byte 1"),
        (6, 6, {"a": "3", "b": "4"}),
        (8, 8, {"a": "5", "b": "6"}),
        Skipped(9, 11, "not UTF-8: line 10, byte 4"),
        Skipped(12, 13, "not CSV: something follows a closing quote"),
        (14, 14, {"a": "9", "b": "10"}),
        (15, 15, {"a": "11", "b": '5" disk'}),
        Skipped(16, 16, "not CSV: a carriage return that ends no line, outside of quotes"),
        (17, 17, {"a": "13", "b": "14"}),
    ]


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("break_every", [10**9, 52])
def test_a_record_that_is_too_long_is_skipped_whole(size, break_every):
    """However the file comes, nothing within its quotes is taken for a record."""
    inner = ",".join(['""fake"",row'] * 500)
    inner = "\n".join(
        inner[place : place + break_every] for place in range(0, len(inner), break_every)
    )
    text = f'a,b\n1,"{inner}\n2,fake\n"\n3,4\n'.encode()
    chunks = [text[place : place + size] for place in range(0, len(text), size)]
    found = formats.OF_LINES["csv"](numbered(chunks, 600), FormatOptions(max_record=600))
    last = text.count(b"\n")
    assert [plain(record) for record in found] == [
        Skipped(2, last - 1, "longer than 600 bytes (--max-record)"),
        (last, last, {"a": "3", "b": "4"}),
    ]


def test_a_field_of_any_length_below_the_limit_is_one_value():
    """Python's own limit of 131,072 bytes for a field does not count."""
    text = "x" * 200_000 + "\n2,fake\n"
    assert read("csv", f'a,b\n1,"{text}"\n') == [(2, 4, {"a": "1", "b": text})]


def test_a_quote_that_never_ends_is_reported():
    """It costs one record, from its line to the end, and where it opened is said."""
    row, skipped = read("csv", 'a,b\n1,2\n"3,4\n5,6\n')
    assert row == (2, 2, {"a": "1", "b": "2"})
    assert (skipped.first, skipped.last) == (3, 4)
    assert "the quote that opens at line 3 is never closed; it took 2 lines" in skipped.reason


@pytest.mark.parametrize(
    ("format_name", "text"),
    [("csv", "url,n\nx,1\n"), ("tsv", "url\tn\nx\t1\n"), ("jsonl", '{"url": "x", "n": "1"}\n')],
)
def test_a_byte_order_mark_is_no_text(format_name, text):
    """Programs that write one at a file's beginning do so for others to guess the encoding."""
    with_mark = read(format_name, text.encode("utf-8-sig"))
    assert with_mark == read(format_name, text)
    assert [row for _, _, row in with_mark] == [{"url": "x", "n": "1"}]


@pytest.mark.parametrize("header", ["a,,b", "a,A", "a;b", "a\tb"])
def test_a_csv_header_of_no_use_is_refused(header):
    """Columns need names, each its own, and the delimiter between them."""
    with pytest.raises(errors.BadRequest):
        read("csv", f"{header}\n1,2,3\n")


def test_another_delimiter_and_names_of_columns():
    """For files with semicolons, and without a header."""
    found = read("csv", 'a;b\n1,5;"x;y"\n', delimiter=";")
    assert found == [(2, 2, {"a": "1,5", "b": "x;y"})]
    assert read("csv", "1,2\n", fields=("a", "b")) == [(1, 1, {"a": "1", "b": "2"})]


def test_a_csv_header_follows_empty_lines():
    """Spreadsheets write them; they are no columns."""
    assert read("csv", "\n\r\na,b\n1,2\n") == [(4, 4, {"a": "1", "b": "2"})]


def test_of_one_column_the_shell_writes_null_as_an_empty_line():
    """With its carriage return; a line that is merely empty is no record."""
    assert read("csv", 'a\r\n\r\n""\r\n\n') == [(2, 2, {"a": None}), (3, 3, {"a": ""})]


@pytest.mark.parametrize(
    "first", [b"\xff\xfea\x00,\x00b\x00", b"caf\xe9,b", b'"a" x,b', b"a,b\rc,d"]
)
def test_a_csv_header_that_cannot_be_read_ends_it(first):
    """The row behind it would be taken for the header."""
    with pytest.raises(errors.BadRequest, match=r"^line 1: "):
        read("csv", first + b"\n1,2\n3,4\n")


def test_tsv():
    """Escapes, NULL, and texts in quotes that would be taken for something else."""
    text = 'a\tb\n1\t\\N\nx\\ty\\\\n\t\n\n"x\'ff\'"\tx\'ff\'\n"say ""1"""\tsay "1"\n1\n'
    assert read("tsv", text) == [
        (2, 2, {"a": "1", "b": None}),
        (3, 3, {"a": "x\ty\\n", "b": ""}),
        (5, 5, {"a": "x'ff'", "b": bytearray(b"\xff")}),
        (6, 6, {"a": 'say "1"', "b": 'say "1"'}),
        Skipped(7, 7, "1 field instead of 2"),
    ]


# -- JSON ----------------------------------------------------------------------


def test_json_lines():
    """Each object is a row; BLOBs as query results have them, nested values as JSON."""
    text = (
        '{"a": 1, "b": null, "c": 1.5, "d": true}\n\n{"a": {"blob": "AP8="}, "e": [1, {"f": "é"}]}'
    )
    assert read("jsonl", text) == [
        (1, 1, {"a": 1, "b": None, "c": 1.5, "d": True}),
        (3, 3, {"a": bytearray(b"\x00\xff"), "e": '[1, {"f": "é"}]'}),
    ]


BAD_OBJECTS = ["{}", '{"a": 18446744073709551616}', '{"a": {"blob": "?"}}', '{"a": NaN}']
BAD_OBJECTS += ['{"a": -Infinity}', '{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 1}}', '{"a": [NaN]}']
BAD_OBJECTS += ['{"a": "\\ud800"}', '{"a": 1e400}']


@pytest.mark.parametrize("line", ["{", "[1]", "3", *BAD_OBJECTS])
def test_damaged_json_lines_are_skipped(line):
    """What is no object of storable values is no row, and nothing is repaired."""
    [skipped] = read("jsonl", line)
    assert isinstance(skipped, Skipped) and skipped.reason


@pytest.mark.parametrize("size", [1, 13, 10_000])
@pytest.mark.parametrize("indent", [None, 2])
def test_arrays(size, indent):
    """An array on any number of lines, of which each bad element costs only itself."""
    good = [{"a": number, "b": ["x", {"c": "]}"}]} for number in range(50)]
    text = json.dumps(good, indent=indent)
    bad = ",\n".join(BAD_OBJECTS)
    text = f"{text[:-1].rstrip()},\n{bad},\n3]\n"
    chunks = [text.encode()[place : place + size] for place in range(0, len(text) + 9, size)]
    found = [
        plain(each) for each in formats.OF_LINES["json"](numbered(chunks, 400), FormatOptions())
    ]
    rows, skipped = found[:50], found[50:]
    assert [row["a"] for _, _, row in rows] == list(range(50))
    assert {row["b"] for _, _, row in rows} == {'["x", {"c": "]}"}]'}
    assert len(skipped) == len(BAD_OBJECTS) + 1
    assert all(isinstance(each, Skipped) for each in skipped)
    if indent:
        assert (rows[1][0], rows[1][1]) == (11, 19)


def test_an_array_that_breaks_off():
    """What is whole is read; the rest is one record, to its last line."""
    *rows, skipped = read("json", '[{"a": 1},\n{"a": 2},\n{"a":\n3\n')
    assert [row["a"] for _, _, row in rows] == [1, 2]
    assert (skipped.first, skipped.last) == (3, 4)


def test_captures_in_json():
    """Common Crawl and pywb write objects, the Wayback CDX API an array of arrays."""
    names = ["urlkey", "timestamp", "original", "mimetype", "statuscode", "digest", "length"]
    values = ["k", "20140127171200", "http://example.com", "text/html", "200", "B2LT", "1046"]
    lacks = {"warc_filename": None, "warc_offset": None}
    text = json.dumps(dict(zip(names, values, strict=True)))
    assert read("jsonl", text) == [(1, 1, CAPTURE | lacks)]
    text = f"[{json.dumps(names)},\n{json.dumps(values)},\n{json.dumps(values)}]\n"
    assert read("json", text) == [(2, 2, CAPTURE | lacks), (3, 3, CAPTURE | lacks)]
    common = {"url": "http://example.com", "mime": "text/html", "status": "200", "digest": "B2LT"}
    common |= {"length": "1046", "offset": "334", "filename": "dupes.warc.gz", "languages": "eng"}
    text = json.dumps({"urlkey": "k", "timestamp": "20140127171200", **common})
    assert read("jsonl", text) == [(1, 1, CAPTURE)]


def test_a_capture_with_a_damaged_time_is_skipped():
    """An index's object is no row of any table: its time is not stored as a number."""
    text = '{"urlkey": "k", "timestamp": "2014012717120", "url": "http://e/"}'
    [skipped] = read("jsonl", text)
    assert isinstance(skipped, Skipped) and "14 digits" in skipped.reason


def test_rows_of_a_table_that_look_like_captures():
    """What a table has columns for is stored as it is, as the shell exported it."""
    found = {"timestamp": "20140127171200", "url": "http://e/", "status": "200"}
    assert read("jsonl", json.dumps(found), is_column=found.__contains__) == [(1, 1, found)]
    [(_, _, row)] = read("jsonl", json.dumps(found), is_column={"url", "timestamp"}.__contains__)
    assert (row["timestamp"], row["status_code"]) == ("2014-01-27 17:12:00", 200)
    del found["status"]
    captures = {"timestamp", "url", "is_duplicate"}.__contains__
    [(_, _, row)] = read("jsonl", json.dumps(found), is_column=captures)
    assert row["timestamp"] == "2014-01-27 17:12:00"


# -- compression -----------------------------------------------------------------

LINES = [f'com,example)/{n} 20140127171200 {{"url": "http://e/{n}"}}\n' for n in range(3000)]


def test_members_without_a_line_end_do_not_run_together(tmp_path):
    """The end of a gzip member ends a line; the blocks of bgzip do not."""
    whole = "".join(LINES[:3]).encode()
    path = tmp_path / "a.cdxj.gz"
    path.write_bytes(
        b"".join(gzip.compress(line.strip().encode()) for line in LINES[:3]) + b"\0" * 9
    )
    assert len(loaded(path)[0]) == 3
    block = b"\x1f\x8b\x08\x04" + bytes(6) + b"\x06\x00BC\x02\x00\x00\x00"
    parts = (whole[:70], whole[70:])
    path.write_bytes(b"".join(block + gzip.compress(part)[10:] for part in parts))
    assert len(loaded(path)[0]) == 3


CUT = {
    "t.csv": 'id,text,"a, b"\r\n1,hello,x\r\n2,"a, ""b""\r\nc",y\r\n,,\r\n4,é,z\r\n',
    "t.tsv": "id\ttext\n1\ta\n2\tb, c\n",
    "t.jsonl": '{"id": 1, "text": "a, b"}\n{"id": 2, "text": {"c": [1]}}\n',
    "t.json": '[{"id": 1, "text": "a, b"},\n {"id": 2,\n"text": null}]\n',
}


@pytest.mark.parametrize("name", CUT)
def test_members_that_divide_a_line_are_joined(tmp_path, name):
    """Wherever a file was divided before it was compressed, it is read as if it had not been."""
    content = CUT[name].encode()
    whole, cut = tmp_path / name, tmp_path / f"{name}.gz"
    whole.write_bytes(content)
    expected = loaded(whole)[0]
    for place in range(1, len(content)):
        cut.write_bytes(gzip.compress(content[:place]) + gzip.compress(content[place:]))
        # A line end more may be counted where the last one of the file is cut off.
        assert [each[2] for each in loaded(cut)[0]] == [each[2] for each in expected], place


def test_members_of_a_record_each(tmp_path):
    """A table of which each record has a member of its own, without a line end."""
    path = tmp_path / "t.csv.gz"
    records = ["id,text", '1,"a,b"', "2,b"]
    path.write_bytes(b"".join(gzip.compress(each.encode()) for each in records))
    assert [each[2] for each in loaded(path)[0]] == [
        {"id": "1", "text": "a,b"},
        {"id": "2", "text": "b"},
    ]


def test_a_wrong_check_sum_is_reported(tmp_path):
    """What was read before it is kept, and nobody has to guess that it may be wrong."""
    data = bytearray(gzip.compress(b"id,text\n1,a\n"))
    data[-8] ^= 1
    path = tmp_path / "t.csv.gz"
    path.write_bytes(data)
    found, _, damage = loaded(path)
    assert len(found) == 1 and "check sum" in damage and "may be wrong" in damage


COMPRESSIONS = [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]


@pytest.mark.parametrize(("suffix", "compress"), COMPRESSIONS)
def test_compressed_files(tmp_path, suffix, compress):
    """They are read whole, several streams too; what is cut off is read as far as it goes."""
    content = "".join(LINES).encode()
    path = tmp_path / f"a.cdxj.{suffix}"
    path.write_bytes(compress(content[:50_000]) + compress(content[50_000:]))
    found, name, damage = loaded(path)
    assert (name, damage) == ("cdxj", None)
    assert len(found) == len(LINES)
    noise = "".join(f'{line[:-2]}, "x": "{zlib.crc32(line.encode())}"}}\n' for line in LINES)
    data = compress(noise.encode())
    path.write_bytes(data[: len(data) * 2 // 3])
    found, _, damage = loaded(path) if suffix != "bz2" else loaded(path, "cdxj")
    assert damage == "the file ends early"
    assert not any(isinstance(each, Skipped) for each in found)
    if suffix == "gz":
        inflated = zlib.decompressobj(wbits=31).decompress(data[: len(data) * 2 // 3])
        assert len(found) == inflated.count(b"\n")


@pytest.mark.parametrize(("suffix", "compress"), COMPRESSIONS)
def test_parts_whose_last_line_has_no_end(tmp_path, suffix, compress):
    """The next part begins a record; a line that is cut anywhere goes on, for all the same."""
    path = tmp_path / f"a.cdxj.{suffix}"
    path.write_bytes(b"".join(compress(line.rstrip("\n").encode()) for line in LINES[:50]))
    found, _, damage = loaded(path)
    assert ([first for first, _, _ in found], damage) == ([*range(1, 51)], None)
    path = tmp_path / f"a.jsonl.{suffix}"
    path.write_bytes(b"".join(compress(b'{"id": %d}' % number) for number in range(5)))
    assert [row for _, _, row in loaded(path)[0]] == [{"id": number} for number in range(5)]
    if suffix != "gz":  # where what cannot be known ends a line
        text = "".join(f"{number},some text\n" for number in range(30)).encode()
        path = tmp_path / f"a.csv.{suffix}"
        path.write_bytes(
            compress(b"id,text\n")
            + b"".join(compress(text[n : n + 5]) for n in range(0, len(text), 5))
        )
        assert [row for _, _, row in loaded(path)[0]] == [
            {"id": str(number), "text": "some text"} for number in range(30)
        ]


def test_damage_in_the_middle(tmp_path):
    """Everything before the damaged place is read."""
    data = bytearray(gzip.compress("".join(LINES).encode()))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "a.cdxj.gz"
    path.write_bytes(data)
    found, _, damage = loaded(path)
    assert "damaged" in damage and len(found) > 100
    assert [row["url"] for _, _, row in found[:100]] == [f"http://e/{n}" for n in range(100)]
    path.write_bytes(gzip.compress("".join(LINES).encode()) + b"garbage")
    found, _, damage = loaded(path)
    assert "no gzip" in damage and len(found) == len(LINES)


@pytest.mark.parametrize(("suffix", "compress"), COMPRESSIONS[1:])
def test_damage_costs_little_of_what_comes_before(tmp_path, suffix, compress):
    """Lines that compress well are read up to the damage, and not to some kilobytes before it."""
    text = "".join(f'{line[:-2]}, "x": "{zlib.crc32(line.encode())}"}}\n' for line in LINES)
    data = bytearray(compress(text.encode()) + compress(text.encode()))
    first = len(compress(text.encode()))
    place = len(data) * 3 // 4 if suffix == "xz" else first + 100
    data[place] ^= 0x55
    path = tmp_path / f"a.cdxj.{suffix}"
    path.write_bytes(data)
    found, _, damage = loaded(path)
    assert "damaged" in damage
    # bzip2 checks blocks as wholes: nothing of a damaged one is taken.
    least = len(LINES) * (1.4 if suffix == "xz" else 1)
    assert len(found) >= least
    good = [row["url"] for _, _, row in found[: int(least)]]
    assert good == [f"http://e/{n % len(LINES)}" for n in range(int(least))]


def test_zstandard(tmp_path):
    """Frames follow each other anywhere; a cut off one is noticed."""
    zstandard = pytest.importorskip("zstandard", reason="zstandard is not installed")
    content = "".join(LINES).encode()
    path = tmp_path / "a.cdxj.zst"
    frames = [zstandard.compress(part) for part in (content[:70], content[70:])]
    path.write_bytes(b"".join(frames))
    found, name, damage = loaded(path)
    assert (len(found), name, damage) == (len(LINES), "cdxj", None)
    path.write_bytes(b"".join(frames)[:-20])
    assert loaded(path)[2] is not None


# -- WARC, Parquet, Arrow ----------------------------------------------------------


@pytest.mark.parametrize("compressed", [True, False])
def test_warc(tmp_path, compressed):
    """One row for each response and revisit; other records are counted."""
    pytest.importorskip("warcio", reason="warcio is not installed")
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    path = tmp_path / "a.warc.gz"
    notes = []
    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=compressed)
        headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html; x")], "HTTP/1.1")
        date = {"WARC-Date": "2026-01-02T03:04:05Z"}
        for kind in ("request", "response"):
            record = writer.create_warc_record(
                "http://h.example/",
                kind,
                io.BytesIO(b"hello"),
                http_headers=headers,
                warc_headers_dict=date,
            )
            writer.write_record(record)
        record = writer.create_revisit_record(
            "http://h.example/", "sha1:3I42", "http://h.example/", "2026-01-01T00:00:00Z", headers
        )
        writer.write_record(record)
    found, name, damage = loaded(path, note=notes.append)
    assert (name, damage, len(found)) == ("warc", None, 2)
    number, _, row = found[0]
    assert number == 2
    assert (row["timestamp"], row["status_code"]) == ("2026-01-02 03:04:05", 200)
    assert (row["payload_size"], row["mimetype"]) == (5, "text/html")
    assert row["warc_offset"] > 0 and row["warc_filename"] == "a.warc.gz"
    assert row["content_digest"].startswith("sha1:") and row["host"] == "h.example"
    assert found[1][2]["is_duplicate"] == 1
    assert notes == ["records that are no responses and are not stored: 1 request"]
    path.write_bytes(path.read_bytes()[:-30])
    assert len(loaded(path)[0]) >= 1


RECORD = (
    "WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://h.example/{name}\r\n"
    "WARC-Date: 2026-01-02T03:04:05.123Z\r\nContent-Type: application/http\r\n"
    "Content-Length: {length}\r\n\r\n{block}\r\n\r\n"
)
HTTP = "HTTP/1.1 404\r\ncontent-type: text/html\r\n\r\nhello"


def warc_record(name, block=HTTP, kind="response", length=None):
    """One record of a WARC file, right or wrong."""
    length = len(block) if length is None else length
    return RECORD.format(name=name, block=block, kind=kind, length=length)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (warc_record("a", length=len(HTTP) - 3), "Content-Length is wrong"),
        (warc_record("a", "", length=-1), "Content-Length is no number: '-1'"),
        (warc_record("a", "", length="abc"), "Content-Length is no number: 'abc'"),
        (warc_record("a").replace("WARC-Target-URI", "X"), "no url"),
        (warc_record("a").replace("2026-01", "2026-13"), "no such time"),
    ],
)
def test_a_damaged_record_costs_no_other(tmp_path, wrong, reason):
    """It is skipped, with the reason, and what follows it is stored."""
    pytest.importorskip("warcio", reason="warcio is not installed")
    path = tmp_path / "a.warc"
    path.write_text(wrong + warc_record("b", "no HTTP") + warc_record("c"), newline="")
    [skipped, other, row], _, damage = loaded(path)
    assert reason in skipped.reason and damage is None
    assert (other[2]["status_code"], other[2]["mimetype"]) == (None, None)
    assert (other[2]["payload_size"], row[2]["payload_size"]) == (7, 5)
    assert (row[2]["status_code"], row[2]["mimetype"]) == (404, "text/html")


@pytest.mark.parametrize("kind", ["response", "request"])
@pytest.mark.parametrize("left_out", [1, 20, 60, 150, 190])
def test_a_warc_file_that_is_cut_off(tmp_path, kind, left_out):
    """What is cut off is no row, and the end is reported, whatever the record was."""
    pytest.importorskip("warcio", reason="warcio is not installed")
    path = tmp_path / "a.warc"
    whole = warc_record("a") + warc_record("b", kind=kind).removesuffix("\r\n\r\n")
    path.write_text(whole[:-left_out], newline="")
    [row], _, damage = loaded(path)
    assert row[2]["url"] == "http://h.example/a" and damage is not None


def test_no_warc_is_refused_without_its_bytes(tmp_path):
    """Also one that is compressed as a whole, which has no places of records."""
    pytest.importorskip("warcio", reason="warcio is not installed")
    path = tmp_path / "a.warc.gz"
    path.write_bytes(gzip.compress((warc_record("a") + warc_record("b")).encode()))
    assert "in one gzip member" in loaded(path)[2]
    for content, reason in ((b"id,text\n", "no WARC or ARC"), (b"BZh9\x31", "not compressed with")):
        path.write_bytes(content)
        with pytest.raises(errors.BadRequest, match=reason):
            loaded(path, "warc")


def test_parquet_and_arrow(tmp_path):
    """Values come as SQLite has them; what it has not is refused."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import datetime
    import decimal

    from pyarrow import feather, ipc, parquet

    table = pyarrow.table(
        {
            "i": [1, None, 2**63 - 1],
            "r": [1.5, float("inf"), float("nan")],
            "t": ["", "é", None],
            "b": [b"\xff", b"", None],
            "d": [datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)] * 3,
            "l": [[1, 2], [], None],
            "n": [decimal.Decimal("1.10")] * 3,
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    feather.write_feather(table, tmp_path / "a.arrow")
    with ipc.new_stream(str(tmp_path / "b.arrow"), table.schema) as stream:
        stream.write_table(table)
    rest = {"d": "2026-01-02 03:04:05", "n": "1.10"}
    for name in ("a.parquet", "a.arrow", "b.arrow"):
        *rows, skipped = loaded(tmp_path / name)[0]
        assert rows == [
            (1, 1, {"i": 1, "r": 1.5, "t": "", "b": bytearray(b"\xff"), "l": "[1, 2]"} | rest),
            (2, 2, {"i": None, "r": float("inf"), "t": "é", "b": bytearray(), "l": "[]"} | rest),
        ]
        assert "NaN" in skipped.reason
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-5])
    found, _, damage = loaded(tmp_path / "a.parquet")
    assert (found, damage is None) == ([], False)


def test_values_that_python_has_no_type_for(tmp_path):
    """Nanoseconds, as pandas writes them, stay; a time out of range costs its row alone."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    def values(column):
        parquet.write_table(pyarrow.table({"c": column}), tmp_path / "a.parquet")
        found = loaded(tmp_path / "a.parquet")[0]
        return [each.reason if isinstance(each, Skipped) else each[2]["c"] for each in found]

    times = [1577836800000000000, None, 1577836800123456789, -1]
    assert values(pyarrow.array(times, pyarrow.timestamp("ns", tz="Europe/Berlin"))) == [
        "2020-01-01 00:00:00",
        None,
        "2020-01-01 00:00:00.123456789",
        "1969-12-31 23:59:59.999999999",
    ]
    assert values(pyarrow.array([1000, 1], pyarrow.time64("ns"))) == [
        "00:00:00.000001",
        "00:00:00.000000001",
    ]
    assert values(pyarrow.array([1], pyarrow.duration("ns"))) == ["0:00:00.000000001"]
    out_of_range, in_range = values(pyarrow.array([10**12, 0], pyarrow.timestamp("s")))
    assert "after 9999" in out_of_range and in_range == "1970-01-01 00:00:00"
    nested = pyarrow.array([[1], []], pyarrow.list_(pyarrow.timestamp("ns")))
    reason, empty = values(nested)
    assert "cannot be read" in reason and empty == "[]"
    times = pyarrow.struct([("at", pyarrow.timestamp("ns")), ("took", pyarrow.duration("ns"))])
    nested = pyarrow.array([{"at": 1000, "took": 2000}, {"at": 1, "took": 0}, None], times)
    whole, reason, none = values(nested)
    assert whole == '{"at": "1970-01-01 00:00:00.000001", "took": "0:00:00.000002"}'
    assert "cannot be read" in reason and none is None


def test_a_damaged_arrow_file_ends_with_a_reason(tmp_path):
    """Offsets of texts that lead out of the file are found before they are followed."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import ipc

    table = pyarrow.table({"t": ["a", "bb", "ccc"]})
    path = tmp_path / "a.arrow"
    with ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table)
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 1, 3, 6))
    data = path.read_bytes()
    assert offsets in data
    path.write_bytes(data.replace(offsets, offsets[:8] + b"\xff\xff\xff\x7f" + offsets[12:]))
    found, _, damage = loaded(path)
    assert found == [] and "cannot be read" in damage


# -- all -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "format_name"),
    [
        ("a", " CDX N b a m s k r M S V g", "cdx"),
        ("a", "\tCDX\tN\tb\ta", "cdx"),
        ("a", ELEVEN, "cdx"),
        ("a", f"com,example)/ damaged\n{ELEVEN}", "cdx"),
        ("a", "http://e/ 192.0.2.1 20140127171200 text/html 6345 x.arc 6950 56bf", "cdx"),
        ("a", 'com,example)/ 20140127171200 {"url": "x"}', "cdxj"),
        ("a", '(com,e,)/ 2014-01-27T17:12:00Z response {"uri": "x"}', "cdxj"),
        ("a", "!OpenWayback-CDXJ 1.0", "cdxj"),
        ("a", f"{LOG}-", "crawl-log"),
        ("a", '{"a": 1}', "jsonl"),
        ("a.json", '{"a": 1}\n{"a": 2}', "jsonl"),
        ("a", '{\n"a": 1}', "json"),
        ("a", '[{"a": 1}]', "json"),
        ("a", "id,name\n1,2", "csv"),
        ("a.csv", "id\n1\n", "csv"),
        ("a.tsv", "id\n1\n", "tsv"),
        ("a", "id\tname\n1\t2", "tsv"),
        ("a", "", "csv"),
        ("a", "WARC/1.0\r\n", "warc"),
    ],
)
def test_formats_are_recognised(tmp_path, name, text, format_name):
    """The name and the first lines show which format a file has."""
    path = tmp_path / name
    path.write_text(text)
    with Source(str(path)) as source:
        assert formats.opened(source, None, 1 << 20).format == format_name


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a", b"nothing known\nat all\n", "--format"),
        ("a.idx", b"com,e)/ 20140127171200\ta.cdx.gz\t0\t188\t1\n", "load the .cdx files it lists"),
        ("a.loc", b"a.cdx.gz\t/data/a.cdx.gz\n", "load the .cdx files it lists"),
        ("a.wacz", b"PK\3\4", "unpack it"),
        ("a", "a,b\n".encode("utf-16"), "UTF-16"),
        ("a.gz", gzip.compress("a,b\n".encode("utf-16")), "UTF-16"),
        ("a.csv", "id,text\n".encode("utf-16-le"), "UTF-16LE"),
        ("a.csv", "id,text\n".encode("utf-16-be"), "UTF-16BE"),
        ("a", "a,b\n".encode("utf-32"), "UTF-32"),
        ("a.db", b"SQLite format 3\0", "SQLite database"),
        ("a.csv", b"<!DOCTYPE html>\n", "HTML"),
        ("a.csv.gz", gzip.compress(b"<html>\n"), "HTML"),
        ("a.warc.bz2", bz2.compress(b"WARC/1.0\r\n"), "decompress it first"),
    ],
    # Not the content: gzip puts the time into it, and xdist wants the same names everywhere.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, reason):
    """It is refused by what it is, and what to do instead is said."""
    (tmp_path / name).write_bytes(content)
    with Source(str(tmp_path / name)) as source, pytest.raises(errors.BadRequest, match=reason):
        formats.opened(source, None, 1 << 20)


@pytest.mark.parametrize("format_name", formats.OF_LINES)
def test_no_line_is_lost(format_name):
    """Whatever lines hold, each is a row or is skipped, in order, and reading goes on."""

    @given(st.text(alphabet="ab,\"' {}[]:0123456789\\-!\0\né\r\t", max_size=60))
    def check(text):
        before = 0
        for record in formats.OF_LINES[format_name](
            numbered([b"x,y\n" + text.encode() + b"\n{}"], 50),
            FormatOptions(("x", "a"), max_record=50),
        ):
            assert isinstance(record, RecordRow | Skipped)
            assert before <= record[0] <= record[1]
            before = record[1]

    check()
