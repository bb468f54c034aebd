"""Remembers which workers accepted a connection a moment ago.

A worker that was killed counts as alive until its TTL is over. A process whose connection was
refused or failed knows better, and remembers it for a moment. That is long enough that not every
request has to try again, and too short to matter when the worker is back.

A connection shows only that a process listens. A process that hangs counts as alive until its TTL
is over.
"""

from __future__ import annotations

import functools
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, DeferredList
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol

from trough.model import Worker
from trough.util.waiting import SingleFlight

#: Seconds for which a finding counts.
REMEMBERED = 1.0

#: Seconds to establish a connection; a machine that is gone refuses none.
CONNECT_TIMEOUT = 2.0


class PeerReachability:
    """What this process found out about other workers, by name."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._found: dict[str, tuple[float, bool]] = {}
        self._probes: SingleFlight[str, None] = SingleFlight()

    def is_away(self, node: str) -> bool:
        """Whether a connection to `node` failed a moment ago."""
        return self._recently(node) is False

    def note(self, node: str, reached: bool) -> None:
        """Note whether a connection to `node` succeeded."""
        self._found[node] = (self._reactor.seconds(), reached)

    async def try_out(self, workers: list[Worker]) -> None:
        """Try to connect to those whose state is not known; :meth:`is_away` then has the result."""
        unknown = [worker for worker in workers if self._recently(worker.node) is None]
        probes = [
            self._probes.run(worker.node, functools.partial(self._probe, worker))
            for worker in unknown
        ]
        await DeferredList(probes)

    def _recently(self, node: str) -> bool | None:
        at, reached = self._found.get(node, (float("-inf"), False))
        return reached if self._reactor.seconds() - at <= REMEMBERED else None

    async def _probe(self, worker: Worker) -> None:
        """Connect, and disconnect."""
        self.note(worker.node, await self._connects(worker))

    async def _connects(self, worker: Worker) -> bool:
        parts = urlsplit(worker.read_url)
        endpoint = HostnameEndpoint(
            self._reactor,
            parts.hostname or "",
            parts.port or (443 if parts.scheme == "https" else 80),
            timeout=CONNECT_TIMEOUT,
        )
        try:
            protocol: Any = await endpoint.connect(Factory.forProtocol(Protocol))
        except CancelledError:
            raise
        except Exception:  # Twisted's connection errors share no base
            return False
        protocol.transport.abortConnection()
        return True
