"""How a process proves over HTTP that it has a token, without sending the token.

The address often comes from a row of the registry, which another party may have written: a
listener there once collected the token, and then SQL. So both sides prove that they know the
token, for that one address, before anything else is sent. The server there gives a *ticket*, which
is valid for some minutes at that server. A listener at another address can neither use the proof
nor make one. See :mod:`trough.access.tokens`.
"""

from __future__ import annotations

import functools
import json
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectError
from twisted.web.client import FileBodyProducer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from trough import errors
from trough.access.gate import TICKET
from trough.access.tokens import Credential, new_nonce
from trough.protocols.http.headers import CHALLENGE_PATH, PROOF, TICKET_PATH
from trough.protocols.http.response_body import read_content
from trough.protocols.limits import check_json_values
from trough.util.bounded_lru import BoundedLru
from trough.util.error_text import error_text
from trough.util.waiting import SingleFlight

#: Seconds for a challenge and a ticket together.
PATIENCE = 10.0

#: Of the seconds that a ticket is good for, the share in which it is used.
_USED = 0.8

#: Servers whose tickets are kept.
_KEPT = 1000

#: Bytes of an answer with a challenge or a ticket, and values in it, at most.
_MOST, _MOST_VALUES = 1 << 16, 100


class ProvingAgent:
    """Sends requests to servers that have proved themselves, and proves a token to them.

    A request is repeated once where its ticket is refused, since it was not carried out then.

    :param agent: sends them
    :param credential: to prove; None: nothing is proved, and no proof is asked for
    """

    def __init__(self, agent: Any, credential: Credential | None, reactor: Any) -> None:
        self._agent = agent
        self._credential = credential
        self._reactor = reactor
        self._tickets: BoundedLru[str, tuple[float, str]] = BoundedLru(_KEPT)
        self._asking: SingleFlight[str, str] = SingleFlight()

    async def request(self, method: bytes, url: bytes, headers: Headers, body: bytes) -> IResponse:
        """Send a request; the response's body is still to be read.

        :raises ConnectError: nothing was sent, for the server proves nothing
        :raises Exception: as the agent does
        """
        response = await self._send(method, url, headers, body)
        if response.code == 401 and self._credential is not None:
            await read_content(response, url.decode())
            self._tickets.pop(_origin(url))
            response = await self._send(method, url, headers, body)
        return response

    async def _send(self, method: bytes, url: bytes, headers: Headers, body: bytes) -> IResponse:
        headers, origin = headers.copy(), _origin(url)
        headers.removeHeader(b"authorization")
        if self._credential is not None and (ticket := await self._ticket(origin)):
            headers.addRawHeader(b"authorization", f"{TICKET} {ticket}".encode())
        producer = FileBodyProducer(BytesIO(body)) if body else None
        try:
            response: IResponse = await self._agent.request(method, url, headers, producer)
        except CancelledError:
            raise
        except Exception:
            # Another program may listen there next: it has to prove itself.
            self._tickets.pop(origin)
            raise
        return response

    async def _ticket(self, origin: str) -> str:
        """A ticket for a server, or an empty text: it asks for none.

        :raises ConnectError: it gives none
        """
        until, ticket = self._tickets.get(origin) or (0.0, "")
        if until > self._reactor.seconds():
            return ticket
        # A waiting caller may give up; the ticket is for all.
        return await self._asking.run(origin, functools.partial(self._proved, origin))

    async def _proved(self, origin: str) -> str:
        proving = Deferred.fromCoroutine(self._prove(origin))
        try:
            return await proving.addTimeout(PATIENCE, self._reactor)
        except TimeoutError:
            # Nothing of a request was sent.
            raise ConnectError(string=f"no ticket came within {PATIENCE:g} s") from None

    async def _prove(self, origin: str) -> str:
        assert self._credential is not None
        try:
            return await self._get_ticket(origin, self._credential)
        except (ConnectError, CancelledError):
            raise
        except errors.TroughError as error:
            raise ConnectError(string=str(error)) from error
        except Exception as failure:  # of many kinds; what was to be sent was not sent
            raise ConnectError(string=f"it gave no ticket: {error_text(failure)}") from failure

    async def _get_ticket(self, origin: str, credential: Credential) -> str:
        """Prove the token, and have the server prove that it knows it.

        :raises trough.errors.Unavailable: one of them fails
        """
        status, answer = await self._call(b"GET", origin, CHALLENGE_PATH, "")
        if status == 404:
            credential.check_open(origin)
            return ""
        nonce = answer.get("nonce")
        if not isinstance(nonce, str):
            raise errors.Unavailable(f"{origin} gave no challenge (status {status})")
        address, own = urlsplit(origin).netloc, new_nonce()
        proof = credential.proof(nonce, address)
        header = f"{PROOF} {credential.id} {nonce} {proof} {own}"
        status, answer = await self._call(b"POST", origin, TICKET_PATH, header)
        ticket, seconds = answer.get("ticket"), answer.get("seconds")
        if not isinstance(ticket, str) or not isinstance(seconds, int | float):
            raise errors.Unavailable(
                f"{origin} refuses the token {credential.id} of this process (status {status})"
            )
        credential.check_server(answer.get("proof"), own, nonce, address)
        self._tickets.put(origin, (self._reactor.seconds() + seconds * _USED, ticket))
        return ticket

    async def _call(
        self, method: bytes, origin: str, path: bytes, header: str
    ) -> tuple[int, dict[str, Any]]:
        """The status that a server answers, and its document: empty for what is none."""
        headers = Headers({"authorization": [header]} if header else {})
        response = await self._agent.request(method, origin.encode() + path, headers, None)
        content = await read_content(response, origin, _MOST)
        try:
            # A decoder that is nested deeply has no room for what the collector ends meanwhile.
            check_json_values(content, _MOST_VALUES, "an answer")
            answer = json.loads(content) if response.code == 200 else None
        except (ValueError, errors.TroughError):
            answer = None
        return response.code, answer if isinstance(answer, dict) else {}


def _origin(url: bytes) -> str:
    parts = urlsplit(url.decode())
    return f"{parts.scheme}://{parts.netloc}"
