"""Frames between a parent process and its child.

A frame is a length and a list of messages. Both ends are one version of one program on one
machine, and no other process can reach the socket between them. The parsers take bytes in any
portions and return messages. This module does no I/O.

The front and its executors have messages of their own (:mod:`trough.executors.messages`). Those of
the other processes are here: their values have any type. Each is a tuple; each kind below lists
its fields.

**A parent does not trust its child.** A child works on input of anybody, so a bug may give it to an
attacker. Frames of these parents are marshalled. Frames of a child are MessagePack: ``marshal`` may
crash on hostile bytes, and would let the attacker into the parent. MessagePack has no tuples of
its own, so every list of a child arrives as a tuple.
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgpack

Message = tuple[Any, ...]

M = TypeVar("M")

# -- from a task process to its pool, as answer to (function, seconds, arguments) ---------

#: result
TASK_RETURNED = 1
#: code, message, hint
TASK_FAILED = 2

# -- between an encoder process and its pool; a number stands for one answer ---------------

#: number, format, compression
ENCODE_BEGIN = 1
#: number, bytes: a portion of the answer
ENCODE_DATA = 2
#: number: the answer is complete
ENCODE_END = 3
#: number: the answer is no longer wanted
ENCODE_DROP = 4

#: number, bytes, size: the encoded form of a portion of `size` bytes
ENCODED = 1
#: number, bytes: the last ones
ENCODE_ENDED = 2
#: number, code, message, hint
ENCODE_FAILED = 3

_LENGTH = struct.Struct("<Q")

#: Bytes of one frame of a child: a row of a GATHER travels in one.
MOST_BYTES = 1 << 30

#: Entries of one list of a child, as many as a request may have segments. MessagePack allocates
#: them before it has read the first.
MOST_ENTRIES = 1 << 17


def framed(body: bytes) -> bytes:
    """A frame with `body`, which holds its messages."""
    return _LENGTH.pack(len(body)) + body


def frame(messages: list[Message]) -> bytes:
    """One frame of a parent that holds `messages`."""
    return framed(marshal.dumps(messages))


_pack = msgpack.Packer(unicode_errors="surrogatepass").pack


def child_frame(messages: list[Message]) -> bytes:
    """One frame of a child that holds `messages`.

    :raises TypeError: a value of another type than None, bool, int, float, str, bytes, list,
        tuple or dict
    :raises OverflowError: an integer of more than 64 bits
    """
    return framed(_pack(messages))


class FrameParser(Generic[M]):
    """Turns bytes, however they are cut, into messages."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._needed = _LENGTH.size

    def receive_data(self, data: bytes) -> Sequence[M]:
        """Take some bytes; return the messages of all frames that they complete.

        :raises MemoryError: for these; nothing is lost, and no bytes more are a second try
        """
        self._size += len(data)
        if self._size < self._needed:
            # Joined when a frame is whole, so that a large one is copied only once.
            self._chunks.append(data)
            return ()
        if self._chunks:
            self._chunks.append(data)
            data = b"".join(self._chunks)
            self._chunks = []
        try:
            return self._parse(data)
        except MemoryError:
            self._chunks = [data]
            raise

    def _parse(self, data: bytes) -> Sequence[M]:
        messages: Sequence[M] = ()
        start, header = 0, _LENGTH.size
        view = memoryview(data)
        while True:
            left = self._size - start
            if left < header:
                self._needed = header
                break
            end = start + header + _LENGTH.unpack_from(data, start)[0]
            if end > self._size:
                self._needed = self._checked(end - start)
                break
            found = self._decode(view[start + header : end])
            messages = [*messages, *found] if messages else found
            start = end
        self._size -= start
        if self._size:
            self._chunks.append(data[start:])
        return messages

    def _checked(self, size: int) -> int:
        return size

    def _decode(self, body: memoryview) -> Sequence[M]:
        """The messages of one frame."""
        raise NotImplementedError


class ParentFrameParser(FrameParser[Message]):
    """Turns bytes of a parent into messages."""

    def _decode(self, body: memoryview) -> Sequence[Message]:
        found: list[Message] = marshal.loads(body)
        return found


class BoundedFrameParser(FrameParser[M]):
    """Turns bytes of a child, of whom anything may come, into messages."""

    def receive_data(self, data: bytes) -> Sequence[M]:
        """Take some bytes; return the messages of all frames that they complete.

        :raises ValueError: no child sends this; nothing can be taken afterwards
        """
        return super().receive_data(data)

    def _checked(self, size: int) -> int:
        if size > MOST_BYTES:
            raise ValueError(f"a frame of {size} bytes")
        return size


class ChildFrameParser(BoundedFrameParser[Message]):
    """As its base, for messages whose values have any type.

    Only the form of the bytes is checked. The receiver of a message checks its values.
    """

    def _decode(self, body: memoryview) -> Sequence[Message]:
        found = msgpack.unpackb(
            body,
            use_list=False,
            unicode_errors="surrogatepass",
            max_array_len=MOST_ENTRIES,
            max_ext_len=0,
        )
        if type(found) is not tuple:
            raise ValueError(f"a frame that holds a {type(found).__name__}")
        for message in found:
            if type(message) is not tuple or not message:
                raise ValueError("a frame that holds no messages")
        return found
