"""Canonical storage over a backend that blocks.

:class:`ThreadedStorage` keeps the promises of :class:`trough.storage.Storage` that have
to do with time: Deferreds, threads, bounded parallelism, cancellation, an orderly end.
A :class:`Backend` keeps those that have to do with files, in plain blocking code. The
publication's three steps are here, since the guard between them is awaited on the
reactor's thread.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar, runtime_checkable

from twisted.internet import defer
from twisted.logger import Logger

from trough import errors
from trough.model import CanonicalCopy
from trough.storage import Changes, Guard, Listing, Progress, Storage
from trough.storage.listing import files_of
from trough.storage.paths import check_path
from trough.util.clocks import elapsed
from trough.util.threads import Cancellation, ThreadPoolService
from trough.util.waiting import ended

_log = Logger()
T = TypeVar("T")

#: Seconds for finding one file, the wait for a thread included: somebody waits for the
#: answer, and a server that is silent is as good as away.
FIND_SECONDS = 5.0

#: Seconds from asking whether a publication may take effect until it does, at most. A
#: process that stalled in between believes an answer that is out of date.
GUARD_SECONDS = 5.0

#: Threads for calls that move no file: listing, looking up, renaming, deleting. More
#: than one, so that a look-up need not wait for a listing.
SHORT_CALLS = 4


# How often a publication is confirmed whose last step comes too late each time.
_GUARDS = 3


class PermissionExpired(errors.Unavailable):
    """The last step of a publication came too late after its guard's answer."""


@dataclass(frozen=True, slots=True)
class Staged:
    """An upload that is whole and verified, beside the path that it is meant for.

    :ivar path: the target, relative to the root
    :ivar temporary: the upload, relative to the root
    :ivar identity: of the upload, by which a backend may know it under another name
    :ivar permitted_until: until when it may replace its target, by
        :func:`trough.util.clocks.elapsed`
    """

    segment: str
    path: str
    temporary: str
    size: int
    checksum: str
    identity: int = 0
    permitted_until: float = math.inf

    def check_permission(self) -> None:
        """To be called right before the target is replaced.

        :raises PermissionExpired: it is too long ago that this was permitted
        """
        if elapsed() > self.permitted_until:
            raise PermissionExpired(
                f"the canonical copy of segment {self.segment} was not replaced: for too long it "
                "was not confirmed that this worker may",
                "the former canonical copy is untouched; promote again",
            )


class Backend(Protocol):
    """A storage in blocking calls, made on any thread, several at once.

    What :class:`trough.storage.Storage` promises of a call's outcome and errors holds
    here. A call that ends with an exception leaves nothing behind.
    """

    root: str

    def prepare(self, cancellation: Cancellation) -> None:
        """See :meth:`trough.storage.Storage.open`."""

    def look(self, cancellation: Cancellation, since: Listing | None, full: bool) -> Changes:
        """See :meth:`trough.storage.Storage.changes`."""

    def find(self, cancellation: Cancellation, segment: str, path: str) -> CanonicalCopy | None:
        """See :meth:`trough.storage.Storage.find`."""

    def probe(self, cancellation: Cancellation, copy: CanonicalCopy) -> None:
        """See :meth:`trough.storage.Storage.probe`."""

    def fetch(
        self,
        cancellation: Cancellation,
        copy: CanonicalCopy,
        destination: Path,
        progress: Progress,
    ) -> CanonicalCopy:
        """See :meth:`trough.storage.Storage.fetch`."""

    def stage(
        self,
        cancellation: Cancellation,
        source: Path,
        segment: str,
        path: str,
        progress: Progress,
    ) -> Staged:
        """Upload beside `path` under a hidden name, and verify length and content."""

    def commit(self, cancellation: Cancellation, staged: Staged) -> CanonicalCopy:
        """Replace the target by the upload, in one rename, if that is still permitted."""

    def discard(self, cancellation: Cancellation, staged: Staged) -> None:
        """Remove the upload."""

    def delete(self, cancellation: Cancellation, copy: CanonicalCopy) -> bool:
        """See :meth:`trough.storage.Storage.delete`."""


