"""Lines of index and table files become rows, or say why not."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import SAMPLES

from trough import errors
from trough.load import records
from trough.load.records import FORMATS, Row, Skipped

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


def read(format_name, text):
    """What a file of this content gives."""
    content = text if isinstance(text, bytes) else text.encode()
    return list(FORMATS[format_name](records.lines(io.BytesIO(content))))


def sample(name):
    """A file of real crawl data, or a skipped test."""
    if not (SAMPLES / name).exists():
        pytest.skip(f"no real crawl data: {SAMPLES / name} is not there")
    return SAMPLES / name


# -- CDX -----------------------------------------------------------------------


def test_eleven_fields():
    """CDX without a header has the usual eleven fields."""
    assert read("cdx", f"{ELEVEN}\n") == [Row(1, CAPTURE)]


def test_nine_fields():
    """CDX without a header may have nine, which lack the size."""
    nine = "com,example)/ 20140127171200 http://example.com text/html 200 B2LT - 334 dupes.warc.gz"
    assert read("cdx", nine) == [Row(1, CAPTURE | {"size": None})]


def test_a_header_says_what_the_fields_are():
    """A header line is honoured, in any order and with fields that are no columns."""
    text = " CDX a b c g V s\nhttp://example.com 20140127171200 x dupes.warc.gz 334 200\n"
    expected = CAPTURE | {
        "size": None,
        "mimetype": None,
        "content_digest": None,
        "is_duplicate": 0,
    }
    assert read("cdx", text) == [Row(2, expected)]


@pytest.mark.parametrize(
    "header", [" CDX N m s", " CDX a b b", " CDX a bb"], ids=["no url", "twice", "two letters"]
)
def test_a_header_of_no_use_is_refused(header):
    """A header that names no URL or date, or a field twice, ends the file."""
    with pytest.raises(errors.BadRequest, match="line 1"):
        read("cdx", f"{header}\n{ELEVEN}\n")


def test_revisits_are_duplicates_and_dashes_are_null():
    """A capture without a status has none, and a revisit is marked as a duplicate."""
    line = ELEVEN.replace("text/html 200", "warc/revisit -").replace("1046", "-")
    [row] = read("cdx", line)
    assert (row.values["status_code"], row.values["size"]) == (None, None)
    assert row.values["is_duplicate"] == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (ELEVEN + ELEVEN, "21 fields instead of 11; two lines run together"),
        (ELEVEN + " more", "12 fields instead of 11"),
        (ELEVEN.replace("20140127171200", "2014012717120"), "timestamp is not 14 digits"),
        (ELEVEN.replace("20140127171200", "20141327171200"), "no such time"),
        (ELEVEN.replace(" 200 ", " ok "), "status is no number: 'ok'"),
        (ELEVEN.replace(" 334 ", " \x1b[2J "), r"offset is no number: '\\x1b\[2J'"),
        (ELEVEN.replace("http://example.com", "-"), "no url"),
        (ELEVEN.replace("http://example.com", "http://[::1"), "url cannot be read"),
    ],
)
def test_damaged_lines_are_skipped_with_the_reason(line, reason):
    """One bad line costs only itself."""
    first, skipped, last = read("cdx", f"{ELEVEN}\n{line}\n{ELEVEN}")
    assert (first, last) == (Row(1, CAPTURE), Row(3, CAPTURE))
    assert skipped.line == 2
    assert re.search(reason, skipped.reason)


def test_lines_without_text_are_skipped():
    """Bytes that are not UTF-8, and a line longer than memory should be, are told of."""
    long = b"x" * (2 * records.MAX_LINE + 5)
    found = read("cdx", ELEVEN.encode() + b"\n\xff\n" + long + b"\n\n" + ELEVEN.encode() + b"\r\n")
    assert found == [
        Row(1, CAPTURE),
        Skipped(2, "not UTF-8: byte 1 of the line"),
        Skipped(3, f"longer than {records.MAX_LINE} bytes"),
        Row(5, CAPTURE),
    ]


def test_the_real_cdx_is_read_line_by_line():
    """Every line of the real sample is a row or is damaged: two lines run together."""
    path = sample("zipnum-sample.cdx")
    content = [line.split(" ") for line in path.read_text().splitlines()]
    found = list(FORMATS["cdx"](records.lines(io.BytesIO(path.read_bytes()))))
    assert [item.line for item in found] == list(range(1, len(content) + 1))
    skipped = [item for item in found if isinstance(item, Skipped)]
    assert [item.line for item in skipped] == [
        number for number, fields in enumerate(content, 1) if len(fields) != 11
    ]
    assert skipped
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
    assert read("cdxj", text) == [Row(2, CAPTURE)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("com,example)/ 20140127171200", "not: key, timestamp"),
        ("com,example)/ 20140127171200 {", "not JSON"),
        ("com,example)/ 20140127171200 []", "not a JSON object"),
        ('com,example)/ 20140127171200 {"mime": "x"}', "no url"),
        ('com,example)/ 20140127171200 {"url": "\\ud800"}', "not JSON"),
        ('com,example)/ 2014 {"url": "http://a"}', "timestamp is not 14 digits"),
        ('com,example)/ 20140127171200 {"url": "http://a", "status": []}', "status is no number"),
        ("com,example)/ 20140127171200 " + "[" * 100_000, "not JSON"),
    ],
)
def test_damaged_cdxj_is_skipped(line, reason):
    """Each kind of damage is named."""
    [skipped] = read("cdxj", line)
    assert isinstance(skipped, Skipped) and reason in skipped.reason


def test_the_real_cdxj_is_whole():
    """Every line of the real sample is a capture, the revisits without a status."""
    found = read("cdxj", sample("iana.cdxj").read_bytes())
    assert all(isinstance(item, Row) for item in found)
    revisits = [item for item in found if item.values["is_duplicate"]]
    assert revisits and all(item.values["status_code"] is None for item in revisits)


# -- CSV -----------------------------------------------------------------------


def test_csv():
    """The first row names the columns; quoted fields may hold commas and line ends."""
    text = 'id,name,note\r\n1,"a,b","two\nlines"\r\n2,,x\r\n'
    assert read("csv", text) == [
        Row(3, {"id": "1", "name": "a,b", "note": "two\nlines"}),
        Row(4, {"id": "2", "name": None, "note": "x"}),
    ]


def test_damaged_csv_is_skipped():
    """Too few fields, stray quotes and bytes that are no text cost only their lines."""
    text = b'a,b\n1,2\n1\n"x"y,2\n\xff,2\n3,4\n\n5,6'
    assert read("csv", text) == [
        Row(2, {"a": "1", "b": "2"}),
        Skipped(3, "1 fields instead of 2"),
        Skipped(4, "not CSV: ',' expected after '\"'"),
        Skipped(5, "not UTF-8: byte 1 of the line"),
        Row(6, {"a": "3", "b": "4"}),
        Row(8, {"a": "5", "b": "6"}),
    ]


@pytest.mark.parametrize(
    ("format_name", "text"),
    [("csv", "url,n\nx,1\n"), ("jsonl", '{"url": "x", "n": "1"}\n')],
)
def test_a_byte_order_mark_is_no_text(format_name, text):
    """Programs that write one at a file's beginning do so for whoever guesses encodings."""
    with_mark = read(format_name, text.encode("utf-8-sig"))
    assert with_mark == read(format_name, text)
    assert [row.values for row in with_mark] == [{"url": "x", "n": "1"}]


