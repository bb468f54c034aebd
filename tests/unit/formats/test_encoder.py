"""An answer of the line protocol becomes each of the formats of HTTP."""

from __future__ import annotations

import csv
import gzip
import io
import json

import pyarrow.ipc
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from trough import errors
from trough.formats.encoder import FORMATS, Encoder
from trough.sql import rows as lines

COLUMNS = ("id", "url", "note")
ROWS = [
    (1, 'http://a/,"b"\nc', None),
    (9223372036854775807, "日本", b"\x00\xff"),
    (None, "", b""),
]


def answer(columns=COLUMNS, rows=ROWS, times=1):
    """What an executor writes for one segment."""
    parts = [lines.columns_line("r", "a b", lines.names_json(columns))]
    parts += [f"r ROWS a%20b {lines.array_of_rows(rows)}\n" if rows else ""] * times
    return "".join([*parts, lines.done_line("r", "a b", len(rows))]).encode()


def encoded(name, data, compression="", portion=1 << 20):
    """All that an encoder makes of some bytes."""
    encoder = Encoder(name, compression)
    parts = [encoder.receive(data[at : at + portion]) for at in range(0, len(data), portion)]
    return b"".join([*parts, encoder.end()])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_portions_make_no_difference(name, compression):
    """One byte at a time gives what all at once gives, compressed or not."""
    read = {
        "": bytes,
        "gzip": gzip.decompress,
        "zstd": lambda data: zstandard.ZstdDecompressor().stream_reader(data).read(),
    }[compression]
    whole = encoded(name, answer())
    assert read(encoded(name, answer(), compression, 1)) == whole
    assert read(encoded(name, answer(), compression)) == whole


def test_json_stays_as_it_is():
    """What an executor wrote goes through byte for byte."""
    assert encoded("json", b'[{"a":1}]\n') == b'[{"a":1}]\n'


def test_text_formats_give_all_values():
    """NULL, the empty text, BLOBs, quotes and line ends."""
    read = list(csv.reader(io.StringIO(encoded("csv", answer()).decode(), newline="")))
    assert read == [
        list(COLUMNS),
        ["1", 'http://a/,"b"\nc', ""],
        ["9223372036854775807", "日本", "x'00ff'"],
        ["", "", "x''"],
    ]
    assert [json.loads(line) for line in encoded("jsonl", answer()).splitlines()][1] == {
        "id": 9223372036854775807,
        "url": "日本",
        "note": {"blob": "AP8="},
    }
    assert encoded("tsv", answer()).decode().splitlines()[1] == '1\thttp://a/,"b"\\nc\t\\N'
    assert encoded("markdown", answer()).decode().startswith("| id | url | note |\n| --- |")


def test_columnar_formats_have_types():
    """Numbers, texts and bytes; several batches make one result."""
    expected = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
    stream = pyarrow.ipc.open_stream(encoded("arrow", answer()))
    assert stream.schema.types == [pyarrow.int64(), pyarrow.string(), pyarrow.binary()]
    assert stream.read_all().to_pylist() == expected
    many = pyarrow.parquet.read_table(
        pyarrow.BufferReader(encoded("parquet", answer(times=30_000)))
    )
    assert many.num_rows == 90_000
    assert many.slice(0, 3).to_pylist() == expected


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"json"}))
def test_no_rows_have_columns_all_the_same(name):
    """An empty result names its columns, where its format names any."""
    data = encoded(name, answer(rows=[]))
    if name == "arrow":
        assert pyarrow.ipc.open_stream(data).read_all().column_names == list(COLUMNS)
    elif name == "parquet":
        assert pyarrow.parquet.read_table(io.BytesIO(data)).column_names == list(COLUMNS)
    elif name != "jsonl":
        assert b"url" in data


def test_a_failed_segment_is_an_error():
    """With its code and its reason."""
    line = lines.fail_line("r", "a", errors.BadSql("no such table: t", "is it there?")).encode()
    with pytest.raises(errors.BadSql, match=r"^no such table: t \(is it there\?\)$"):
        encoded("csv", line)


def test_a_column_of_two_types_has_no_type():
    """The error names the column, and comes before a byte of the second batch."""
    with pytest.raises(errors.BadRequest, match="column id holds values of several types"):
        encoded("arrow", answer(("id",), [(1,), ("x",)]))


_VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(max_size=9),
)


@given(st.lists(st.tuples(_VALUES, _VALUES), max_size=5))
def test_jsonl_gives_every_value_back(rows):
    """What the executor wrote is read again as the same values and types."""
    found = [json.loads(line) for line in encoded("jsonl", answer(("a", "b"), rows)).splitlines()]
    expected = json.loads(lines.array_of_rows(rows)) if rows else []
    assert [[row["a"], row["b"]] for row in found] == expected
