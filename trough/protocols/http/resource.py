"""HTTP for existing clients: what all resources have in common.

Resources check parameters, pass them on, and write the results. Rules are in other packages. One
place turns an error into a response. The query ports answer errors as text that begins with
``500 Server Error: ``, with any status: existing clients check only for "not 200", and strip
those words to get the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, resource, server

from trough import errors
from trough.access.gate import TICKET_SECONDS, Gate, wrong_token
from trough.access.rights import EVERY_RIGHT, PEER, Grant
from trough.access.wrong_tokens import WrongTokens
from trough.protocols.http.browser_guard import may_be_browser
from trough.protocols.http.headers import (
    CHALLENGE_PATH,
    CODE_HEADER,
    CONSOLE_HEADER,
    PROOF,
    REASON_PREFIX,
    TICKET_PATH,
)
from trough.protocols.http.request import Request, finished, write_json, write_response
from trough.protocols.peer import shows_certificate

_log = Logger()

#: Headers that describe rows, and not an error.
_OF_ANSWERS = (b"etag", b"cache-control", b"content-encoding")

#: No page may run or show what is answered, nor take it for another type.
_PROTECTING = {
    b"vary": b"Accept, Accept-Encoding, Origin",
    b"x-content-type-options": b"nosniff",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}

#: Headers that a page of a configured origin may see.
_EXPOSED = b"etag, x-trough-error, x-trough-state, x-trough-missing"


class Resource(resource.Resource):
    """A resource whose errors become responses in one place.

    :param gate: knows what tokens give; None: no client needs one
    :cvar segment_in_host: whether ``Host: ID.anything`` may name a segment
    :cvar needs: rights of which the client has to have one, for any request
    """

    isLeaf = True
    error_as_json = True
    #: What the requests of a port are called in the metrics.
    verb = "other"
    segment_in_host = False
    needs = EVERY_RIGHT

    def __init__(self, gate: Gate | None = None) -> None:
        super().__init__()
        self.gate = gate or Gate()

    def render(self, request: Request) -> int:
        request.site.began(request)
        try:
            if request.too_large:
                raise request.body_too_large()
            if may_be_browser(name for name, _ in request.requestHeaders.getAllRawHeaders()):
                request.site.guard.check(
                    request.method.decode("ascii", "replace"), request.header, self.segment_in_host
                )
            if request.method == b"OPTIONS" and _answer_preflight(request):
                return server.NOT_DONE_YET
            if request.path in (CHALLENGE_PATH, TICKET_PATH):
                self._answer_peer(request)
            else:
                self._authenticate(request)
                self.handler(request)(request)
        except errors.Unauthorized as error:
            self._refuse(request, error)
        except Exception:
            self.fail(request, Failure())
        return server.NOT_DONE_YET

    def verb_of(self, request: Request) -> str:
        """What a request is called in the metrics; one of a fixed set."""
        return self.verb

    def handler(self, request: Request) -> Callable[[Request], None]:
        """What serves this request.

        :raises trough.errors.TroughError: nothing does
        """
        raise NotImplementedError

    def is_authorized(self, request: Request) -> bool:
        """Whether a request, of which only the headers need be here, may be served."""
        grant = self._grant(request)
        return grant is not None and bool(grant.rights & self.needs)

    def _grant(self, request: Request) -> Grant | None:
        if request.grant is None:
            request.grant = self.gate.grant_of_header(request.getHeader(b"authorization"))
        return request.grant

    def _authenticate(self, request: Request) -> None:
        grant = self._grant(request)
        if grant is None and request.getHeader(b"authorization"):
            raise wrong_token()
        if grant is None:
            raise errors.Unauthorized(
                "this server wants a token", "send the header Authorization: Bearer TOKEN"
            )
        grant.check(self.needs)
        if grant.rights == PEER:
            self.gate.check_certificate(grant, lambda: shows_certificate(request.transport))

    def _refuse(self, request: Request, error: errors.Unauthorized) -> None:
        """Answer a client that has no token, or later if it has a wrong one."""
        # A browser opens its own dialogue for Basic; the web console has a page for that.
        basic = () if request.requestHeaders.hasHeader(CONSOLE_HEADER) else (b"Basic",)
        for scheme in (b"Bearer", *basic):
            request.responseHeaders.addRawHeader(b"www-authenticate", scheme + b' realm="Trough"')
        client, wrong = request.channel.client, self.gate.wrong
        delay = wrong.delay(client) if request.getHeader(b"authorization") else 0.0
        if delay is None:
            request.abort()
        elif delay:
            later = request.channel.callLater(delay, self.fail, request, Failure(error))
            request.notifyFinish().addBoth(lambda _: _end_wait(later, wrong, client))
        else:
            self.fail(request, Failure(error))

    def _answer_peer(self, request: Request) -> None:
        """Challenge another server, or give it a ticket for what it proved.

        :raises trough.errors.NotFound: this server asks for no token
        """
        if not self.gate.is_closed:
            raise errors.NotFound("this server asks for no token")
        if request.path == CHALLENGE_PATH:
            write_json(request, 200, {"nonce": self.gate.challenge()})
            return
        header = request.getHeader(b"authorization") or b""
        words = header.decode("latin-1").split(" ")
        if len(words) not in (4, 5) or words[0] != PROOF:
            raise wrong_token()
        proved = self.gate.grant_of_proof(*words[1:])
        if proved is None:
            raise wrong_token()
        grant, server_proof = proved
        ticket = self.gate.new_ticket(grant)
        answer = {"ticket": ticket, "seconds": TICKET_SECONDS, "proof": server_proof}
        write_json(request, 200, answer)

    def run(self, request: Request, work: Coroutine[Any, Any, Any]) -> None:
        """Await `work`, and write the response that it returns."""
        running: Deferred[Any] = Deferred.fromCoroutine(work)
        request.cancel_work = request.cancel_work or running.cancel
        gone = request.notifyFinish()
        gone.addErrback(lambda _: running.cancel())
        running.addCallback(self._respond, request)
        running.addErrback(lambda failure: self.fail(request, failure))

    def _respond(self, answer: Any, request: Request) -> None:
        if answer is None or finished(request):
            return
        status, content_type, body = answer
        write_response(request, status, content_type, body)

    def fail(self, request: Request, failure: Failure) -> None:
        """Answer with an error; once a part of the answer is out, cut it off.

        A response that ends without its closing bracket, on a connection that is reset,
        is one that no client can take for a whole one.
        """
        if finished(request):
            return
        error = failure.value
        if isinstance(error, CancelledError):  # by a shutdown: the client is still there
            error = errors.Cancelled("the server is shutting down", "ask again in a moment")
        if not isinstance(error, errors.TroughError):
            _log.failure("{uri}: failed", failure=failure, uri=_shown(request))
            error = errors.TroughError("an error inside the server, which is in its log")
        if isinstance(error, errors.Forbidden) and request.grant and request.about is None:
            what = f"{request.method.decode('latin-1')} {request.path.decode('latin-1')}"
            request.note("refused", error.code, request=what[:200], reason=error.message)
        if request.startedWriting:
            _log.warn("{uri}: cut off: {reason}", uri=_shown(request), reason=error)
            request.abort()
            return
        for name in _OF_ANSWERS:
            request.responseHeaders.removeHeader(name)
        request.setHeader(CODE_HEADER, error.code.encode())
        if self.error_as_json:
            said: dict[str, str] = {"error": str(error), "code": error.code}
            if isinstance(error, errors.Moved):
                said["node"] = error.node
            write_json(request, error.status, said)
        else:
            body = REASON_PREFIX + str(error).encode("utf-8", "replace") + b"\n"
            write_response(request, error.status, b"text/plain; charset=utf-8", body)


def _shown(request: Request) -> str:
    return request.uri.decode("utf-8", "backslashreplace")


def prepare_read(request: Request) -> None:
    """Set the headers that limit who may read the answer to a GET that runs a query.

    :raises trough.errors.ForeignPage: a web page sends it, and may not
    """
    guard = request.site.guard
    guard.check_read(request.header)
    origin = guard.shared_with(request.header).encode()
    for name, value in _PROTECTING.items():
        request.setHeader(name, value)
    if origin:
        request.setHeader(b"access-control-allow-origin", origin)
        request.setHeader(b"access-control-expose-headers", _EXPOSED)
        request.setHeader(b"cross-origin-resource-policy", b"cross-origin")


def _answer_preflight(request: Request) -> bool:
    """Let a page of a configured origin send its GET; whether this is such a page."""
    guard = request.site.guard
    if not guard.is_preflight(request.header):
        return False
    request.setHeader(b"access-control-allow-origin", guard.shared_with(request.header).encode())
    request.setHeader(b"access-control-allow-methods", b"GET")
    request.setHeader(b"access-control-allow-headers", b"authorization, if-none-match")
    request.setHeader(b"vary", b"Origin")
    write_response(request, http.NO_CONTENT, b"", b"")
    return True


def _end_wait(later: IDelayedCall, wrong: WrongTokens, client: str) -> None:
    """The answer to a wrong token was sent, or its client is gone."""
    wrong.answered(client)
    if later.active():
        later.cancel()
