"""Requests of the blocking client to the sync server that leads, whichever that is.

When a leader is lost, another one takes its place a few seconds later. What was certainly
not sent is asked of that one; what may have arrived is not repeated, so that any request
may be made this way. It refuses to know what is asked.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trough.client.http import Connections, NoAnswer, NotSent, Response
from trough.client.responses import TroughException, unexpected

#: Seconds of silence that are borne while a segment is created.
PROVISION_SECONDS = 600.0

JSON = {"Content-Type": "application/json"}
_NOTHING: dict[str, str] = {}


class NoLeader(TroughException):
    """No sync server leads now."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a new leader is waited for.

    :ivar seconds: at most
    :ivar pause: seconds between two looks
    """

    seconds: float
    pause: float


class LeaderRequests:
    """See the module. Any number of threads may use one.

    :param find: base URL of the leader; raises :class:`NoLeader`
    :param authorization: headers that every request has
    :param patience: asked at each request
    """

    def __init__(
        self,
        connections: Connections,
        find: Callable[[], str],
        authorization: Mapping[str, str],
        patience: Callable[[], RetryPolicy],
    ) -> None:
        self._connections = connections
        self._find = find
        self._authorization = authorization
        self._patience = patience
        self._closing = threading.Event()

    def close(self) -> None:
        """Wait for no leader any more. Idempotent."""
        self._closing.set()

    def ask(
        self,
        method: str,
        path: str,
        payload: bytes | None = None,
        content: dict[str, str] = _NOTHING,
        timeout: float = PROVISION_SECONDS,
        doubt: str = "it may have been done",
    ) -> tuple[Response, str]:
        """Send a request; return the answer, whatever its status, and a text of the request for
        messages.

        :param path: below the leader's URL
        :param content: headers about the payload
        :param timeout: seconds of silence after which it fails
        :param doubt: what it means that no whole answer came
        :raises TroughException: no leader was found in time, or no answer came
        """
        headers = {**content, **self._authorization}
        patience = self._patience()
        deadline = time.monotonic() + patience.seconds
        while True:
            try:
                url = f"{self._find().rstrip('/')}/{path}"
                response = self._connections.request(method, url, payload, headers, timeout=timeout)
                return response, f"{method} {url}"
            except (NoLeader, NotSent) as error:
                if time.monotonic() >= deadline or self._closing.wait(patience.pause):
                    raise TroughException(str(error), payload) from error
            except NoAnswer as error:
                raise TroughException(f"{doubt}: {error}", payload) from error

    def order(
        self,
        verb: str,
        body: Mapping[str, str],
        tells: str,
        timeout: float = PROVISION_SECONDS,
    ) -> dict[str, Any]:
        """Send an order; return the JSON object of its outcome.

        :param tells: a text that the object has; without it, no sync server answered
        :raises TroughException: it was refused, or see :meth:`ask`
        """
        payload = json.dumps(body).encode()
        response, what = self.ask("POST", verb, payload, JSON, timeout)
        done = _object(response.body) if response.status == 200 else {}
        if not isinstance(done.get(tells), str):
            raise unexpected(response, what, payload)
        return done


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
