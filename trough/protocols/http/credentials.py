"""How a process proves over HTTP that it has a token, without sending the token.

The address often comes from a row of the registry, which another party may have written: a
listener there once collected the token. So the process proves the token for that one address. The
server there gives it a *ticket*, which is valid for some minutes at that server. A listener at
another address cannot use the proof. See :mod:`trough.access.tokens`.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.web.client import FileBodyProducer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from trough.access.gate import TICKET
from trough.access.tokens import Credential
from trough.protocols.http.response_body import read_content
from trough.protocols.http.server import CHALLENGE_PATH, PROOF, TICKET_PATH
from trough.util.error_text import error_text

#: Seconds for a challenge and a ticket together.
PATIENCE = 10.0

#: Of the seconds that a ticket is good for, the share in which it is used.
_USED = 0.8

#: Servers whose tickets are kept.
_KEPT = 1000


class ProvingAgent:
    """Sends requests that prove a token to whom they are sent.

    A request is repeated once where its ticket is refused, since it was not carried out then.

    :param agent: sends them
    :param credential: to prove; None: nothing is proved
    """

    def __init__(self, agent: Any, credential: Credential | None, reactor: Any) -> None:
        self._agent = agent
        self._credential = credential
        self._reactor = reactor
        self._tickets: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._asking: dict[str, list[Deferred[str]]] = {}

    async def request(self, method: bytes, url: bytes, headers: Headers, body: bytes) -> IResponse:
        """Send a request; the response's body is still to be read.

        :raises Exception: as the agent does
        """
        response = await self._send(method, url, headers, body)
        if response.code == 401 and self._credential is not None:
            await read_content(response, url.decode())
            self._tickets.pop(_origin(url), None)
            response = await self._send(method, url, headers, body)
        return response

    async def _send(self, method: bytes, url: bytes, headers: Headers, body: bytes) -> IResponse:
        headers = headers.copy()
        headers.removeHeader(b"authorization")
        if self._credential is not None and (ticket := await self._ticket(_origin(url))):
            headers.addRawHeader(b"authorization", f"{TICKET} {ticket}".encode())
        producer = FileBodyProducer(BytesIO(body)) if body else None
        response: IResponse = await self._agent.request(method, url, headers, producer)
        return response

    async def _ticket(self, origin: str) -> str:
        """A ticket for a server, or an empty text: it asks for none.

        :raises ConnectError: it gives none
        """
        until, ticket = self._tickets.get(origin, (0.0, ""))
        if until > self._reactor.seconds():
            return ticket
        waiting: Deferred[str] = Deferred()
        if origin in self._asking:
            self._asking[origin].append(waiting)
            return await waiting
        self._asking[origin] = [waiting]
        asking = Deferred.fromCoroutine(self._prove(origin))
        # A waiting caller may give up; the ticket is for all.
        asking.addTimeout(PATIENCE, self._reactor).addBoth(self._tell, origin)
        return await waiting

    def _tell(self, result: Any, origin: str) -> None:
        for waiting in self._asking.pop(origin):
            if not waiting.called:
                waiting.callback(result)

    async def _prove(self, origin: str) -> str:
        try:
            return await self._get_ticket(origin)
        except (ConnectError, CancelledError):
            raise
        except Exception as failure:  # of many kinds; what was to be sent was not sent
            raise ConnectError(string=f"it gave no ticket: {error_text(failure)}") from failure

    async def _get_ticket(self, origin: str) -> str:
        assert self._credential is not None
        nonce = (await self._call(b"GET", origin, CHALLENGE_PATH, "")).get("nonce")
        if not isinstance(nonce, str):
            return ""
        proof = self._credential.proof(nonce, urlsplit(origin).netloc)
        header = f"{PROOF} {self._credential.id} {nonce} {proof}"
        answer = await self._call(b"POST", origin, TICKET_PATH, header)
        ticket, seconds = answer.get("ticket"), answer.get("seconds")
        if not isinstance(ticket, str) or not isinstance(seconds, int | float):
            raise ConnectError(string=f"it refuses the token {self._credential.id} of this server")
        self._tickets[origin] = (self._reactor.seconds() + seconds * _USED, ticket)
        if len(self._tickets) > _KEPT:
            self._tickets.popitem(last=False)
        return ticket

    async def _call(self, method: bytes, origin: str, path: bytes, header: str) -> dict[str, Any]:
        """What a server answers, or an empty object for what is no such answer."""
        headers = Headers({"authorization": [header]} if header else {})
        response = await self._agent.request(method, origin.encode() + path, headers, None)
        content = await read_content(response, origin)
        if response.code != 200:
            return {}
        try:
            answer = json.loads(content)
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}


def _origin(url: bytes) -> str:
    parts = urlsplit(url.decode())
    return f"{parts.scheme}://{parts.netloc}"
