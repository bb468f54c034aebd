"""In which format and compression a request is answered."""

import subprocess
import sys

import pytest

from trough import errors
from trough.protocols.http.negotiation import reply_for


@pytest.mark.parametrize(
    ("format_", "accept", "expected"),
    [
        (None, [], "json"),
        (None, ["*/*"], "json"),
        (None, ["text/html,application/xhtml+xml,*/*;q=0.8"], "json"),
        (None, ["text/csv"], "csv"),
        (None, ["Text/CSV; header=present"], "csv"),
        (None, ["application/json;q=0.5, text/csv;q=0.4"], "json"),
        (None, ["application/json;q=0.5", "text/csv;q=0.6"], "csv"),
        (None, ["text/csv;q=0"], "json"),
        (None, ["text/csv;q=nonsense"], "json"),
        (None, ["application/vnd.apache.arrow.stream"], "arrow"),
        (None, ["application/x-ndjson"], "jsonl"),
        (None, [",,;;q=,"], "json"),
        ("CSV", ["application/json"], "csv"),
        ("parquet", [], "parquet"),
    ],
)
def test_the_url_decides_and_else_the_header(format_, accept, expected):
    """JSON is for everything that names no other format."""
    assert reply_for(format_, accept, []).format == expected


@pytest.mark.parametrize(
    ("encodings", "expected"),
    [
        ([], ""),
        (["identity"], ""),
        (["gzip, deflate, br"], "gzip"),
        (["gzip, deflate, br, zstd"], "zstd"),
        (["zstd;q=0, gzip"], "gzip"),
        (["gzip;q=1.0, zstd;q=0.5"], "gzip"),
        (["*"], ""),
    ],
)
def test_compression_is_what_the_client_takes(encodings, expected):
    """The best one of those that it names, and none that it does not."""
    assert reply_for("csv", [], encodings).compression == expected
    assert reply_for("parquet", [], encodings).compression == ""


def test_to_offer_a_format_loads_no_library():
    """Loading pyarrow would hold the reactor for a second."""
    code = (
        "import sys; from trough.protocols.http.negotiation import reply_for;"
        "reply_for('arrow', [], ['zstd']); reply_for('csv', [], ['zstd']);"
        "sys.exit(len({'pyarrow', 'zstandard'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_format_that_is_not_known_is_refused():
    """The error lists those that there are."""
    with pytest.raises(errors.BadRequest, match="known: json, jsonl, csv, tsv, markdown"):
        reply_for("xml", [], [])
