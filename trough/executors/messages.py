"""The messages between the front and an executor, by name and type.

Each kind is a class. A frame (:mod:`trough.executors.ipc`) holds some messages as MessagePack: each
an array that begins with the number of its kind. Both ends are one version of one program on one
machine, so messages need no version. Senders give the fields by position: add one at the end. This
module does no I/O.

Parts of reads, writes and calls are numbered together; a number is never used again.

**The front does not trust an executor.** An executor runs SQL that anybody wrote, so a bug in
SQLite may give it to an attacker. The decoder checks the kind, and the type of each field. The
front drops what belongs to a part, write or call that it does not have. Any other frame is an
exception in the socket's reader, which ends the socket and so the executor.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeAlias, cast

from msgspec import Meta, Struct
from msgspec.msgpack import Decoder, Encoder

from trough.executors.ipc import MOST_ENTRIES, BoundedFrameParser, FrameParser, framed
from trough.sql.queries import Parameters

# A count in a message is the number of a segment's rows, or one of these.
#: The segment failed.
COUNT_FAILED = -1
#: The segment failed because its file is damaged.
COUNT_CORRUPT = -2


class Message(Struct, frozen=True, array_like=True, gc=False):
    """What each kind has in common: it never changes, and holds no cycle."""


class Target(Struct, frozen=True, array_like=True, gc=False):
    """A local file that can be queried.

    :ivar generation: changes whenever the file behind the path is another one;
        executors then drop what they keep of it
    :ivar writable: in WAL mode, and being written; else it never changes, and is opened so
    """

    segment: str
    path: str
    generation: int
    writable: bool


# -- from the front to an executor ------------------------------------------------------


class ReadSegments(Message, frozen=True, tag=1):
    """Ask some segments.

    :ivar part: the number by which the front knows it
    :ivar text: SQL, perhaps not UTF-8
    :ivar parameters: as :func:`packed_parameters` makes them
    :ivar deadline: by :func:`time.monotonic`, which all processes of a machine share
    :ivar limit: rows of each segment, at most; 0 for any number
    :ivar framing: a value of :class:`trough.sql.queries.Framing`
    :ivar tag: what each line begins with
    :ivar window: bytes that may be on their way to the receiver
    :ivar client: who asks; clients take turns
    :ivar stays: it is never handed back
    :ivar keeps: the front may keep answers that would be the same again
    :ivar merge: rules by which rows of several segments become one; or empty
    :ivar targets: the segments; messages name one by its place here
    """

    part: int
    text: bytes
    parameters: bytes
    deadline: float
    limit: int
    framing: int
    tag: str
    window: int
    client: str
    stays: bool
    keeps: bool
    merge: str
    targets: Sequence[Target]


class WriteSegment(Message, frozen=True, tag=2):
    """Apply SQL to one segment, as a whole. Fields without a word here are as in
    :class:`ReadSegments`.

    :ivar number: by which the front knows it
    :ivar place: in the table of begun writes
    :ivar seconds: that it may run from when its turn has come
    """

    number: int
    place: int
    text: bytes
    parameters: bytes
    deadline: float
    seconds: float
    client: str
    target: Target


class CallProcedure(Message, frozen=True, tag=3):
    """Run one of the executor's procedures."""

    number: int
    name: str
    arguments: tuple[str | int | bool, ...]


class CancelWork(Message, frozen=True, tag=4):
    """A part, a write or a call is no longer wanted."""

    number: int


class GiveCredit(Message, frozen=True, tag=5):
    """The front has handed so many bytes of a part to its receiver, which takes more."""

    part: int
    size: int


class DropTargets(Message, frozen=True, tag=6):
    """Other executors ask these targets of a part; without effect on those begun.

    :ivar places: of targets in the part's list
    """

    part: int
    places: frozenset[int]


class HoldClient(Message, frozen=True, tag=7):
    """A client has enough unread data; its reads wait."""

    client: str


class ReleaseClient(Message, frozen=True, tag=8):
    """The client's reads go on."""

    client: str


class SendLarge(Message, frozen=True, tag=9):
    """The large line of a part may be sent now."""

    part: int


# -- from an executor to the front ------------------------------------------------------

Numbers: TypeAlias = Annotated[list[int], Meta(max_length=MOST_ENTRIES)]


class PartEnded(Message, frozen=True, tag=1):
    """A part of one segment is answered, or failed where a line says so.

    :ivar data: the last bytes of the answer
    :ivar count: rows; or :data:`COUNT_FAILED` or :data:`COUNT_CORRUPT`
    """

    part: int
    data: bytes
    count: int


class PartSome(Message, frozen=True, tag=2):
    """Some of the answer of a part of one segment."""

    part: int
    data: bytes


