"""How a sync server asks workers, and one sync server another: JSON over HTTP.

What comes back is either the answer or the very error that the other side raised, so that
a forwarded request fails as if it had been served here. Every call has a deadline.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import defer
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

from trough import errors
from trough.access.tokens import Credential
from trough.protocols.http.credentials import ProvingAgent
from trough.protocols.http.headers import TRACE_HEADER
from trough.protocols.http.response_body import read_content
from trough.tls import TlsFiles
from trough.tls.client import ClientTls
from trough.util.error_text import error_text
from trough.util.trace_context import CURRENT_TRACE
from trough.util.waiting import shielded

#: Seconds to establish a connection; a machine that is gone does not refuse one.
CONNECT_TIMEOUT = 5.0

#: Seconds that existing clients wait for a promotion.
PROMOTION_TIMEOUT = 6 * 3600.0


class ManagerClient:
    """Calls to other Trough processes.

    :param credential: proved where the other side asks for it
    :param tls: whom to believe; None: the CAs of the system
    """

    def __init__(
        self,
        reactor: Any,
        credential: Credential | None = None,
        tls: ClientTls | None = None,
    ) -> None:
        self._reactor = reactor
        self._connections = HTTPConnectionPool(reactor, persistent=True)
        self._connections.maxPersistentPerHost = 8
        self._tls = tls or ClientTls(TlsFiles(), reactor)
        agent = Agent(reactor, self._tls, connectTimeout=CONNECT_TIMEOUT, pool=self._connections)
        self._agent = ProvingAgent(agent, credential, reactor)
        self._headers = Headers({"Content-Type": ["application/json"]})

    async def call(
        self, method: str, url: str, body: object = None, seconds: float = 60.0
    ) -> dict[str, Any]:
        """Send `body` as JSON, and return the JSON object that is answered.

        :param seconds: until the whole answer has to be here
        :return: an empty dict for an answer without a body
        :raises trough.errors.TroughError: what the other side raised
        :raises trough.errors.Unavailable: it does not answer, or `url` is not one
        """
        if not url.startswith("http"):
            raise errors.Unavailable(
                f"{method} {url}: the row of the worker in question names no manager",
                "it is of an original installation, which has to be upgraded as a whole",
            )
        self._tls.check_url(url)
        content = json.dumps(body).encode() if body else b""
        exchange = defer.Deferred.fromCoroutine(self._exchange(method, url, content))
        try:
            status, answer = await shielded(exchange).addTimeout(seconds, self._reactor)
        except defer.TimeoutError:
            raise errors.Unavailable(f"no answer from {url} within {seconds:g} s") from None
        finally:
            exchange.cancel()
        return _answer(url, status, answer)

    async def _exchange(self, method: str, url: str, body: bytes) -> tuple[int, bytes]:
        headers = self._headers
        if trace := CURRENT_TRACE.get():
            headers = headers.copy()
            headers.addRawHeader(TRACE_HEADER, trace)
        try:
            response = await self._agent.request(method.encode(), url.encode(), headers, body)
            return response.code, await read_content(response, url)
        except Exception as failure:  # Twisted's connection errors share no base
            raise errors.Unavailable(f"no answer from {url}: {error_text(failure)}") from failure

    async def close(self) -> None:
        """Close the connections that were kept."""
        await self._connections.closeCachedConnections()


def _answer(url: str, status: int, content: bytes) -> dict[str, Any]:
    if status < 300 and not content:
        return {}
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise errors.Unavailable(f"{url} answered {status} with what is no JSON object")
    if status < 300:
        return answer
    error = errors.from_code(str(answer.get("code", "internal")), str(answer.get("error", "")))
    if isinstance(error, errors.Moved):
        error.node = str(answer.get("node", error.node))
    raise error
