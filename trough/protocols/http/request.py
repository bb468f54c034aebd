"""A request over HTTP, and how it is answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import NO_BODY_CODES, NO_CONTENT

from trough import errors
from trough.access.rights import PEER, Grant
from trough.protocols.http.headers import CLIENT_HEADER, REASON_PREFIX

#: Of a body that is too large, this many times the limit is read and dropped, so that the
#: client sees the answer and can keep its connection. A client that announces more, or asks
#: before sending, is answered at once. The connection of a client that sends more is reset.
PATIENCE = 16

_UNREAD = (
    b"HTTP/1.1 413 Request Entity Too Large\r\n"
    b"Connection: close\r\n"
    b"X-Trough-Error: too-large\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n\r\n%s"
)


class _Discard(BytesIO):
    """Takes a body that is not read: it is too large, or from a stranger."""

    def write(self, data: Any) -> int:
        return len(data)


class Request(server.Request):
    """A request whose body has a limit, and whose headers hold no more than needed."""

    max_body = 64 * 1024 * 1024
    too_large = False
    channel: Any
    content: BytesIO
    site: Any  # a trough.protocols.http.site.Site
    #: What the client may do, once that was checked.
    grant: Grant | None = None
    #: Further keys of the request's entry in the audit log, where it has one.
    about: dict[str, object] | None = None
    #: Ends the work for the request, which then answers with the resulting error.
    cancel_work: Callable[[], object] | None = None
    #: Called when the client is gone before the end of the answer.
    when_gone: Callable[[], object] | None = None
    _received = 0
    _answered = False

    def gotLength(self, length: int | None) -> None:
        if length is not None and length > self.max_body:
            self._refuse_body(length)
        elif not self.channel.site.resource.is_authorized(self):
            # The resource answers it; until then a stranger takes no memory.
            self.content = _Discard()
        else:
            # In memory at any size: the limit bounds it, and a temporary file on disk
            # would only be read back at once.
            self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self.max_body and not self.too_large:
            self._refuse_body(self._received)
        if self._received > self.max_body * PATIENCE:
            self.abort()
            return
        self.content.write(data)

    def _refuse_body(self, length: int) -> None:
        self.too_large = True
        self.content = _Discard()
        waits = self.requestHeaders.getRawHeaders(b"expect", [b""])[0].lower() == b"100-continue"
        if waits or length > self.max_body * PATIENCE:
            self._refuse_unread(waits)

    def _refuse_unread(self, waits: bool) -> None:
        """Answer now, and let the connection end: what follows is not worth reading.

        :param waits: whether the client sends its body only on request; for another client the
            connection stays open, or the bytes already sent would reset it before the client
            sees the answer
        """
        self.requestHeaders.removeHeader(b"expect")
        self._answered = True
        said = REASON_PREFIX + str(self.body_too_large()).encode() + b"\n"
        self.channel.write(_UNREAD % (len(said), said))
        if waits:
            self.channel.loseConnection()

    def body_too_large(self) -> errors.TooLarge:
        """What is wrong with a body that is too large."""
        return errors.TooLarge(f"the body has more than {self.max_body} bytes", "send it in parts")

    def process(self) -> None:
        """Serve the request, now that its body is here."""
        if self._answered:
            self.channel.loseConnection()
        else:
            self.path = _path_of(self.path)
            super().process()

    def write(self, data: bytes) -> None:
        """Send a piece of the answer; one with a length leaves in one piece with its headers."""
        if self.startedWriting or self._needs_care():
            super().write(data)
        else:
            self.startedWriting = True
            self.sentLength = len(data)
            lines = [b"%b %d %b\r\n" % (self.clientproto, self.code, self.code_message)]
            for name, values in self.responseHeaders.getAllRawHeaders():
                lines += [b"%b: %b\r\n" % (name, value) for value in values]
            self.channel.send(b"%b\r\n%b" % (b"".join(lines), data))

    def _needs_care(self) -> bool:
        """Whether Twisted has to look at an answer: it has no body, or headers that are made
        when it is written."""
        headers = self.responseHeaders
        return bool(
            not headers.hasHeader(b"content-length")
            or not headers.hasHeader(b"content-type")
            or self.finished
            or self._disconnected
            or self.method == b"HEAD"
            or self.code in NO_BODY_CODES
            or self.cookies
            or self.etag is not None
            or self.lastModified is not None
            or self._encoder is not None
        )

    def finish(self) -> None:
        super().finish()
        self.site.ended(self)

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        # The site does not have a request before it is whole.
        if self.site is not None:
            self.site.ended(self, lost=True)
        gone, self.when_gone = self.when_gone, None
        if gone is not None:
            gone()

    def abort(self) -> None:
        """Reset the connection, so that the client does not take what was sent for an answer."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def tell(self, **more: object) -> None:
        """Add what the request is about to its entry in the audit log."""
        if self.about is not None:
            self.about |= more

    def note(self, act: str, outcome: str, **more: object) -> None:
        """Note in the audit log, if there is one, what this request did.

        See :meth:`trough.access.audit.AuditLog.note`.
        """
        audit = self.site.resource.gate.audit
        if audit is None:
            return
        token, via = self.allowed.name, ""
        if self.allowed.rights & PEER and (client := self.getHeader(CLIENT_HEADER)):
            token, _, peer = client.decode("utf-8", "replace").rpartition(" ")
            via = self.channel.client
        else:
            peer = self.channel.client
        audit.note(act, outcome, token, peer, via=via, **more)

    @property
    def allowed(self) -> Grant:
        """What the client may do, which was looked at before."""
        assert self.grant is not None
        return self.grant

    def header(self, name: str) -> list[str]:
        """All values of a header; a client may send what is no UTF-8."""
        values = self.requestHeaders.getRawHeaders(name.encode(), [])
        return [value.decode("utf-8", "replace") for value in values]

    def body(self) -> bytes:
        """The whole body."""
        return bytes(self.content.getvalue())


def _path_of(target: bytes) -> bytes:
    """The path that a request asks for, where it may name the whole URL (RFC 9112, 3.2.2)."""
    scheme, separator, rest = target.partition(b"://")
    return b"/" + rest.partition(b"/")[2] if separator and b"/" not in scheme else target


def as_text(data: bytes) -> str:
    """A name out of a request. What is not UTF-8 is refused: another name would be meant.

    :raises trough.errors.BadRequest: it is not UTF-8
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise errors.BadRequest(
            f"not UTF-8: {ascii(data[:80])[1:]}", "escape it in a URL: %C3%BC is one letter"
        ) from error


def finished(request: Request) -> bool:
    """Whether nothing can be written to `request` any more."""
    return bool(request.finished or request._disconnected)


def write_response(request: Request, status: int, content_type: bytes, body: bytes) -> None:
    """Answer with a whole body, and end the request."""
    request.setResponseCode(status)
    if content_type:
        request.setHeader(b"content-type", content_type)
    if status != NO_CONTENT:
        request.setHeader(b"content-length", b"%d" % len(body))
    if request.method != b"HEAD" and body:
        request.write(body)
    request.finish()


def write_json(request: Request, status: int, answer: object) -> None:
    """Answer with JSON, and end the request."""
    body = json.dumps(answer).encode() + b"\n"
    write_response(request, status, b"application/json", body)


def as_json(answer: object, status: int = 200) -> tuple[int, bytes, bytes]:
    """A response for :meth:`Resource.run`."""
    return status, b"application/json", json.dumps(answer).encode() + b"\n"
