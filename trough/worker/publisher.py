"""Publishes in the metadata store which copies this worker can serve.

The publisher writes on change, in batches, in the background, some ten times a second at most. So
a worker that fetches thousands of copies does not write after each. A store that is away delays
only the publication. Rows carry a long TTL and are refreshed in small portions, so that the whole
is renewed within half of it. Only the worker's own row shows that the worker lives.
"""

from __future__ import annotations

import math
from itertools import islice

from twisted.application import service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from trough import errors
from trough.metadata import Metadata
from trough.model import READ, WRITE, Copy, segment_word
from trough.util.periodic import Periodic
from trough.util.trouble_log import Section, TroubleLog
from trough.util.waiting import Waiters

_log = Logger()

#: Rows a call; what one RethinkDB query carries well.
BATCH = 500

#: Seconds between two portions of the refresh; less where a row's TTL is short.
REFRESH_INTERVAL = 60.0

#: Seconds for which changes are gathered after a publication, unless a caller waits or there
#: are enough for a full batch. In a batch of thirty, a row costs RethinkDB a third of what it
#: costs alone.
GATHER = 0.1

#: Seconds before the store is tried again.
RETRY = 1.0


class Publisher(service.MultiService):
    """The copies of one worker, as others see them.

    It knows only what it has published itself. Rows from before a restart of the worker are
    removed when it registers.

    :param read_url: base URL of the worker's read port; likewise `write_url`
    :param ttl: seconds, of a copy's row
    """

    def __init__(
        self,
        metadata: Metadata,
        node: str,
        read_url: str,
        write_url: str,
        ttl: float,
        *,
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self._metadata = metadata
        self._troubles = TroubleLog(clock)
        self._node = node
        self._urls = {READ: read_url, WRITE: write_url}
        self._ttl = ttl
        self._clock = clock
        self._roles: dict[str, tuple[str, ...]] = {}
        #: Roles that the store may have a row of: all that were ever sent, until the store
        #: answered that they were taken back.
        self._told: dict[str, tuple[str, ...]] = {}
        self._news: dict[str, None] = {}
        self._refresh: list[str] = []
        self._flushing: Deferred[None] | None = None
        self._gathered: IDelayedCall | None = None
        self._waiting: Waiters[None] = Waiters()
        self.load = 0.0
        self._interval = min(REFRESH_INTERVAL, ttl / 8)
        Periodic("refreshing copies", self._interval, self._refresh_some, clock).setServiceParent(
            self
        )

    def serve(self, segment: str, writable: bool) -> None:
        """This worker can serve `segment` now, for reads and maybe for writes."""
        self._roles[segment] = (READ, WRITE) if writable else (READ,)
        self._news[segment] = None
        self._flush_soon()

    def serves(self, segment: str) -> bool:
        """Whether that was published for `segment`, and not taken back."""
        return segment in self._roles

    def withdraw(self, segment: str) -> None:
        """This worker serves `segment` no longer."""
        self._roles.pop(segment, None)
        self._news[segment] = None
        self._flush_soon()

    def serve_all_again(self) -> None:
        """Write every row again, because some or all of them were removed."""
        self._news.update(dict.fromkeys(self._roles))
        self._flush_soon()

    @property
    def behind(self) -> int:
        """Number of segments whose changes the store does not have yet."""
        return len(self._news)

    async def published(self) -> None:
        """Return once the store has all changes up to now."""
        if self._news or self._flushing is not None:
            waiting = self._waiting.wait()
            if self._gathered is not None and self._gathered.active():
                self._gathered.reset(0)
            self._flush_soon()
            await waiting

    def startService(self) -> None:
        super().startService()
        self._flush_soon()

    async def stopService(self) -> None:
        """Stop; changes that the store does not have yet are not published."""
        await super().stopService()
        if self._flushing is not None:
            self._flushing.cancel()
        self._waiting.fail(errors.Cancelled("the worker is stopping"))

    # -- inside ----------------------------------------------------------------

    def _flush_soon(self) -> None:
        if self._flushing is None and self._news and self.running:
            self._flushing = Deferred.fromCoroutine(self._flush())
            self._flushing.addBoth(self._flushed)

    def _flushed(self, result: object) -> None:
        self._flushing = None
        if not self.running:
            return
        if self._news:
            self._clock.callLater(RETRY, self._flush_soon)
            return
        self._waiting.fire(None)

    async def _flush(self) -> None:
        # One turn of the reactor, so that what comes together goes together.
        await self._gather(0)
        while self._news:
            batch = list(islice(self._news, BATCH))
            for segment in batch:
                del self._news[segment]
            try:
                await self._tell(batch)
            except Exception as failure:
                # On any error: these changes are nowhere else.
                for segment in batch:
                    self._news.setdefault(segment)
                if isinstance(failure, errors.TroughError):
                    what = "publications of copies failed"
                    self._troubles.report(Section.RETHINKDB, what, failure)
                elif not isinstance(failure, CancelledError):
                    _log.failure("publishing {count} copies", count=len(batch))
                return
            # A full batch saves nothing by waiting for more.
            if not self._waiting and len(self._news) < BATCH:
                await self._gather(GATHER)

    def _gather(self, seconds: float) -> Deferred[None]:
        """Wait for more changes, but no longer than that, nor once a caller waits for these."""
        over: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._gathered = self._clock.callLater(seconds, over.callback, None)
        return over

    async def _tell(self, batch: list[str]) -> None:
        """Publish the present state of these; it may have changed when the store answers."""
        roles = {segment: self._roles.get(segment, ()) for segment in batch}
        before = {segment: self._told.get(segment, ()) for segment in batch}
        for segment, told in before.items():
            self._told[segment] = tuple({*told, *roles[segment]})
        rows = [
            Copy(segment, self._node, role, f"{self._urls[role]}?segment={segment_word(segment)}",
                 self.load, self._ttl)
            for segment in batch
            for role in roles[segment]
        ]  # fmt: skip
        if rows:
            await self._metadata.publish_copies(rows)
        for role in (READ, WRITE):
            gone = [s for s in batch if role in before[s] and role not in roles[s]]
            if gone:
                await self._metadata.withdraw_copies(self._node, gone, role)
        for segment in batch:
            self._told[segment] = roles[segment]
            if not roles[segment]:
                del self._told[segment]

    async def _refresh_some(self) -> None:
        if not self._refresh:
            self._refresh = list(self._roles)
            return
        rounds = max(1, math.floor(self._ttl / 2 / self._interval))
        count = math.ceil(len(self._roles) / rounds)
        portion, self._refresh = self._refresh[:count], self._refresh[count:]
        self._news.update((segment, None) for segment in portion if segment in self._roles)
        self._flush_soon()
