"""Lines that are sent in pieces, one after the other, on one connection.

A row may be larger than everything else that a server holds. Its line comes from an executor in
pieces, no faster than the peer reads. Until its end nothing else may be sent: lines that come
meanwhile are kept, and the jobs that they come from are paused. If the rest of a line does not
come, since its query was cancelled or its executor died, the connection ends. There is no other way
to take half a line back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from trough.executors.pool.jobs import LargeLineSource
from trough.protocols.line.write_buffer import WriteBuffer


class _Owner(Protocol):
    """The connection."""

    #: Sends whole lines.
    send: Callable[[bytes], None]

    def pause_jobs(self) -> None:
        """Have all jobs send no more, until told otherwise."""

    def resume_jobs(self) -> None:
        """Have them go on."""

    def cut(self) -> None:
        """End the connection at once: half a line was sent."""


class LargeLines:
    """Those of one connection."""

    def __init__(self, owner: _Owner, outbox: WriteBuffer) -> None:
        self._owner = owner
        self._outbox = outbox
        self._waiting: deque[_Line] = deque()
        self._current: _Line | None = None
        self._kept: list[bytes] = []

    def begin(self, source: LargeLineSource) -> _Line:
        """Have a line sent when its turn has come."""
        line = _Line(self, source)
        self._waiting.append(line)
        if self._current is None:
            self._owner.pause_jobs()
            self._owner.send = self._keep
            self._next()
        return line

    @property
    def is_sending(self) -> bool:
        """Whether a line is on its way."""
        return self._current is not None

    def drained(self) -> None:
        """The peer has read what was sent."""
        if self._current is not None:
            self._current.source.give_credit()

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self._outbox.queued += len(data)
        self._outbox.unsent += len(data)

    def _next(self) -> None:
        self._current = self._waiting.popleft()
        self._current.source.go()

    def data(self, line: _Line, chunk: bytes) -> None:
        """Send a piece of a line."""
        if line is not self._current:  # a process may send anything
            self._owner.cut()
            return
        self._outbox.send(chunk)
        if not self._outbox.full:
            line.source.give_credit()

    def end(self, line: _Line) -> None:
        """Let the next line, or everything else, go on."""
        if line is not self._current:
            return
        kept, self._kept = b"".join(self._kept), []
        self._outbox.unsent -= self._outbox.queued
        self._outbox.queued = 0
        if kept:
            self._outbox.send(kept)
        if self._waiting:
            self._next()
            return
        self._current = None
        self._owner.send = self._outbox.send
        if not self._outbox.full:
            self._owner.resume_jobs()

    def lost(self, line: _Line) -> None:
        """Its query ended."""
        if line is not self._current:
            self._waiting.remove(line)
        elif line.begun:
            self._owner.cut()
        else:
            self.end(line)


class _Line:
    """See :class:`trough.executors.pool.jobs.LargeLineReceiver`."""

    def __init__(self, lines: LargeLines, source: LargeLineSource) -> None:
        self._lines = lines
        self.source = source
        self.begun = False

    def data(self, chunk: bytes) -> None:
        """Send a piece."""
        self.begun = True
        self._lines.data(self, chunk)

    def end(self) -> None:
        """All of it was sent."""
        self._lines.end(self)

    def lost(self) -> None:
        """There will be no more."""
        self._lines.lost(self)
