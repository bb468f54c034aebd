"""How far a worker can trust what it knows of the cluster.

It answers reads from memory: who holds which write lock, and who lives. That memory is true as
long as the metadata store confirms it. This module keeps the times: when the list of locks was
complete for the first time, and since when the store has confirmed nothing. What follows for a
read is decided in :mod:`trough.worker.read_rule`.
"""

from __future__ import annotations

import contextlib

from twisted.internet.defer import TimeoutError
from twisted.internet.interfaces import IReactorTime

from trough.metadata import Metadata, Watch
from trough.util.waiting import Waiters
from trough.worker.read_rule import UNCONFIRMED, Knowledge

#: Seconds after the start, and again after the copies are loaded, for which reads wait until the
#: list of write locks is complete. Clients wait for minutes; a list of 100,000 locks takes two.
LONGEST_WAIT = 5.0

#: Seconds that a heartbeat may take without a warning.
SLACK = 1.0


_CONFIRMED = Knowledge(locks_known=True, may_wait=False, confirmed=True)
_CUT_OFF = Knowledge(locks_known=True, may_wait=False, confirmed=False)


class Confirmation:
    """See the module's text.

    :param interval: seconds between two heartbeats
    :ivar locks_known: whether the list of all write locks was here once
    """

    def __init__(self, metadata: Metadata, interval: float, clock: IReactorTime) -> None:
        self._metadata = metadata
        self._interval = interval
        self._clock = clock
        self._waits_until = clock.seconds() + LONGEST_WAIT
        self._complete: Waiters[None] = Waiters()
        self._watches: list[Watch] = []
        self._heard = clock.seconds()
        self.locks_known = False
        #: Seconds after which the heartbeat that was due and is not answered is missed.
        self._silence = interval + max(SLACK, interval / 2)

    # -- what happens --------------------------------------------------------------

    def loaded(self) -> None:
        """The copies are loaded: from here on reads wait for the list of locks alone."""
        self._waits_until = self._clock.seconds() + LONGEST_WAIT

    def watching(self, watches: list[Watch]) -> None:
        """What a read is decided by comes from these `watches`."""
        self._watches = watches

    def heard(self, asked: float) -> None:
        """The metadata store has answered a heartbeat that was sent at `asked`."""
        self._heard = asked

    def locks_complete(self) -> None:
        """The list of all write locks is here."""
        self.locks_known = True
        self._complete.fire(None)

    # -- what follows --------------------------------------------------------------

    @property
    def may_wait(self) -> bool:
        """Whether a read may wait for the list of locks at this moment."""
        return not self.locks_known and self._clock.seconds() < self._waits_until

    @property
    def knowledge(self) -> Knowledge:
        """What a read is decided by, at this moment."""
        if not self.locks_known:
            return Knowledge(locks_known=False, may_wait=self.may_wait, confirmed=False)
        # Each read asks this, so what it takes is here and in no further function. A store that
        # is known to be away counts after one heartbeat interval. One that is silent is noticed
        # by the heartbeat that was due and is not answered.
        now = self._clock.seconds()
        if now - self._heard > self._silence:
            return _CUT_OFF
        absence = self._metadata.absence
        if absence is not None and now - absence.since >= self._interval:
            return _CUT_OFF
        for watch in self._watches:
            since = watch.outdated_since
            if since is not None and now - since >= self._interval:
                return _CUT_OFF
        return _CONFIRMED

    async def wait(self) -> None:
        """Return when the list of locks is complete, or reads may wait no longer."""
        while self.may_wait:
            seconds = max(0.0, self._waits_until - self._clock.seconds())
            with contextlib.suppress(TimeoutError):
                await self._complete.wait().addTimeout(seconds, self._clock)

    @property
    def state(self) -> str | None:
        """The mark that answers carry at the moment; None for none."""
        knowledge = self.knowledge
        return None if knowledge.confirmed else UNCONFIRMED
