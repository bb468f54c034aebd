"""The log of a segment as its holder and its followers exchange it: parts, digests, interfaces.

The log consists of the bytes that SQLite appends to a WAL. A *generation* is the content of one WAL
until SQLite begins it again with other salts. A *position* counts the bytes of all generations
since the log was begun: the generation's own position plus the offset in its WAL. So the end of
one generation is the beginning of the next one. Exchanged positions lie between frames.

A *digest* identifies a log up to a position. It consists of the log's id, the salts of the
generation, and SQLite's cumulative checksum of the last frame before the position. At the beginning
of a generation it is the digest of the previous generation's end.

All calls block on a disk. Call them in a thread, and one after the other for each segment.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trough import errors
from trough.replication.follower import Follower

#: Identifies the content of a log up to a position. Equal bytes: equal logs.
Digest = bytes

#: Bytes of a part, at most, unless one frame is larger.
PART_SIZE = 1 << 20


# Version of the form, kind, log, generation, start, before, total size, bytes, crc32 of all.
_ENVELOPE = struct.Struct("!BB16sQQ32sQI")
_CRC = struct.Struct("!I")
_VERSION = 1
_LOG, _BASE_DATABASE, _BASE_LOG = range(3)


@dataclass(frozen=True, slots=True)
class LogPart:
    """The log from :attr:`start` to :attr:`end`, all in one generation.

    :ivar log: id of the log, 16 bytes, chosen at random when it was begun
    :ivar generation: position at which the WAL of these bytes begins. If that is `start`, the
        bytes begin with the WAL's header.
    :ivar before: digest at `start`
    """

    log: bytes
    generation: int
    start: int
    before: Digest
    content: bytes

    @property
    def end(self) -> int:
        """The position behind the last byte."""
        return self.start + len(self.content)

    def encode(self) -> bytes:
        """The part as bytes, with their checksum."""
        return _encode(
            _LOG, self.log, self.generation, self.start, self.before, self.end, self.content
        )

    @classmethod
    def decode(cls, data: bytes | memoryview) -> LogPart:
        """The part in what :meth:`encode` gave; raises :class:`trough.errors.BadLogPart`."""
        kind, log, generation, start, before, _end, content = _decode(data)
        if kind != _LOG:
            raise errors.BadLogPart("a part of a log was expected, and a part of a base was sent")
        return cls(log, generation, start, before, content)


@dataclass(frozen=True, slots=True)
class BasePart:
    """A piece of a base: of the database file, or of the WAL that belongs to it.

    The pieces of the database come first, then those of the WAL, each in the order of their
    places. :attr:`last` marks the last one.

    :ivar generation: position at which the WAL begins
    :ivar before: digest there
    :ivar of_log: whether these are bytes of the WAL
    :ivar place: offset in that file
    :ivar size: bytes of that whole file
    """

    log: bytes
    generation: int
    before: Digest
    of_log: bool
    place: int
    size: int
    content: bytes

    @property
    def last(self) -> bool:
        """Whether this piece completes the base."""
        return self.of_log and self.place + len(self.content) == self.size

    def encode(self) -> bytes:
        """The piece as bytes, with their checksum."""
        kind = _BASE_LOG if self.of_log else _BASE_DATABASE
        return _encode(
            kind, self.log, self.generation, self.place, self.before, self.size, self.content
        )

    @classmethod
    def decode(cls, data: bytes | memoryview) -> BasePart:
        """The piece in what :meth:`encode` gave; raises :class:`trough.errors.BadLogPart`."""
        kind, log, generation, place, before, size, content = _decode(data)
        if kind not in (_BASE_DATABASE, _BASE_LOG):
            raise errors.BadLogPart("a part of a base was expected, and a part of a log was sent")
        return cls(log, generation, before, kind == _BASE_LOG, place, size, content)


def _encode(
    kind: int, log: bytes, generation: int, start: int, before: Digest, end: int, content: bytes
) -> bytes:
    head = _ENVELOPE.pack(_VERSION, kind, log, generation, start, before, end, len(content))
    return b"".join((head, _CRC.pack(zlib.crc32(content, zlib.crc32(head))), content))


def _decode(data: bytes | memoryview) -> tuple[int, bytes, int, int, Digest, int, bytes]:
    view = memoryview(data)
    begin = _ENVELOPE.size + _CRC.size
    if len(view) < begin:
        raise errors.BadLogPart(f"a part has {len(view)} bytes, and its head alone has {begin}")
    version, kind, log, generation, start, before, end, size = _ENVELOPE.unpack_from(view)
    if version != _VERSION:
        raise errors.BadLogPart(f"a part has form {version}, and this worker reads {_VERSION}")
    content = view[begin:]
    if len(content) != size:
        raise errors.BadLogPart(f"a part should have {size} bytes, and {len(content)} came")
    (crc,) = _CRC.unpack_from(view, _ENVELOPE.size)
    if zlib.crc32(content, zlib.crc32(view[: _ENVELOPE.size])) != crc:
        raise errors.BadLogPart("a part was damaged on its way: its checksum is wrong")
    return kind, log, generation, start, before, end, bytes(content)


class HolderLog(Protocol):
    """The log of a segment that this worker writes, as its parent process reads it.

    It opens only files, never a database, because the executor has the database open. After each
    commit the executor reports the position of its end (``Outcome.position`` and
    ``ExecutorPool.on_commit``), before it flushes the WAL.
    """

    @property
    def log(self) -> bytes:
        """The id of the log."""

    def end(self) -> int:
        """The end of the last commit in the WAL, found by reading all of it.

        Use it at the start, when no executor has written yet. All of the log is on disk on return.
        """

    def digest_at(self, position: int) -> Digest | None:
        """The digest at a position.

        None if the log begins later or ends earlier, or if no frame ends there.
        """

    def read(self, start: int, end: int, limit: int = PART_SIZE) -> LogPart:
        """The log from `start` on: as many frames as fit in `limit` bytes, and at least one.

        :param end: of a commit, as the executor reported it; the call reads nothing behind it
        :raises trough.errors.LogGone: the log does not reach back to `start`
        """

    def base(self, end: int) -> Iterator[BasePart]:
        """The database file, and all of the WAL up to `end`.

        The caller must not order a checkpoint until the iterator is exhausted or closed.

        :raises trough.errors.LogGone: there was a checkpoint meanwhile: begin again
        """

    def close(self) -> None:
        """Close the files, until they are read again."""

    def finish(self) -> None:
        """Close the files for good: later reads raise :class:`trough.errors.Unavailable`."""


class FollowerLog(Protocol):
    """A follower's copy of a log and its database; another worker writes the segment.

    After :class:`trough.errors.LogBroken` the copy counts as lost: :attr:`end` is 0, no digest is
    known, and :meth:`take_over` refuses. The worker has to leave the row, and needs a base.
    """

    @property
    def end(self) -> int:
        """The position behind the last frame; all of it is on disk. 0 for an empty log."""

    @property
    def state(self) -> Follower:
        """The state that :meth:`remember` stored last.

        Without a whole copy it is joined to no epoch, so a worker that lost its copy takes no lock.
        """

    def remember(self, state: Follower) -> None:
        """Store the epochs; on disk on return. Without effect if they are the same."""

    def digest_at(self, position: int) -> Digest | None:
        """As in :class:`HolderLog`."""

    def check_room(self) -> None:
        """Return if the disk has room for more of the log.

        :raises trough.errors.DiskFull: less than the low-water mark is free
        """

    def append(self, part: LogPart) -> None:
        """Store a part at the end; on disk on return.

        :raises trough.errors.BadLogPart: the part does not continue this log; nothing was changed
        :raises trough.errors.DiskFull: less than the low-water mark is free; nothing was changed
        :raises trough.errors.LogBroken: the part could not be stored
        """

    def truncate(self, position: int) -> None:
        """Cut the log off at a position with a known digest, see :meth:`digest_at`; on disk on
        return."""

    def add_base(self, part: BasePart) -> bool:
        """Store a piece of a base, in order; the first piece begins the base again.

        The old copy stays until the base is complete. Then the base replaces it as a whole.

        :return: whether the base is complete, and on disk
        :raises trough.errors.BadLogPart: the piece is out of order, or no part of a base; the base
            has to begin again
        """

    @property
    def taking(self) -> Path | None:
        """The target of a :meth:`take_over` that a crash ended: call it again. None if there is
        nothing to finish. The epochs do not show that: they stay when the copy is removed."""

    def take_over(self, target: Path) -> int:
        """End appending for good, and make `target` the database with the log's whole content.

        It replaces the files at `target` and beside it. The new database continues this log: a
        :class:`HolderLog` on it has the same position and digest. No process may have `target`
        open. After a crash in the middle the worker calls it again, see :attr:`taking`; `target`
        must not have been written before that. The epochs stay.

        :return: the position: the end of the last whole transaction
        :raises trough.errors.LogBroken: the files have changed unexpectedly
        """

    def forget(self) -> None:
        """Remove the copy, and close the object. Idempotent.

        The promised epoch stays on disk. Without it, a holder that was replaced and is only slow
        could send a base of its old epoch. It would get a confirmation, and acknowledge a write
        that its successor lacks.
        """

    def close(self) -> None:
        """Close the files; they stay on disk."""