@runtime_checkable
class BatchBackend(Protocol):
    """A backend that moves many small files in one call.

    :ivar batch: how many at most
    """

    batch: int

    def fetch_many(
        self, cancellation: Cancellation, wanted: Sequence[tuple[CanonicalCopy, Path]]
    ) -> list[CanonicalCopy | errors.TroughError]:
        """See :meth:`trough.storage.Storage.fetch_many`."""


@dataclass(slots=True)
class _Transfer:
    """A transfer under way, for the status."""

    what: str
    segment: str
    size: int
    done: int = 0


class ThreadedStorage(Storage):
    """A storage whose calls run on threads.

    :param url: as the user wrote it, for messages and the status
    :param transfers: how many files may be moved at once; further ones wait in order
    :param find_seconds: after which :meth:`find` reports that the storage is away
    """

    def __init__(
        self,
        url: str,
        backend: Backend,
        reactor: Any,
        transfers: int,
        find_seconds: float = FIND_SECONDS,
    ) -> None:
        self.url = url
        self.root = backend.root
        self._backend = backend
        if isinstance(backend, BatchBackend):
            self.batch = backend.batch
        self._reactor = reactor
        self._find_seconds = find_seconds
        self._transfers = ThreadPoolService("storage-transfers", transfers, reactor)
        self._calls = ThreadPoolService("storage-calls", SHORT_CALLS, reactor)
        self._operations: set[defer.Deferred[Any]] = set()
        self._moving: dict[int, _Transfer] = {}
        self._numbers = itertools.count()

    def open(self) -> defer.Deferred[None]:
        for pool in (self._calls, self._transfers):
            if not pool.running:
                pool.startService()
        return self._calls.run_cancellable(self._backend.prepare)

    def close(self) -> defer.Deferred[None]:
        return defer.Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        operations = list(self._operations)
        for operation in operations:
            operation.cancel()
        # The operations first: each may still have an upload to remove.
        await defer.DeferredList([ended(operation) for operation in operations])
        for pool in (self._transfers, self._calls):
            await pool.stopService()

    def status(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "transfers": [
                {"what": one.what, "segment": one.segment, "size": one.size, "done": one.done}
                for one in self._moving.values()
            ],
            "calls": self._calls.status(),
        }

    def changes(self, since: Listing | None, full: bool = False) -> defer.Deferred[Changes]:
        return self._calls.run_cancellable(self._backend.look, since, full)

    def files_of(self, segment: str, listing: Listing) -> list[str]:
        return files_of(segment, listing)

    def find(self, segment: str, path: str | None = None) -> defer.Deferred[CanonicalCopy | None]:
        finding = defer.maybeDeferred(
            lambda: self._calls.run_cancellable(
                self._backend.find, segment, check_path(segment, path)
            )
        )
        return finding.addTimeout(self._find_seconds, self._reactor, self._silent)

    def _silent(self, result: object, seconds: float) -> NoReturn:
        raise errors.Unavailable(f"canonical storage {self.url} is silent for {seconds:g} s")

    def probe(self, copy: CanonicalCopy) -> defer.Deferred[None]:
        return self._calls.run_cancellable(self._backend.probe, copy)

    def delete(self, copy: CanonicalCopy) -> defer.Deferred[bool]:
        return defer.maybeDeferred(self._delete, copy)

    def _delete(self, copy: CanonicalCopy) -> defer.Deferred[bool]:
        check_path(copy.segment, copy.path)
        return self._calls.run_cancellable(self._backend.delete, copy)

    def fetch(
        self, copy: CanonicalCopy, destination: Path, progress: Progress | None = None
    ) -> defer.Deferred[CanonicalCopy]:
        return self._operation(self._fetch(copy, destination, progress))

    def fetch_many(
        self, wanted: Sequence[tuple[CanonicalCopy, Path]]
    ) -> defer.Deferred[list[CanonicalCopy | errors.TroughError]]:
        return self._operation(self._fetch_many(wanted))

    async def _fetch_many(
        self, wanted: Sequence[tuple[CanonicalCopy, Path]]
    ) -> list[CanonicalCopy | errors.TroughError]:
        assert isinstance(self._backend, BatchBackend)
        outcomes: dict[int, CanonicalCopy | errors.TroughError] = {}
        for number, (copy, _) in enumerate(wanted):
            try:
                check_path(copy.segment, copy.path)
            except errors.TroughError as error:
                outcomes[number] = error
        good = [number for number in range(len(wanted)) if number not in outcomes]
        fetched = await self._transfers.run_cancellable(
            self._backend.fetch_many, [wanted[number] for number in good]
        )
        outcomes.update(zip(good, fetched, strict=True))
        return [outcomes[number] for number in range(len(wanted))]

    async def _fetch(
        self, copy: CanonicalCopy, destination: Path, progress: Progress | None
    ) -> CanonicalCopy:
        check_path(copy.segment, copy.path)
        with _Moving(self, _Transfer("fetch", copy.segment, copy.size), progress) as told:
            return await self._transfers.run_cancellable(
                self._backend.fetch, copy, destination, told
            )

    def publish(
        self,
        source: Path,
        segment: str,
        path: str | None = None,
        guard: Guard | None = None,
        progress: Progress | None = None,
    ) -> defer.Deferred[CanonicalCopy]:
        return self._operation(self._publish(source, segment, path, guard, progress))

    async def _publish(
        self,
        source: Path,
        segment: str,
        path: str | None,
        guard: Guard | None,
        progress: Progress | None,
    ) -> CanonicalCopy:
        target = check_path(segment, path)
        with _Moving(self, _Transfer("publish", segment, source.stat().st_size), progress) as told:
            staged = await self._transfers.run_cancellable(
                self._backend.stage, source, segment, target, told
            )
        for _ in range(_GUARDS - 1):
            with contextlib.suppress(PermissionExpired):
                return await self._commit(await self._permitted(staged, guard))
        try:
            return await self._commit(await self._permitted(staged, guard))
        except PermissionExpired:
            await self._discard(staged)
            raise

    async def _permitted(self, staged: Staged, guard: Guard | None) -> Staged:
        if guard is None:
            return staged
        began = elapsed()
        try:
            seconds = await guard()
        except BaseException:
            await self._discard(staged)
            raise
        return replace(staged, permitted_until=began + min(seconds, GUARD_SECONDS))

    async def _commit(self, staged: Staged) -> CanonicalCopy:
        try:
            return await self._calls.run_cancellable(self._backend.commit, staged)
        except defer.CancelledError:
            # The last step may never have begun, for want of a thread.
            await self._discard(staged)
            raise

    async def _discard(self, staged: Staged) -> None:
        """Remove an upload that was refused; why it was is what the caller wants to know."""
        try:
            await self._calls.run_cancellable(self._backend.discard, staged)
        except Exception as error:
            _log.warn(
                "upload {path} stays until it is swept: {error}",
                path=staged.temporary,
                error=error,
            )

    def _operation(self, steps: Coroutine[Any, Any, T]) -> defer.Deferred[T]:
        """Run an operation that :meth:`close` has to cancel and wait for."""
        operation = defer.Deferred.fromCoroutine(steps)
        self._operations.add(operation)

        ended(operation).addCallback(lambda _: self._operations.discard(operation))
        return operation


class _Moving:
    """Shows a transfer in the status while it runs, and passes its progress on."""

    def __init__(
        self, storage: ThreadedStorage, transfer: _Transfer, progress: Progress | None
    ) -> None:
        self._storage = storage
        self._transfer = transfer
        self._progress = progress
        self._number = next(storage._numbers)

    def __enter__(self) -> Progress:
        self._storage._moving[self._number] = self._transfer
        return self._tell

    def __exit__(self, *exc_info: object) -> None:
        del self._storage._moving[self._number]

    def _tell(self, done: int) -> None:
        self._transfer.done = done
        if self._progress is not None:
            self._progress(done)
