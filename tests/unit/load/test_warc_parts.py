"""WARC files whose records are gzip members or zstd frames: whole, cut off, damaged."""

from __future__ import annotations

import gzip

import pytest
from test_formats import loaded, warc_record

from trough import errors

zstandard = pytest.importorskip("zstandard", reason="zstandard is not installed")
pytest.importorskip("warcio", reason="warcio is not installed")

COUNT = 6
RECORDS = [
    warc_record(str(n), kind="request" if n == 3 else "response", block=f"HTTP/1.1 200\r\n\r\n{n}")
    for n in range(COUNT)
]
#: Names in the urls of what is stored.
STORED = [str(n) for n in range(COUNT) if n != 3]


def gzip_parts():
    """A gzip member for each record."""
    return [gzip.compress(each.encode(), 9, mtime=0) for each in RECORDS]


def zstd_parts(dictionary=None):
    """A zstd frame for each record, with a check sum."""
    options = {} if dictionary is None else {"dict_data": dictionary}
    made = zstandard.ZstdCompressor(write_checksum=True, **options)
    return [made.compress(each.encode()) for each in RECORDS]


def dictionary_part(content):
    """A skippable frame with a dictionary."""
    return b"\x5d\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content


PARTS = {"gz": gzip_parts, "zst": zstd_parts}


def names(found):
    """The last part of each url."""
    return [row["url"].rpartition("/")[2] for _, _, row in found]


@pytest.mark.parametrize("kind", PARTS)
def test_a_record_is_a_part(tmp_path, kind):
    """Each has its place in the file."""
    path, parts = tmp_path / f"a.warc.{kind}", PARTS[kind]()
    path.write_bytes(b"".join(parts))
    found, name, damage = loaded(path)
    assert (name, damage, names(found)) == ("warc", None, STORED)
    for number, _, row in found:
        before = sum(map(len, parts[: number - 1]))
        assert (row["warc_offset"], row["size"]) == (before, len(parts[number - 1]))


@pytest.mark.parametrize("kind", PARTS)
def test_a_file_that_ends_within_a_part(tmp_path, kind):
    """Cut off at any byte: what was read before is stored, and the end is reported."""
    path, parts = tmp_path / f"a.warc.{kind}", PARTS[kind]()
    content = b"".join(parts)
    ends = [sum(map(len, parts[:n])) for n in range(COUNT + 1)]
    for size in range(len(parts[0]), len(content)):
        path.write_bytes(content[:size])
        found, _, damage = loaded(path)
        whole = max(n for n in range(COUNT + 1) if ends[n] <= size)
        least = [name for name in STORED if int(name) < whole]
        # Nothing of the last record may be missing but the check sum of its part.
        assert names(found) in (least, [name for name in STORED if int(name) <= whole])
        assert (damage is None) == (size in ends), size


@pytest.mark.parametrize("kind", PARTS)
def test_a_damaged_part(tmp_path, kind, capfd):
    """The records before it are stored, and warcio writes nothing to the terminal."""
    path, parts = tmp_path / f"a.warc.{kind}", PARTS[kind]()
    for place in range(6, len(parts[4]) - 1):
        broken = bytearray(parts[4])
        broken[place] ^= 0x55
        path.write_bytes(b"".join([*parts[:4], broken, *parts[5:]]))
        found, _, damage = loaded(path)
        assert names(found)[:3] == STORED[:3]
        # A name or time in the header of a gzip member belongs to no record.
        assert damage is not None or names(found) == STORED
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("compressed", [False, True])
def test_frames_with_a_dictionary(tmp_path, compressed):
    """It comes first, in a skippable frame."""
    raw = "".join(RECORDS).encode()[:400]
    made = zstandard.ZstdCompressionDict(raw, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    content = zstandard.ZstdCompressor().compress(raw) if compressed else raw
    path = tmp_path / "a.warc.zst"
    whole = dictionary_part(content) + b"".join(zstd_parts(made))
    path.write_bytes(whole)
    found, name, damage = loaded(path)
    assert (name, damage, names(found)) == ("warc", None, STORED)
    assert found[0][2]["warc_offset"] == 8 + len(content)
    path.write_bytes(whole[:20])
    assert loaded(path)[0] == [] and "within its dictionary" in loaded(path)[2]


def test_a_dictionary_of_any_size_is_not_read(tmp_path):
    """It could take 4 GiB."""
    path = tmp_path / "a.warc.zst"
    path.write_bytes(b"\x5d\x2a\x4d\x18\xff\xff\xff\xffx")
    assert "its dictionary has 4294967295 bytes" in loaded(path)[2]


def test_one_frame_for_all_records(tmp_path):
    """The records have no places then."""
    path = tmp_path / "a.warc.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress("".join(RECORDS).encode()))
    assert "in one gzip member or zstd frame" in loaded(path)[2]


def test_a_whole_file_in_bzip2_is_refused(tmp_path):
    """As before, by name."""
    path = tmp_path / "a.warc.bz2"
    path.write_bytes(b"BZh91AY&SY")
    with pytest.raises(errors.BadRequest, match="record by record"):
        loaded(path, "warc")
