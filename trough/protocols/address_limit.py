"""How many connections one address has at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.logger import Logger

from trough.util.addresses import network_of

_log = Logger()

#: Seconds between two entries in the log.
_LOG_EVERY = 60.0


class AddressLimit:
    """Counts connections by address. All users of a proxy, or behind one NAT, have one address.

    :param most: connections of one address; 0: any number
    :param seconds: a clock that only counts
    """

    def __init__(self, most: int, seconds: Callable[[], float]) -> None:
        self._most = most
        self._seconds = seconds
        self._counts: Counter[str] = Counter()
        self._refused = 0
        self._log_after = 0.0

    def joined(self, client: str) -> bool:
        """Count a new connection; whether it may stay. One that may not is not counted.

        :param client: ``host:port``
        """
        if not self._most:
            return True
        address = network_of(client)
        if self._counts[address] >= self._most:
            self._log_that_it_is_refused(address)
            return False
        self._counts[address] += 1
        return True

    def left(self, client: str) -> None:
        """A connection that was counted is gone."""
        if not self._most:
            return
        address = network_of(client)
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]

    def _log_that_it_is_refused(self, address: str) -> None:
        self._refused += 1
        now = self._seconds()
        if now < self._log_after:
            return
        self._log_after = now + _LOG_EVERY
        _log.warn(
            "{address} has {most} connections, which is all that one address may have "
            "(CONNECTIONS_PER_ADDRESS); closed or refused so far: {refused}",
            address=address,
            most=self._most,
            refused=self._refused,
        )