class PartFailed(Message, frozen=True, tag=3):
    """A part failed, and no line can say so: the only segment of an answer in ``OBJECTS``, SQL that
    is no query, or a bug."""

    part: int
    code: str
    message: str
    hint: str


class PartPieces(Message, frozen=True, tag=4):
    """Answers of a part of several segments, side by side.

    :ivar places: of each piece, that of its segment, or its complement if more of that follows
    :ivar counts: of each piece, as in :class:`PartEnded`; 0 if more follows
    :ivar repeatable: numbers of those pieces that the front may keep
    """

    part: int
    places: Numbers
    counts: Numbers
    pieces: Annotated[list[bytes], Meta(max_length=MOST_ENTRIES)]
    repeatable: Numbers = []


class PartFinished(Message, frozen=True, tag=5):
    """Everything of a part of several segments has been sent."""

    part: int


class PartMerged(Message, frozen=True, tag=14):
    """One answer of several segments of a part.

    :ivar places: of these segments; `counts`, how many rows each of them had
    :ivar line: of the line protocol
    :ivar repeatable: numbers of those places whose answers the front may keep; `kept`, these
        answers, each as the segment would have sent it by itself
    """

    part: int
    places: Numbers
    counts: Numbers
    line: bytes
    repeatable: Numbers = []
    kept: Annotated[list[bytes], Meta(max_length=MOST_ENTRIES)] = []


class WriteStored(Message, frozen=True, tag=6):
    """A write is on disk.

    :ivar changes: rows that it changed
    :ivar position: of a replicated segment: where its log ended then, in bytes
    """

    number: int
    changes: int
    position: int | None = None


class WorkRefused(Message, frozen=True, tag=7):
    """A write was not applied, or a call failed."""

    number: int
    code: str
    message: str
    hint: str


class CallReturned(Message, frozen=True, tag=8):
    """A call is done."""

    number: int


class PartHandedBack(Message, frozen=True, tag=9):
    """A part was stopped so that others get their turn. The front has to ask again for everything
    that was not sent."""

    part: int


class LogCommitted(Message, frozen=True, tag=10):
    """The log of a replicated segment ends there, in bytes, and is being flushed."""

    segment: str
    generation: int
    position: int


class LogFailed(Message, frozen=True, tag=11):
    """The disk no longer stores the log of a replicated segment."""

    segment: str
    generation: int
    reason: str


class LargeWaits(Message, frozen=True, tag=12):
    """A line of a part is large, and waits for :class:`SendLarge`."""

    part: int


class LargeData(Message, frozen=True, tag=13):
    """A piece of that line.

    :ivar place: of its segment, or the complement of that
    """

    part: int
    place: int
    data: bytes
    is_last: bool


# -- frames -----------------------------------------------------------------------------

FrontMessage: TypeAlias = (
    ReadSegments
    | WriteSegment
    | CallProcedure
    | CancelWork
    | GiveCredit
    | DropTargets
    | HoldClient
    | ReleaseClient
    | SendLarge
)
ExecutorMessage: TypeAlias = (
    PartEnded
    | PartSome
    | PartFailed
    | PartPieces
    | PartMerged
    | PartFinished
    | WriteStored
    | WorkRefused
    | CallReturned
    | PartHandedBack
    | LogCommitted
    | LogFailed
    | LargeWaits
    | LargeData
)

_encode = Encoder().encode
_decode_front: Callable[[memoryview], list[FrontMessage]] = Decoder(list[FrontMessage]).decode
_decode_executor: Callable[[memoryview], list[ExecutorMessage]] = Decoder(
    Annotated[list[ExecutorMessage], Meta(max_length=MOST_ENTRIES)]
).decode


def frame(messages: Sequence[Message]) -> bytes:
    """One frame that holds `messages`."""
    return framed(_encode(messages))


class FrontFrameParser(FrameParser[FrontMessage]):
    """Turns bytes of the front, however they are cut, into messages."""

    def _decode(self, body: memoryview) -> Sequence[FrontMessage]:
        return _decode_front(body)


class ExecutorFrameParser(BoundedFrameParser[ExecutorMessage]):
    """Turns bytes of an executor, of whom anything may come, into messages."""

    def _decode(self, body: memoryview) -> Sequence[ExecutorMessage]:
        return _decode_executor(body)


def packed_parameters(parameters: Parameters) -> bytes:
    """Parameters in the form in which they travel, which takes any text and any number.

    :param parameters: with values of None, bool, int, float, str and bytes alone
    """
    return marshal.dumps(cast(Any, parameters)) if parameters else b""


def unpacked_parameters(packed: bytes) -> Parameters:
    """What :func:`packed_parameters` took; the front made it."""
    return cast(Parameters, marshal.loads(packed)) if packed else ()


def text_of(text: str) -> str:
    """A text of an error that any frame takes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
