"""The line protocol's client for asyncio: one request at a time, on one connection.

It gives the guarantees of :class:`trough.protocols.line.blocking.BlockingConnection`. Data that its
caller does not read stays in a small buffer and in the socket, so the server stops sending.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from trough import errors
from trough.protocols.line.framing import FINAL, ReplyParser
from trough.protocols.line.handshake import ReplyLine, handshake, server_address
from trough.protocols.line.messages import Greeting, parse_error
from trough.tls import TlsFiles
from trough.tls.blocking import client_context
from trough.util.tls_problems import tls_problem

#: Seconds within which a server has to accept a connection and greet.
CONNECT_SECONDS = 5.0

#: Seconds without a byte after which the client pings the server. After as many more it gives up.
SILENCE_SECONDS = 30.0

#: Bytes to read ahead; the buffer holds at most twice as many.
_AHEAD = 1 << 17

_IGNORED = b"-"  # tag of requests whose answer is ignored


class _Reader(asyncio.StreamReader):
    """Counts its unread bytes."""

    unread = 0

    def feed_data(self, data: Any) -> None:
        self.unread += len(data)
        super().feed_data(data)


class LineStream:
    """A connection to one server; :func:`open_stream` makes one.

    :ivar address: see there
    :ivar greeting: of the server
    """

    greeting: Greeting

    def __init__(
        self,
        address: str,
        reader: _Reader,
        writer: asyncio.StreamWriter,
        silence: float,
    ) -> None:
        self.address = address
        self._reader = reader
        self._writer = writer
        self._silence = silence
        self._parser = ReplyParser()
        self._last_tag = 0

    async def greet(self, token: str | None) -> None:
        """Take the greeting, and prove the token if the server asks for it.

        :raises trough.errors.TroughError: see
            :func:`trough.protocols.line.handshake.handshake`
        """
        replies = self._replies()
        steps = handshake(token, self.address)
        await self._send(next(steps))
        while True:
            try:
                await self._send(steps.send(await anext(replies)))
            except StopIteration as done:
                self.greeting = done.value
                await replies.aclose()
                return

    async def ask(self, request: Callable[[bytes], bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        """Send a request, and yield word and rest of each line of its answer.

        A caller that stops before the end has to close the connection: it is no longer usable.

        :param request: makes the bytes to send, from the tag
        :raises trough.errors.TroughError: the connection is no longer usable, or nothing was sent
        """
        self._last_tag += 1
        tag = b"%d" % self._last_tag
        await self._send(request(tag))
        async for found in self._replies():
            if found[0] == tag:
                yield found[1:]
                if found[1] in FINAL:
                    return

    def is_idle(self) -> bool:
        """Whether the server has sent nothing, and has not closed the connection."""
        return not (self._reader.unread or self._reader.at_eof() or self._writer.is_closing())

    def close(self) -> None:
        """Close the connection, which ends the request under way. Idempotent."""
        self._writer.transport.abort()

    async def _replies(self) -> AsyncGenerator[ReplyLine, None]:
        pinged = False
        while True:
            for reply in self._parser.replies():
                if reply[1] == b"BYE":
                    raise errors.Unavailable(f"the server said goodbye: {parse_error(reply[2])}")
                yield reply
            try:
                async with asyncio.timeout(self._silence):
                    data = await self._reader.read(_AHEAD)
            except TimeoutError as error:
                if pinged:
                    silent = 2 * self._silence
                    message = f"the server was silent for {silent:g} s"
                    raise errors.Unavailable(message) from error
                pinged = True
                await self._send(b"%b PING\n" % _IGNORED)
                continue
            except OSError as error:
                raise errors.Unavailable(f"the connection was lost: {error}") from error
            if not data:
                raise errors.Unavailable("the server closed the connection")
            pinged = False
            self._reader.unread -= len(data)
            self._parser.receive_data(data)

    async def _send(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise errors.Unavailable(f"the connection was lost: {error}") from error


async def open_stream(
    address: str, token: str | None, tls: TlsFiles, silence: float = SILENCE_SECONDS
) -> LineStream:
    """Connect to a server.

    :param address: ``host:port`` or ``tls://host:port``
    :param token: proves the client's identity if the server asks for it; it is never sent
    :param silence: seconds; see :data:`SILENCE_SECONDS`
    :raises trough.errors.Unavailable: no server answers there, or it is not Trough
    :raises trough.errors.Unauthorized: the token is missing or wrong
    """
    host, port, encrypted = server_address(address, tls)
    context = client_context(tls.known_ca) if encrypted else None
    stream = None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            loop = asyncio.get_running_loop()
            reader = _Reader(_AHEAD)
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await loop.create_connection(lambda: protocol, host, port, ssl=context)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            stream = LineStream(address, reader, writer, silence)
            await stream.greet(token)
    except BaseException as error:
        if stream is not None:
            stream.close()
        if isinstance(error, TimeoutError):
            raise errors.Unavailable(
                f"{address}: no greeting came within {CONNECT_SECONDS:g} s"
            ) from error
        if isinstance(error, (OSError, ssl.SSLError)):
            problem = tls_problem(error) or error
            raise errors.Unavailable(f"{address}: cannot connect: {problem}") from error
        raise
    return stream


async def closed(stream: LineStream) -> None:
    """Close a stream, and wait until its socket is closed."""
    stream.close()
    with suppress(OSError, ssl.SSLError):
        await stream._writer.wait_closed()
