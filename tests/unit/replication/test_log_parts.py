"""Parts of a log on their way between workers: bytes in, values out."""

from __future__ import annotations

import random
import zlib
from dataclasses import replace

import pytest

from trough import errors
from trough.replication.log import BasePart, LogPart

PART = LogPart(b"i" * 16, 4096, 8192, b"d" * 32, bytes(range(256)) * 20)
BASE = BasePart(b"i" * 16, 0, b"d" * 32, False, 0, 5120, bytes(range(256)) * 20)


def test_a_part_comes_back_as_it_was() -> None:
    """Encoding and decoding lose nothing."""
    assert LogPart.decode(PART.encode()) == PART
    assert LogPart.decode(memoryview(PART.encode())).end == 8192 + 5120
    assert BasePart.decode(BASE.encode()) == BASE


def test_a_base_ends_with_the_last_byte_of_its_log() -> None:
    """Only the end of the WAL completes a base, also of an empty one."""
    assert not BASE.last
    assert not replace(BASE, of_log=True, size=9999).last
    assert replace(BASE, of_log=True).last
    assert replace(BASE, of_log=True, size=0, content=b"").last


@pytest.mark.parametrize("seed", range(20))
def test_a_changed_byte_is_noticed(seed: int) -> None:
    """Whatever is damaged on the way is rejected."""
    chance = random.Random(seed)
    data = bytearray(PART.encode())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    with pytest.raises(errors.BadLogPart):
        LogPart.decode(bytes(data))


@pytest.mark.parametrize("size", [0, 1, 40, 76, 77, 2000])
def test_half_a_part_is_noticed(size: int) -> None:
    """What is cut short is rejected, and so is what has too much."""
    with pytest.raises(errors.BadLogPart, match="bytes"):
        LogPart.decode(PART.encode()[:size])
    with pytest.raises(errors.BadLogPart, match="bytes"):
        LogPart.decode(PART.encode() + b"x")


def test_a_part_of_a_base_is_no_part_of_a_log() -> None:
    """The two kinds are not taken for each other."""
    with pytest.raises(errors.BadLogPart, match="part of a base was sent"):
        LogPart.decode(BASE.encode())
    with pytest.raises(errors.BadLogPart, match="part of a log was sent"):
        BasePart.decode(PART.encode())


def test_a_part_of_another_form_is_refused() -> None:
    """One of a later version, whose checksum is right."""
    data = bytearray(PART.encode())
    size = len(data) - len(PART.content) - 4
    data[0] += 1
    crc = zlib.crc32(PART.content, zlib.crc32(bytes(data[:size])))
    data[size : size + 4] = crc.to_bytes(4, "big")
    with pytest.raises(errors.BadLogPart, match="has form 2, and this worker reads 1"):
        LogPart.decode(bytes(data))
