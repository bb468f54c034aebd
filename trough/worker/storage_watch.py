"""Remembers that canonical storage is silent, so that not every cold read finds it out again.

A NameNode that is cut off resets no connection: each call to it takes half a minute to fail. A
cold worker asks the storage now and then for a segment that it knows. While there is no answer,
the worker refuses reads of segments that are not in the cache at once. A transfer of which no
byte comes counts as well, because a DataNode can be silent by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from trough import errors
from trough.model import CanonicalCopy
from trough.storage import Storage
from trough.util.trouble_log import Section, TroubleLog

_log = Logger()

#: Seconds without a byte, of any transfer, after which the storage counts as silent.
SILENT = 5.0


class StorageWatch:
    """What a cold worker knows of canonical storage.

    :param some_segment: one that lies there, as far as is known; None while there is none
    """

    def __init__(
        self,
        storage: Storage,
        some_segment: Callable[[], CanonicalCopy | None],
        clock: IReactorTime,
    ) -> None:
        self._storage = storage
        self._some_segment = some_segment
        self._clock = clock
        self._moved = clock.seconds()
        self._troubles = TroubleLog(clock)
        #: Why the storage is away; empty while it answers.
        self.away = ""

    async def look(self) -> None:
        """Find out whether the storage answers; within some seconds."""
        copy = self._some_segment()
        if copy is None:
            return
        try:
            await self._storage.find(copy.segment, copy.path)
        except errors.Unavailable as reason:
            self.note(str(reason))
        else:
            self.note("")

    def check(self, segment: str) -> None:
        """Refuse a read that would wait for nothing.

        :raises trough.errors.Unavailable: the storage is known to be away
        """
        if self.away:
            raise errors.Unavailable(
                f"cold segment {segment} is not in the cache, and canonical storage is away: "
                f"{self.away}",
                "ask again when it is back",
            )

    async def fetch(self, copy: CanonicalCopy, destination: Path) -> CanonicalCopy:
        """As :meth:`trough.storage.Storage.fetch`, but given up when nothing moves.

        Transfers wait for each other, so that it counts when any of them moves.

        :raises trough.errors.Unavailable: also where the storage falls silent
        """
        self.check(copy.segment)
        self._moved = self._clock.seconds()
        fetching = self._storage.fetch(copy, destination, self._progress)
        silence = _Silence(fetching, self._is_silent, self._clock)
        try:
            found = await fetching
        except CancelledError:
            if not silence.came:
                raise
            self.note(f"{self._storage.location(copy.path)}: no byte came for {SILENT:g} s")
            self.check(copy.segment)
            raise
        finally:
            silence.stop()
        self.note("")
        return found

    def _progress(self, done: int) -> None:
        # On a thread; one assignment.
        self._moved = self._clock.seconds()

    def _is_silent(self) -> bool:
        return self._clock.seconds() - self._moved >= SILENT

    def note(self, reason: str) -> None:
        """Take notice of why the storage is away; empty: it answers."""
        if reason:
            what = "looks at canonical storage failed"
            self._troubles.report(Section.STORAGE, what, reason)
        elif self.away:
            _log.info("canonical storage is back")
        self.away = reason


class _Silence:
    """Cancels a transfer once the storage is silent.

    :ivar came: whether it did
    """

    def __init__(
        self, transfer: Deferred[CanonicalCopy], is_silent: Callable[[], bool], clock: IReactorTime
    ) -> None:
        self.came = False
        self._transfer = transfer
        self._is_silent = is_silent
        self._clock = clock
        self._call = clock.callLater(SILENT, self._look)

    def stop(self) -> None:
        """The transfer has ended."""
        if self._call.active():
            self._call.cancel()

    def _look(self) -> None:
        if self._is_silent():
            self.came = True
            self._transfer.cancel()
        else:
            self._call = self._clock.callLater(SILENT / 5, self._look)
