"""The messages of executors: each comes as it was sent, and of an executor nothing else comes."""

from __future__ import annotations

import inspect
import marshal
import struct
import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trough.executors import messages
from trough.executors.ipc import MOST_BYTES, MOST_ENTRIES
from trough.executors.messages import ExecutorFrameParser, FrontFrameParser, frame

FRONT = typing.get_args(messages.FrontMessage)
EXECUTOR = typing.get_args(messages.ExecutorMessage)
#: What msgspec does not look into.
PLAIN = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.none() | st.integers() | st.floats(allow_nan=False) | st.binary() | st.text()
VALUES |= st.text(st.characters())


def any_of(kinds):
    """Messages of these kinds with any values."""
    st.register_type_strategy(str, PLAIN)
    st.register_type_strategy(int, st.integers(-(2**63), 2**63 - 1))
    st.register_type_strategy(float, st.floats(allow_nan=False))
    made = []
    for kind in kinds:
        hints = typing.get_type_hints(kind)
        made.append(st.builds(kind, **{name: st.from_type(hint) for name, hint in hints.items()}))
    return st.one_of(made)


def framed(body: bytes) -> bytes:
    """A frame of any content."""
    return struct.pack("<Q", len(body)) + body


@pytest.mark.parametrize(
    ("kinds", "parser"), [(FRONT, FrontFrameParser), (EXECUTOR, ExecutorFrameParser)]
)
def test_each_message_comes_as_it_was_sent(kinds, parser):
    """However the stream is cut."""

    @given(st.lists(any_of(kinds), min_size=1, max_size=3), st.integers(1, 60))
    def check(sent, portion):
        stream, receiver, found = frame(sent), parser(), []
        for start in range(0, len(stream), portion):
            found += receiver.receive_data(stream[start : start + portion])
        assert found == sent

    check()


@pytest.mark.parametrize("kinds", [FRONT, EXECUTOR])
def test_each_kind_has_a_number_of_its_own_and_says_what_it_is(kinds):
    """And never changes."""
    numbers = [kind.__struct_config__.tag for kind in kinds]
    assert len(set(numbers)) == len(numbers)
    for kind in kinds:
        assert kind.__struct_config__.frozen
        assert inspect.getdoc(kind)


@given(st.lists(VALUES) | st.dictionaries(PLAIN, VALUES))
def test_parameters_travel_with_any_value(values):
    """Also numbers that SQLite cannot store, and half a surrogate pair: SQLite refuses them."""
    values = values if isinstance(values, dict) else tuple(values)
    assert messages.unpacked_parameters(messages.packed_parameters(values)) == (values or ())


def test_a_text_with_half_a_surrogate_pair_is_written_out():
    """No frame takes it, and no error is lost for that."""
    text = messages.text_of("no such table: \ud800ä")
    assert text == "no such table: \\ud800ä"
    parser = ExecutorFrameParser()
    failed = messages.PartFailed(1, "bad-sql", text, "")
    assert parser.receive_data(frame([failed])) == [failed]


@pytest.mark.parametrize(
    "body",
    [
        marshal.dumps([(1, 2)]),
        b"",
        b"\x01",
        msgspec.msgpack.encode([1]),
        msgspec.msgpack.encode([[]]),
        msgspec.msgpack.encode([[99, 1]]),
        msgspec.msgpack.encode([[1, "1", b"", 1]]),
        msgspec.msgpack.encode([[1, 1, "text", 1]]),
        msgspec.msgpack.encode([[1, 1, b""]]),
        msgspec.msgpack.encode([[4, 1, [0], [1], "abc"]]),
        msgspec.msgpack.encode([[6, 1, 1.5]]),
        frame([messages.CallReturned(1)])[8:] + b"\0",
        frame([messages.CallReturned(1)])[8:-1],
        b"\xdd" + struct.pack(">I", MOST_ENTRIES + 1),
        b"\x91\x95\x04\x01\xdd" + struct.pack(">I", 1 << 31),
        b"\x91" * 5000,
        b"\x91\x94\x03\x01\xa2\xff\xff\xa0",
    ],
    ids=[
        *("marshalled", "empty", "a-number", "no-message", "an-empty-message", "unknown-kind"),
        *("text-for-number", "text-for-bytes", "a-field-less", "text-for-list", "float-for-int"),
        *("more-after-it", "cut-off", "too-many", "a-huge-list", "too-deep", "no-utf-8"),
    ],
)
def test_hostile_bytes_of_an_executor_are_an_error(body):
    """Not a crash, and no value of a type that nobody expects."""
    with pytest.raises(ValueError, match=r".*"):
        ExecutorFrameParser().receive_data(framed(body))


def test_a_frame_without_end_is_refused_at_its_beginning():
    """The front does not collect bytes until its memory is used up."""
    with pytest.raises(ValueError, match="a frame of"):
        ExecutorFrameParser().receive_data(struct.pack("<Q", MOST_BYTES + 1) + b"x")
