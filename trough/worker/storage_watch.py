"""Remembers that canonical storage is away, so that not every cold read finds it out again.

A NameNode that is cut off resets no connection: each call to it takes half a minute to fail. So
a cold worker reads, each second, the first byte of some segments that it knows. If it gets none,
the storage is away, and the worker refuses reads of what is not in the cache at once. It takes
several segments, because one file may have lost its blocks while all others can be read. It reads
content, because DataNodes can be away while the NameNode answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.model import CanonicalCopy
from trough.storage import Storage
from trough.util.trouble_log import Section, TroubleLog

_log = Logger()

#: Seconds without a byte, of any transfer, after which the transfers are given up.
SILENT = 5.0

#: Seconds between two looks, and until one has to be answered. Together less than the five that
#: a reader may wait. Each cold worker looks by itself, so none is asked in vain for another while.
INTERVAL, ANSWER = 1.0, 3.0

#: Seconds between two checks whether a transfer is of any use.
CHECK = 0.25

#: How many segments a look reads from, at the same time.
SAMPLES = 3


class StorageWatch:
    """What a cold worker knows of canonical storage.

    :param segments: gives those that lie there, as far as is known; they may change
    """

    def __init__(
        self,
        storage: Storage,
        segments: Callable[[], Iterable[CanonicalCopy]],
        clock: IReactorTime,
    ) -> None:
        self._storage = storage
        self._segments = segments
        self._listing: Iterator[CanonicalCopy] = iter(())
        self._clock = clock
        self._moved = clock.seconds()
        self._troubles = TroubleLog(clock)
        #: Why the storage is away; empty while it answers.
        self.away = ""

    async def look(self) -> None:
        """Find out whether files can be read there, within :data:`ANSWER` seconds."""
        samples = self._next_segments()
        # Where calls wait for a thread, all threads wait in the kernel for a mount that hangs.
        if not samples or self._storage.status().get("calls", {}).get("waiting"):
            return
        reasons: list[str] = []
        probes = [self._storage.probe(copy).addErrback(_note, reasons) for copy in samples]
        # It fires with the first one that succeeds, or when all have failed.
        any_of_them = DeferredList(probes, fireOnOneCallback=True, consumeErrors=True)
        in_time = self._clock.callLater(ANSWER, any_of_them.cancel)
        found = await any_of_them
        if in_time.active():
            in_time.cancel()
        for probe in probes:
            probe.cancel()
        if isinstance(found, tuple):
            self.note("")
        elif reasons:
            self.note(reasons[0])
        else:
            where = self._storage.location(samples[0].path)
            self.note(f"{where}: no answer came for {ANSWER:g} s")

    def _next_segments(self) -> list[CanonicalCopy]:
        """Other ones with each call, in turn; the same if there are few."""
        samples: list[CanonicalCopy] = []
        try:
            samples += itertools.islice(self._listing, SAMPLES)
        except RuntimeError:  # they changed
            samples.clear()
        if not samples:
            self._listing = iter(self._segments())
            samples += itertools.islice(self._listing, SAMPLES)
        return samples

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
            self.check(copy.segment)
            where = self._storage.location(copy.path)
            raise errors.Unavailable(
                f"cold segment {copy.segment}: {where}: no byte came for {SILENT:g} s",
                "is the server that has it well?",
            ) from None
        finally:
            silence.stop()
        self.note("")
        return found

    def _progress(self, done: int) -> None:
        # On a thread; one assignment.
        self._moved = self._clock.seconds()

    def _is_silent(self) -> bool:
        still = self._clock.seconds() - self._moved
        return still >= (INTERVAL if self.away else SILENT)

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
        self._call = clock.callLater(CHECK, self._look)

    def stop(self) -> None:
        """The transfer has ended."""
        if self._call.active():
            self._call.cancel()

    def _look(self) -> None:
        if self._is_silent():
            self.came = True
            self._transfer.cancel()
        else:
            self._call = self._clock.callLater(CHECK, self._look)


def _note(failure: Failure, reasons: list[str]) -> Failure:
    if not failure.check(CancelledError):
        reasons.append(str(failure.value))
    return failure