def test_a_quote_that_never_ends_is_told_of():
    """A quote without its end swallows the rest, which is not lost in silence."""
    [row, skipped] = read("csv", 'a,b\n1,2\n"3,4\n5,6\n')
    assert row == Row(2, {"a": "1", "b": "2"})
    assert isinstance(skipped, Skipped) and "unexpected end of data" in skipped.reason


@pytest.mark.parametrize("header", ["a,,b", "a,A"])
def test_a_csv_header_of_no_use_is_refused(header):
    """Columns need names, each its own."""
    with pytest.raises(errors.BadRequest):
        read("csv", f"{header}\n1,2,3\n")


def test_a_csv_header_follows_empty_lines():
    """Spreadsheets write them; they are no columns."""
    assert read("csv", "\n\r\na,b\n1,2\n") == [Row(4, {"a": "1", "b": "2"})]


@pytest.mark.parametrize(
    "first", [b"\xff\xfea\x00,\x00b\x00", b"caf\xe9,b", b'"a" x,b', b"a,b\rc,d"]
)
def test_a_csv_header_that_cannot_be_read_ends_it(first):
    """The row behind it would be taken for the header."""
    with pytest.raises(errors.BadRequest, match=r"^line 1: "):
        read("csv", first + b"\n1,2\n3,4\n")


# -- JSON lines ----------------------------------------------------------------


def test_json_lines():
    """Each object is a row; BLOBs as query results have them, nested values as JSON."""
    text = (
        '{"a": 1, "b": null, "c": 1.5, "d": true}\n\n{"a": {"blob": "AP8="}, "e": [1, {"f": "é"}]}'
    )
    assert read("jsonl", text) == [
        Row(1, {"a": 1, "b": None, "c": 1.5, "d": True}),
        Row(3, {"a": bytearray(b"\x00\xff"), "e": '[1, {"f": "é"}]'}),
    ]


@pytest.mark.parametrize(
    "line", ["{", "[1]", "3", "{}", '{"a": 18446744073709551616}', '{"a": {"blob": "?"}}']
)
def test_damaged_json_lines_are_skipped(line):
    """What is no object of storable values is no row."""
    [skipped] = read("jsonl", line)
    assert isinstance(skipped, Skipped) and skipped.reason


# -- all -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "format_name"),
    [
        ([" CDX N b a m s k r M S V g"], "cdx"),
        ([ELEVEN], "cdx"),
        (["com,example)/ damaged", ELEVEN], "cdx"),
        (['com,example)/ 20140127171200 {"url": "x"}'], "cdxj"),
        (["!OpenWayback-CDXJ 1.0"], "cdxj"),
        (['{"a": 1}'], "jsonl"),
        (["id,name", "1,2"], "csv"),
        (["nothing known", "at all"], None),
        ([], None),
    ],
)
def test_formats_are_recognised(first, format_name):
    """The first lines show which format a file has, or that it has none of these."""
    assert records.recognised(first) == format_name


@pytest.mark.parametrize("format_name", FORMATS)
def test_no_line_is_lost(format_name):
    """Whatever a line holds, it is a row or is skipped, and reading goes on."""

    @given(st.text(alphabet="ab,\"' {}[]:0123456789\\-!\0é", max_size=60))
    def check(line):
        lines = [(1, "x,y"), (2, line), (3, "{}")]
        for item in FORMATS[format_name](lines):
            assert isinstance(item, Row | Skipped)

    check()
