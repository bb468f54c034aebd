"""The messages between the front and an executor, and their framing.

A frame is a length and a list of messages. Both ends are one version of one program on one
machine, and no other process can reach the socket between them. A message is a tuple that begins
with its kind; each kind below lists its parameters. The parsers take bytes in any portions and
return messages. This module does no I/O.

**A parent does not trust its child.** A child runs SQL that anybody wrote, so a bug in SQLite may
give it to an attacker. Frames of a parent are marshalled, which is fastest. Frames of a child are
MessagePack: ``marshal`` may crash on hostile bytes, and would let the attacker into the parent.
MessagePack has no tuples of its own, so every list of a child arrives as a tuple.
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Sequence
from typing import Any

import msgpack

Message = tuple[Any, ...]

# -- from the front to an executor ------------------------------------------------------

#: part, text, parameters, deadline, row limit, framing, tag, window, client, whether it is
#: never handed back, whether its answers may be kept, targets; a target is segment, path,
#: generation, writable
READ = 1
#: number, place in the table of begun writes, text, parameters, deadline, seconds that it
#: may run, client, segment, path, generation
WRITE = 2
#: number, name, arguments: one of the executor's procedures
CALL = 3
#: part or number: it is no longer wanted
CANCEL = 4
#: part, bytes: the receiver has taken this many from the front
CREDIT = 5
#: part, places: other executors run these targets; without effect on those begun
DROP = 6
#: client: it has enough unread data; its reads wait
HOLD = 7
#: client: its reads go on
RELEASE = 8
#: part: its large line may be sent now
GO = 9

# -- from an executor to the front ------------------------------------------------------

#: part, bytes, count: a part of one segment is answered, here are its last bytes
ENDED = 1
#: part, bytes: some of the answer of a part of one segment
SOME = 2
#: part, code, message, hint: a part of one segment failed, or all of a part, before any
#: segment was asked
FAILED = 3
#: part, places, counts, pieces: answers of a part of several segments. For each piece the
#: place of its segment, or its complement if more of that segment follows, and a count,
#: 0 if more follows. If answers may be kept, also the numbers of those pieces that may
PIECES = 4
#: part: everything of a part of several segments has been sent
FINISHED = 5
#: number, changes: a write is on disk. For a replicated segment also: where its log ended then
WRITTEN = 6
#: number, code, message, hint: a write was not applied, or a call failed
REFUSED = 7
#: number: a call is done
RETURNED = 8
#: part: stopped so that others get their turn; the front has to ask again for everything that
#: was not sent
HANDED_BACK = 9
#: segment, generation, position: a replicated segment's log ends there, and is being flushed
COMMITTED = 10
#: segment, generation, reason: the disk no longer stores a replicated segment's log
LOG_BROKEN = 11
#: part: a line of it is large, and waits for GO
LARGE = 12
#: part, place, bytes, whether they are the last: a piece of that line
LARGE_DATA = 13

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

# A count is the number of a segment's rows, or one of these.
#: The segment failed.
COUNT_FAILED = -1
#: The segment failed because its file is damaged.
COUNT_CORRUPT = -2

_LENGTH = struct.Struct("<Q")

#: Bytes of one frame of a child: a row of a GATHER travels in one.
MOST_BYTES = 1 << 30

#: Entries of one list of a child, as many as a request may have segments. MessagePack allocates
#: them before it has read the first.
MOST_ENTRIES = 1 << 17


def frame(messages: list[Message]) -> bytes:
    """One frame of a parent that holds `messages`."""
    body = marshal.dumps(messages)
    return _LENGTH.pack(len(body)) + body


_pack = msgpack.Packer(unicode_errors="surrogatepass").pack


def child_frame(messages: list[Message]) -> bytes:
    """One frame of a child that holds `messages`.

    :raises TypeError: a value of another type than None, bool, int, float, str, bytes, list,
        tuple or dict
    :raises OverflowError: an integer of more than 64 bits
    """
    body = _pack(messages)
    return _LENGTH.pack(len(body)) + body


class FrameParser:
    """Turns bytes of a parent, however they are cut, into messages."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._needed = _LENGTH.size

    def receive_data(self, data: bytes) -> Sequence[Message]:
        """Take some bytes; return the messages of all frames that they complete."""
        self._size += len(data)
        if self._size < self._needed:
            # Joined when a frame is whole, so that a large one is copied only once.
            self._chunks.append(data)
            return ()
        if self._chunks:
            self._chunks.append(data)
            data = b"".join(self._chunks)
            self._chunks = []
        return self._parse(data)

    def _parse(self, data: bytes) -> Sequence[Message]:
        messages: Sequence[Message] = ()
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

    def _decode(self, body: memoryview) -> Sequence[Message]:
        found: list[Message] = marshal.loads(body)
        return found


class ChildFrameParser(FrameParser):
    """Turns bytes of a child, of whom anything may come, into messages.

    Only the form of the bytes is checked. The receiver of a message checks its values.
    """

    def receive_data(self, data: bytes) -> Sequence[Message]:
        """Take some bytes; return the messages of all frames that they complete.

        :raises ValueError: no child sends this; nothing can be taken afterwards
        """
        return super().receive_data(data)

    def _checked(self, size: int) -> int:
        if size > MOST_BYTES:
            raise ValueError(f"a frame of {size} bytes")
        return size

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
