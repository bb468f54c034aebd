"""The form of SQLite's WAL files, as far as replication reads them.

A WAL is a header of 32 bytes and frames of 24 bytes and one page. The header names the page size
and two salts. Each frame repeats the salts. Its checksum covers all frames before it and the
header, so a frame belongs to the WAL only if its salts and its checksum fit. What follows the
first frame that does not fit is no part of the WAL. A transaction ends with a frame that names
the size of the database after it. https://www.sqlite.org/fileformat2.html#walformat

The functions take bytes and give values. Who reads the file is not known here.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HEADER_SIZE = 32
FRAME_HEADER_SIZE = 24

_MAGIC = 0x377F0682  # the last bit: whether checksums read words as big-endian
_FORMAT = 3007000
_HEADER = struct.Struct(">IIIIII8s")
_FRAME = struct.Struct(">II8s8s")
_SUMS = struct.Struct(">II")
_NATIVE_BIG = sys.byteorder == "big"

#: Reads up to so many bytes of a file from an offset; fewer only at its end.
Read = Callable[[int, int], bytes]

#: Two words of a checksum.
Sums = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a WAL.

    :ivar page_size: bytes of a page
    :ivar salts: 8 bytes, other ones each time that the WAL is begun again
    :ivar big: whether checksums read words as big-endian
    :ivar sums: checksum of the header, which the first frame continues
    """

    page_size: int
    salts: bytes
    big: bool
    sums: Sums

    @property
    def frame_size(self) -> int:
        """Bytes of a frame."""
        return FRAME_HEADER_SIZE + self.page_size

    def frames_before(self, offset: int) -> int | None:
        """How many frames lie before an offset; None if it is not between two frames."""
        frames, rest = divmod(offset - HEADER_SIZE, self.frame_size)
        return None if rest or frames < 0 else frames

    def offset_of(self, frames: int) -> int:
        """The offset behind so many frames."""
        return HEADER_SIZE + frames * self.frame_size


def parse_header(data: bytes) -> Header | None:
    """The header at the beginning of a WAL; None where SQLite takes the WAL for empty."""
    if len(data) < HEADER_SIZE:
        return None
    magic, form, page_size, _sequence, _, _, last = _HEADER.unpack_from(data)
    if magic & ~1 != _MAGIC or form != _FORMAT:
        return None
    if page_size < 512 or page_size > 65536 or page_size & (page_size - 1):
        return None
    big = bool(magic & 1)
    sums = checksum(data[: HEADER_SIZE - 8], (0, 0), big)
    if _SUMS.pack(*sums) != last:
        return None
    return Header(page_size, bytes(data[16:24]), big, sums)


def checksum(data: bytes | memoryview, sums: Sums, big: bool) -> Sums:
    """Continue a checksum over data, whose size is a multiple of 8."""
    words = array("I", bytes(data))
    if big != _NATIVE_BIG:
        words.byteswap()
    first, second = sums
    pairs = iter(words)
    for even, odd in zip(pairs, pairs, strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


@dataclass(frozen=True, slots=True)
class Frame:
    """The header of a frame.

    :ivar page: number of the page, from 1
    :ivar commit: pages of the database after this frame, if it ends a transaction; else 0
    :ivar sums: the cumulative checksum, 8 bytes
    """

    page: int
    commit: int
    salts: bytes
    sums: bytes

    @classmethod
    def parse(cls, data: bytes | memoryview, offset: int = 0) -> Frame:
        """The frame whose header lies at an offset in `data`."""
        return cls(*_FRAME.unpack_from(data, offset))


def frames(header: Header, read: Read, end: int) -> Iterator[tuple[int, Frame]]:
    """Each frame of a WAL that fits, and the offset behind it.

    Every checksum is computed: about 130 us for a page of 4 KiB.

    :param end: offset behind which nothing is read
    """
    sums, size, offset = header.sums, header.frame_size, HEADER_SIZE
    while offset + size <= end:
        data = read(offset, size)
        if len(data) < size:
            return
        frame = Frame.parse(data)
        if frame.salts != header.salts or not frame.page:
            return
        sums = checksum(data[:8], sums, header.big)
        sums = checksum(memoryview(data)[FRAME_HEADER_SIZE:], sums, header.big)
        if _SUMS.pack(*sums) != frame.sums:
            return
        offset += size
        yield offset, frame


def last_commit(header: Header, read: Read, end: int) -> int:
    """The offset behind the last whole transaction; 0 if there is none."""
    last = 0
    for offset, frame in frames(header, read, end):
        if frame.commit:
            last = offset
    return last


def fits(content: bytes | memoryview, header: Header) -> bool:
    """Whether bytes are whole frames of a WAL, by their size and salts alone."""
    size = header.frame_size
    if not content or len(content) % size:
        return False
    view = memoryview(content)
    return all(view[at + 8 : at + 16] == header.salts for at in range(0, len(view), size))
