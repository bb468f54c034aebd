"""Frames of a child, of which a parent believes nothing."""

from __future__ import annotations

import marshal
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trough.executors.ipc import MOST_BYTES, MOST_ENTRIES, ChildFrameParser, child_frame

VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
VALUES |= st.binary() | st.text(st.characters())


def framed(body: bytes) -> bytes:
    """A frame of any content."""
    return struct.pack("<Q", len(body)) + body


@given(st.lists(st.tuples(st.integers(1, 9), VALUES, VALUES), min_size=1), st.integers(1, 60))
def test_each_value_of_a_child_comes_as_it_was(messages, portion):
    """Also texts with half a surrogate pair, and however the stream is cut."""
    stream = child_frame(messages)
    parser, found = ChildFrameParser(), []
    for start in range(0, len(stream), portion):
        found += parser.receive_data(stream[start : start + portion])
    assert found == messages


def test_lists_come_as_tuples_and_other_types_do_not_go():
    """A child that sent a set, or a number of 65 bits, would be misunderstood."""
    parser = ChildFrameParser()
    assert list(parser.receive_data(child_frame([(1, [2, [3]], {"a": [4]})]))) == [
        (1, (2, (3,)), {"a": (4,)})
    ]
    with pytest.raises(TypeError):
        child_frame([(1, {2})])
    with pytest.raises(OverflowError):
        child_frame([(1, 1 << 64)])


@pytest.mark.parametrize(
    "body",
    [
        marshal.dumps([(1, 2)]),
        b"",
        b"\x01",
        b"\x91\x01",
        b"\x91\x90",
        b"\x92\x91\x01",
        b"\x91\x91\x01\x00",
        b"\xdd" + struct.pack(">I", MOST_ENTRIES + 1),
        b"\x91" * 5000,
        b"\x91\x91\xc7\x01\x05x",
        b"\x91\x91\xa2\xff\xff",
        b"\x91\x81\x91\x01\x01",
    ],
    ids=[
        *("marshalled", "empty", "a-number", "no-message", "an-empty-message", "cut-off"),
        *("more-after-it", "too-many", "too-deep", "an-extension", "no-utf-8", "a-list-as-key"),
    ],
)
def test_hostile_bytes_of_a_child_are_an_error(body):
    """Not a crash, and no value of a type that nobody expects."""
    with pytest.raises(ValueError, match=r".*"):
        ChildFrameParser().receive_data(framed(body))


def test_a_frame_without_end_is_refused_at_its_beginning():
    """The parent does not collect bytes until its memory is used up."""
    with pytest.raises(ValueError, match="a frame of"):
        ChildFrameParser().receive_data(struct.pack("<Q", MOST_BYTES + 1) + b"x")
