"""The bodies of responses that a server gets from another server, read whole and bounded."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import PotentialDataLoss, ResponseDone
from twisted.web.iweb import IResponse

from trough import errors
from trough.util.error_text import error_text

#: Bytes of an answer that is read as a whole.
MAX_ANSWER = 64 << 20


async def read_content(response: IResponse, url: str, most: int = MAX_ANSWER) -> bytes:
    """The whole body, up to `most` bytes.

    :raises trough.errors.OutcomeUnknown: it did not come whole
    """
    body = _Body(most)
    response.deliverBody(body)
    try:
        return await body.done
    except CancelledError:
        raise
    except Exception as error:
        raise errors.OutcomeUnknown(f"no whole answer from {url}: {error_text(error)}") from error


class _Body(Protocol):
    """Takes in a body, up to a limit."""

    transport: Any

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._length = 0
        self.done: Deferred[bytes] = Deferred(lambda _: self.transport.stopProducing())

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)
        self._length += len(data)
        if self._length > self._most and not self.done.called:
            self.done.errback(errors.LimitExceeded(f"an answer of more than {self._most} bytes"))
            self.transport.stopProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._parts))
        else:
            self.done.errback(reason)
