"""A look at canonical storage that may take longer than anybody waits for it.

The first look at millions of files takes minutes, and one at a silent server as long as its
time limits; the leader's rounds go on meanwhile, and come back to it.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.storage import Changes, Listing, Storage
from trough.util.waiting import ended

_log = Logger()

#: Skipped files that are logged after one look, and that the status shows.
MOST_SKIPPED = 100


def report_skipped(before: Listing | None, now: Listing) -> None:
    """Log the files that were not skipped before, or for another reason."""
    known = before.skipped if before is not None else {}
    new = [path for path, reason in now.skipped.items() if known.get(path) != reason]
    for path in new[:MOST_SKIPPED]:
        _log.warn(
            "canonical storage: {path} is skipped: {reason}",
            path=path,
            reason=now.skipped[path],
        )
    if len(new) > MOST_SKIPPED:
        _log.warn("canonical storage: {count} more are skipped", count=len(new) - MOST_SKIPPED)


class StorageScan:
    """One look at canonical storage, which goes on while rounds do.

    :param since: what the look before this one found, if there was one
    :ivar full: whether it goes into every directory
    :ivar away: why the storage could not be looked at; None if it could, or may yet
    """

    def __init__(
        self, storage: Storage, since: Listing | None, full: bool, clock: IReactorTime
    ) -> None:
        self.full = full
        self.away: errors.Unavailable | None = None
        self._clock = clock
        self._result: Changes | Failure | None = None
        self._looking = Deferred.fromCoroutine(self._look(storage, since))
        self._looking.addBoth(self._ended)

    async def _look(self, storage: Storage, since: Listing | None) -> Changes:
        if since is None:
            await storage.open()
        return await storage.changes(since, self.full)

    def _ended(self, result: Changes | Failure) -> None:
        self._result = result
        if isinstance(result, Failure) and isinstance(result.value, errors.Unavailable):
            self.away = result.value

    async def ends_within(self, seconds: float) -> bool:
        """Wait for its end, but no longer than that; whether it has ended."""
        if self._result is None:
            try:
                await ended(self._looking).addTimeout(seconds, self._clock)
            except TimeoutError:
                return False
        return True

    def changes(self) -> Changes:
        """What it found; raises what it failed with."""
        assert self._result is not None
        if isinstance(self._result, Failure):
            self._result.raiseException()
        return self._result

    async def end(self) -> None:
        """Give it up, and wait for it."""
        self._looking.cancel()
        await self._looking
