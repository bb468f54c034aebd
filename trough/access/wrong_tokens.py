"""How wrong tokens are slowed down.

The answer to a wrong token waits, longer for each further one of an address. The right token
never waits, since many clients may have one address. Memory is bounded: the addresses that
tried least recently are forgotten, and a client over the limits is to be cut off instead of
answered late.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.logger import Logger

from trough.util.addresses import network_of
from trough.util.bounded_lru import BoundedLru

_log = Logger()

#: Wrong tokens of one address that are answered at once: a person mistypes.
FREE = 5

#: Seconds that the first answer behind these waits, and the longest wait.
FIRST, LONGEST = 0.25, 5.0

#: Seconds after which one wrong token is forgiven.
FORGIVEN = 30.0

#: Addresses that are remembered, and answers that wait, of one address and altogether.
ADDRESSES, WAITING_EACH, WAITING = 10_000, 16, 1000

_LOG_EVERY = 60.0


@dataclass(slots=True)
class _Tries:
    count: float
    last: float
    waiting: int = 0


class WrongTokens:
    """Wrong tokens by address.

    :param seconds: a clock that only counts
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._tries: BoundedLru[str, _Tries] = BoundedLru(ADDRESSES)
        self._waiting = 0
        self._wrong = 0
        self._log_after = 0.0

    def delay(self, client: str) -> float | None:
        """Count a wrong token; seconds until it is to be answered, or None: cut it off.

        :meth:`answered` has to be called for each that waits.

        :param client: ``host:port``
        """
        address, now = network_of(client), self._seconds()
        tries = self._tries.get(address) or _Tries(0.0, now)
        self._tries.put(address, tries)
        tries.count = max(0.0, tries.count - (now - tries.last) / FORGIVEN) + 1
        tries.last = now
        self._log_that_one_is_wrong(address, now)
        if tries.count <= FREE:
            return 0.0
        if tries.waiting >= WAITING_EACH or self._waiting >= WAITING:
            return None
        tries.waiting += 1
        self._waiting += 1
        # No more doublings than it takes to reach the longest wait.
        return min(FIRST * 2.0 ** min(tries.count - FREE - 1, 10), LONGEST)

    def answered(self, client: str) -> None:
        """One that had to wait was answered, or is gone."""
        self._waiting -= 1
        tries = self._tries.get(network_of(client))
        if tries is not None and tries.waiting:
            tries.waiting -= 1

    def _log_that_one_is_wrong(self, address: str, now: float) -> None:
        self._wrong += 1
        if now < self._log_after:
            return
        _log.warn(
            "a wrong token from {address}; wrong tokens since the start: {wrong}",
            address=address,
            wrong=self._wrong,
        )
        self._log_after = now + _LOG_EVERY
