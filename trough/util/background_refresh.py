"""Bounds the wait for fresh data where older data will do.

The first question that is not answered in time shows that the store is away. Callers then use
what they have. One question at a time goes on in the background until the store answers.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.util.waiting import shielded

_log = Logger()


class BackgroundRefresh:
    """With one store, that may be asked several things.

    :param seconds: to wait for a store that answered the last time
    :ivar away_since: when the first question was asked that was not answered, by
        `clock`; None while they are
    :ivar reason: why it was not, in that case
    """

    def __init__(self, seconds: float, clock: IReactorTime) -> None:
        self.away_since: float | None = None
        self.reason: str | None = None
        self._seconds = seconds
        self._clock = clock
        self._background: Deferred[Any] | None = None

    async def give(
        self, ask: Callable[[], Coroutine[Any, Any, None]], known_away: bool = False
    ) -> None:
        """Ask, and return when that is done or has taken too long.

        :param ask: brings something up to date
        :param known_away: the store is known to be away: ask in the background
        :raises Exception: what `ask` raised, except that the store is away
        """
        if self._background is not None:
            return
        asked_at = self._clock.seconds()
        asking = Deferred.fromCoroutine(ask())
        waits = 0.0 if known_away or self.away_since is not None else self._seconds
        try:
            await shielded(asking, self._ended).addTimeout(waits, self._clock)
        except TimeoutError:
            self._missed(asked_at, f"no answer within {self._seconds:g} s")
            self._background = None if asking.called else asking
        except errors.Unavailable as error:
            self._missed(asked_at, error.message)
        except CancelledError:
            asking.cancel()
            raise
        else:
            self.away_since = self.reason = None

    def _missed(self, asked_at: float, reason: str) -> None:
        if self.away_since is None:
            self.away_since, self.reason = asked_at, reason

    def _ended(self, result: object) -> None:
        if self._background is None:
            return  # who asked was cancelled
        self._background = None
        if not isinstance(result, Failure):
            self.away_since = self.reason = None
        elif isinstance(result.value, errors.Unavailable):
            self.reason = result.value.message
        else:
            _log.failure("asking in the background failed", failure=result)
