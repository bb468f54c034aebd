"""The line protocol's client for programs that wait: one request at a time, on one connection.

It gives the guarantees of :class:`trough.protocols.line.client.LineConnection` for a query. It
imports no reactor, since that import takes longer than a short query. A caller that reads nothing
of an answer leaves it in the socket, so the server stops sending. A lost connection is
:class:`trough.errors.Unavailable`; no request is sent twice.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

from trough import errors
from trough.protocols.line.framing import FINAL, ReplyParser
from trough.protocols.line.handshake import ReplyLine, handshake, server_address
from trough.protocols.line.messages import Greeting, format_query, parse_error
from trough.protocols.line.query_replies import QueryListener, Summary, deliver, parse_summary
from trough.protocols.line.values import Parameters
from trough.tls import TlsFiles
from trough.util.tls_problems import tls_problem

#: Seconds within which a server has to take a connection and greet.
CONNECT_SECONDS = 5.0

#: Seconds without a byte after which the server is pinged; as many more, and it is given up.
SILENCE_SECONDS = 30.0

_CHUNK = 1 << 18
_IGNORED = b"-"  # tag of what is sent without wanting an answer


class BlockingConnection:
    """A connection to one server of the line protocol. For one thread.

    :param address: ``host:port`` or ``tls://host:port``
    :param token: to prove where the server asks for it; it is never sent, and no request before
        the server has proved that it knows the token, too
    :param tls: the CAs to trust; None: the CAs of the system
    :ivar address: see above
    :ivar greeting: of the server
    :raises trough.errors.Unavailable: no server answers there, it is not Trough, or it does not
        prove that it knows the token
    :raises trough.errors.Unauthorized: the token is missing or wrong
    """

    def __init__(
        self,
        address: str,
        token: str | None = None,
        tls: TlsFiles | None = None,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self.address = address
        self._silence = silence
        self._last_tag = 0
        self._tags: list[bytes] = []
        self._parser = ReplyParser()
        self._socket = _connected(address, tls or TlsFiles())
        try:
            self._socket.settimeout(silence)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._poll = select.poll()  # and not select(), which knows 1024 descriptors
            self._poll.register(self._socket, select.POLLIN)
            self.greeting = self._be_greeted(token)
        except BaseException:
            self.close()
            raise

    def query(
        self,
        segments: Iterable[str],
        sql: str,
        parameters: Parameters | None,
        listener: QueryListener,
        tick: float,
    ) -> Iterator[Summary | None]:
        """Ask segments that the server holds; the listener is called between two steps.

        Leaving it before its end makes the connection useless: close it.

        :param tick: seconds that a step may wait
        :return: None after each line and each tick, the summary at the end
        :raises trough.errors.TroughError: the query as a whole failed
        """
        for found in self.ask(lambda tag: format_query(tag, segments, sql, parameters), tick):
            if found is None:
                yield None
            elif found[0] == b"END":
                yield parse_summary(found[1])
            elif found[0] == b"ERR":
                raise parse_error(found[1])
            else:
                deliver(listener, *found)
                yield None

    def ask(
        self, request: Callable[[bytes], bytes], tick: float
    ) -> Iterator[tuple[bytes, bytes] | None]:
        """Send any request, and give word and rest of each line of its answer.

        Leaving it before its end makes the connection useless: close it.

        :param request: makes the bytes to send, from the tag
        :param tick: seconds that a step may wait
        :return: None after each tick in which nothing came; the last line's word is in
            :data:`trough.protocols.line.framing.FINAL`
        :raises trough.errors.Unavailable: the connection was lost; it is not usable any more
        """
        self._last_tag += 1
        tag = b"%d" % self._last_tag
        self._tags = [tag]
        self._send(request(tag))
        for found in self._replies(tick):
            if found is None:
                yield None
            elif found[0] == tag:
                yield found[1:]
                if found[1] in FINAL:
                    return

    def ask_all(
        self, requests: Sequence[Callable[[bytes], bytes]], tick: float
    ) -> Iterator[tuple[int, tuple[bytes, bytes]] | None]:
        """Send requests at once, and give the last line of each answer as it comes.

        The server begins them in this order. What it answers has to be short, since nothing is
        read before all is sent. Leaving it before its end makes the connection useless.

        :return: the place of the request, and word and rest; else as :meth:`ask`
        :raises trough.errors.Unavailable: the connection was lost; it is not usable any more
        """
        places = {b"%d" % (self._last_tag + place + 1): place for place in range(len(requests))}
        self._last_tag += len(requests)
        self._tags = list(places)
        made = [request(tag) for request, tag in zip(requests, places, strict=True)]
        self._send(b"".join(made))
        for found in self._replies(tick):
            if found is None:
                yield None
            elif found[0] in places and found[1] in FINAL:
                yield places.pop(found[0]), found[1:]
                if not places:
                    return

    def cancel(self) -> None:
        """Ask the server to end what is under way; each last line still comes.

        :raises trough.errors.Unavailable: the connection was lost
        """
        self._send(b"".join(b"%b CANCEL %b\n" % (_IGNORED, tag) for tag in self._tags))

    def is_idle(self) -> bool:
        """Whether nothing came since the last answer: no farewell, and no end."""
        return not self._poll.poll(0)

    def close(self) -> None:
        """Close the connection, which ends what is under way. Idempotent."""
        self._socket.close()

    def _be_greeted(self, token: str | None) -> Greeting:
        replies = self._replies(CONNECT_SECONDS)
        steps = handshake(token, self.address)
        self._send(next(steps))
        while True:
            try:
                self._send(steps.send(_first(replies)))
            except StopIteration as done:
                return cast(Greeting, done.value)

    def _replies(self, tick: float) -> Iterator[ReplyLine | None]:
        """Tag, word and rest of what comes; None after `tick` seconds in which nothing did."""
        # Only waiting counts: the caller may let hours pass between two steps.
        silent, pinged = 0.0, False
        while True:
            for reply in self._parser.replies():
                if reply[1] == b"BYE":
                    raise errors.Unavailable(f"the server said goodbye: {parse_error(reply[2])}")
                yield reply
            began = time.monotonic()
            if self._poll.poll(tick * 1000):
                self._parser.receive_data(self._receive())
                silent, pinged = 0.0, False
                continue
            silent += time.monotonic() - began
            if silent > 2 * self._silence:
                raise errors.Unavailable(f"the server was silent for {silent:.0f} s")
            if silent > self._silence and not pinged:
                pinged = True
                self._send(b"%b PING\n" % _IGNORED)
            yield None

    def _receive(self) -> bytes:
        try:
            data = self._socket.recv(_CHUNK)
        except OSError as error:
            raise errors.Unavailable(f"the connection was lost: {error}") from error
        if not data:
            raise errors.Unavailable("the server closed the connection")
        # A poll does not report what TLS has decrypted already.
        pending = getattr(self._socket, "pending", None)
        while pending is not None and pending():
            data += self._socket.recv(_CHUNK)
        return data

    def _send(self, request: bytes) -> None:
        try:
            self._socket.sendall(request)
        except OSError as error:
            raise errors.Unavailable(f"the connection was lost: {error}") from error


def _first(replies: Iterator[ReplyLine | None]) -> ReplyLine:
    found = next(replies)
    if found is None:
        raise errors.Unavailable(f"no greeting came within {CONNECT_SECONDS:g} s")
    return found


def _connected(address: str, tls: TlsFiles) -> socket.socket:
    """A connection to `address`, over which a host with TLS has proved who it is.

    :raises trough.errors.Unavailable: there is none to be had
    """
    host, port, encrypted = server_address(address, tls)
    try:
        connected = socket.create_connection((host, port), CONNECT_SECONDS)
    except OSError as error:
        raise errors.Unavailable(f"{address}: cannot connect: {error}") from error
    if not encrypted:
        return connected
    # Takes as long to be imported as the rest of this.
    from trough.tls.blocking import client_context

    try:
        return client_context(tls.known_ca).wrap_socket(connected, server_hostname=host)
    except BaseException as error:
        connected.close()
        if isinstance(error, OSError):
            problem = tls_problem(error) or error
            raise errors.Unavailable(f"{address}: cannot connect: {problem}") from error
        raise
