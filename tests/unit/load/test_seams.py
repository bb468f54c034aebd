"""Where a gzip member or a stream of another compression ends, a record neither ends nor begins."""

import bz2
import gzip
import lzma
import random

import pytest
import zstandard

from trough.load import formats
from trough.load.records import MAX_RECORD, FormatOptions, RecordRow
from trough.load.seams import Seams
from trough.load.sources import Source

COMPRESS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
}
ROWS = 12

CSV = '{0},"a,b {0}","x\ny,z,{0}"\n'
CDXJ = 'com,example)/{0} 20140127171200 {{"url": "http://example.com/{0}", "status": "200"}}\n'
CDX = "http://example.com/{0} 20220301145028 http://example.com/{0} text/html 200 XVS 848 x.warc\n"
NAS = "http://example.com/{0} 1.2.3.4 20080101000000 text/html 100 x.arc 5 d41d8\n"
LOG = (
    "2026-01-02T03:04:05.678Z   200        52 http://example.com/{0} P http://h.example/ text/html "
    "#001 20260102030405610+31 sha1:3I http://h.example/ content-size:61\n"
)
JSON = '{{"id": {0}, "t": "}}{{ ][ \\"{0}", "l": [{{"x": []}}, {{"y": 1}}, [[], []]]}}'

FILES = {
    "t.csv": "id,t,u\n" + "".join(CSV.format(row) for row in range(ROWS)),
    "t.cdxj": "".join(CDXJ.format(row) for row in range(ROWS)),
    "wget.cdx": " CDX a b a m s k V g\n" + "".join(CDX.format(row) for row in range(ROWS)),
    "nas.cdx": "".join(NAS.format(row) for row in range(ROWS)),
    "crawl.log": "".join(LOG.format(row) for row in range(ROWS)),
    "t.jsonl": "".join(JSON.format(row) + "\n" for row in range(ROWS)),
    "line.json": "[" + ", ".join(JSON.format(row) for row in range(ROWS)) + "]",
    "lines.json": "[\n" + ",\n".join(JSON.format(row) for row in range(ROWS)) + "\n]\n",
}


def read(path, content):
    """The values of the rows of a file, and the other records."""
    path.write_bytes(content)
    with Source(str(path)) as source:
        found = list(formats.opened(source, None, MAX_RECORD).records(FormatOptions()))
    rows = [list(record.values) for record in found if isinstance(record, RecordRow)]
    return rows, [record for record in found if not isinstance(record, RecordRow)]


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", FILES)
def test_a_file_in_parts_has_the_rows_of_the_whole_file(tmp_path, name, compression):
    """Programs that compress a file in parts cut it anywhere. The first line shows what it is."""
    content = FILES[name].encode()
    whole, skipped = read(tmp_path / name, content)
    assert len(whole) == ROWS and not skipped
    chosen = random.Random(name)
    begin = content.find(b"\n") + 2
    for _ in range(40):
        cuts = sorted(chosen.sample(range(begin, len(content)), chosen.choice([1, 1, 5])))
        parts = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
        compressed = b"".join(map(COMPRESS[compression], parts))
        assert read(tmp_path / f"{name}.{compression}", compressed) == (whole, []), cuts


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", ["t.cdxj", "t.jsonl"])
def test_a_record_each_without_a_line_end(tmp_path, name, compression):
    """Some crawlers write one part for each record, and no line end."""
    content = FILES[name].encode()
    compressed = b"".join(map(COMPRESS[compression], content.splitlines()))
    whole, _ = read(tmp_path / name, content)
    assert read(tmp_path / f"{name}.{compression}", compressed) == (whole, [])


def test_a_value_that_is_no_json_does_not_take_the_next_one(tmp_path):
    """A record is refused for itself, although its member has no line end."""
    compressed = b"".join(map(gzip.compress, [b'{"id": nothing}', b'{"id": 2}', b'{"id": 3}']))
    rows, skipped = read(tmp_path / "t.jsonl.gz", compressed)
    assert rows == [[2], [3]] and [each.first for each in skipped] == [1]


def test_long_lines_are_examined_in_linear_time():
    """A megabyte of quotes that never close costs no more than a megabyte of anything else."""
    seams = Seams()
    seams.feed(b'{"a": "' + b'\\"' * (1 << 19))
    assert seams.goes_on(b'{"b": 1}\n')
