"""A response whose body an encoder process writes.

The source of an answer writes portions in; encoded bytes go to the client as they come back. The
source is made to pause while the encoder or the client has enough, so that an answer of any size
takes bounded memory. The first encoded bytes wait for the next ones or for the end: what fails
until then is a whole error, and what fails later resets the connection.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.python.failure import Failure

from trough import errors
from trough.executors.pool.encoder_pool import EncoderPool
from trough.protocols.http.negotiation import CONTENT_TYPES, ReplyFormat
from trough.protocols.http.request import Request, finished, write_response

#: Bytes of an answer that are kept until it is known whether it is longer.
HELD = 1 << 16


class EncodedBody:
    """See the module. It is the producer of its request once it streams.

    :param fail: answers with an error, or resets the connection
    :param flow: called with whether the source should pause, when that changes
    :param held: bytes of the answer that are kept until it is known to be complete
    :raises trough.errors.Unavailable: the encoders have too much to do
    """

    def __init__(
        self,
        request: Request,
        reply: ReplyFormat,
        encoders: EncoderPool,
        fail: Callable[[Failure], None],
        flow: Callable[[bool], None],
        *,
        held: int = HELD,
    ) -> None:
        self._request = request
        self._reply = reply
        self._fail = fail
        self._flow = flow
        self._most_held = held
        self._held: list[bytes] = []
        self._size = 0
        self._streaming = self._client_is_slow = self._paused = self._over = False
        self._encoding = encoders.begin(reply.format, reply.compression, self)

    # -- the source --------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Encode a portion of the answer and send it."""
        if not self._over:
            self._encoding.write(data)
            self._set_flow()

    def end(self) -> None:
        """The answer is complete."""
        if not self._over:
            self._encoding.end()

    def abandon(self) -> None:
        """There will be no whole answer, and nothing more is sent here. Idempotent."""
        if not self._over:
            self._encoding.drop()
            self._close()

    @property
    def is_streaming(self) -> bool:
        """Whether a part of it was sent."""
        return self._streaming

    @property
    def is_paused(self) -> bool:
        """Whether the source should pause."""
        return self._paused

    # -- the encoder -------------------------------------------------------------------

    def data(self, chunk: bytes) -> None:
        """Encoded bytes."""
        if self._over:
            return
        if chunk and self._streaming:
            self._request.write(chunk)
        elif chunk:
            if self._held and self._size + len(chunk) > self._most_held:
                self._begin_streaming()
                self._request.write(chunk)
            else:
                self._held.append(chunk)
                self._size += len(chunk)
        self._set_flow()

    def finished(self, error: errors.TroughError | None) -> None:
        """All is encoded, or cannot be."""
        if not self._over:
            self._finish(error)

    def _begin_streaming(self) -> None:
        self._streaming = True
        held, self._held = self._held, []
        self._set_headers()
        self._request.write(b"".join(held))
        self._request.registerProducer(self, True)

    def _set_headers(self) -> None:
        self._request.setHeader(b"content-type", CONTENT_TYPES[self._reply.format].encode())
        if self._reply.compression:
            self._request.setHeader(b"content-encoding", self._reply.compression.encode())

    def _close(self) -> None:
        self._over = True
        if self._streaming and not finished(self._request):
            self._request.unregisterProducer()

    def _finish(self, error: BaseException | None) -> None:
        self._close()
        if error is not None:
            self._fail(Failure(error))
        elif finished(self._request):
            return
        elif self._streaming:
            self._request.finish()
        else:
            self._set_headers()
            kind = CONTENT_TYPES[self._reply.format].encode()
            write_response(self._request, 200, kind, b"".join(self._held))

    # -- back-pressure -----------------------------------------------------------------

    def _set_flow(self) -> None:
        pause = self._client_is_slow or self._encoding.is_full
        if pause != self._paused:
            self._paused = pause
            self._flow(pause)

    def pauseProducing(self) -> None:
        self._client_is_slow = True
        self._set_flow()

    def resumeProducing(self) -> None:
        self._client_is_slow = False
        self._set_flow()

    def stopProducing(self) -> None:
        """The client is gone; the request's end cancels what goes on."""
