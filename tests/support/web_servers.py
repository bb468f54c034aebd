"""Small real HTTP servers for tests of clients: each answers as the test says."""

from __future__ import annotations

from twisted.internet import defer, endpoints, protocol
from twisted.protocols import policies
from twisted.web import resource, server


class Answers(resource.Resource):
    """Answers every request by a function of the test.

    :ivar requests: what was asked: method, URI, body
    """

    isLeaf = True

    def __init__(self, answer) -> None:
        super().__init__()
        self._answer = answer
        self.requests = []
        self.connections = set()

    def render(self, request):
        asked = (request.method.decode(), request.uri.decode(), request.content.read())
        self.requests.append(asked)
        self.connections.add(request.transport.getPeer().port)
        status, body, *headers = self._answer(*asked)
        request.setResponseCode(status)
        for name, value in headers:
            request.setHeader(name, value)
        return body


class Listening:
    """A port of loopback on which a factory listens."""

    def __init__(self, reactor, factory) -> None:
        self._endpoint = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self._factory = factory
        self._port = None

    async def __aenter__(self) -> Listening:
        self._port = await self._endpoint.listen(self._factory)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._port.stopListening()

    @property
    def port(self) -> int:
        return self._port.getHost().port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


class WebServer(Listening):
    """An HTTP server that answers by a function: (method, uri, body) to (status, body,
    header pairs...)."""

    def __init__(self, reactor, answer) -> None:
        self.resource = Answers(answer)
        self._site = _Connected(server.Site(self.resource))
        super().__init__(reactor, self._site)

    async def __aexit__(self, *exc_info: object) -> None:
        await super().__aexit__(*exc_info)
        await self.drop_connections()

    @property
    def requests(self):
        return self.resource.requests

    async def drop_connections(self) -> None:
        """Close every connection that a client keeps, and wait until they are closed."""
        for connection in list(self._site.protocols):
            connection.loseConnection()
        await self._site.none_left()


class _Connected(policies.WrappingFactory):
    """Knows its connections, and when there are none."""

    def __init__(self, wrapped) -> None:
        super().__init__(wrapped)
        self._waiting = []

    def unregisterProtocol(self, connection) -> None:
        super().unregisterProtocol(connection)
        if not self.protocols:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def none_left(self) -> defer.Deferred[None]:
        """Fires when no client is connected."""
        if not self.protocols:
            return defer.succeed(None)
        self._waiting.append(defer.Deferred())
        return self._waiting[-1]


class _Silent(protocol.Protocol):
    """Reads a whole request, says what the test wants said, and closes."""

    def connectionMade(self) -> None:
        self._got = b""

    def dataReceived(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            ),
            0,
        )
        if end and len(body) >= length:
            self.factory.requests.append(self._got)
            self.transport.write(self.factory.said)
            self.transport.loseConnection()


class ClosingServer(Listening):
    """Takes each request whole, answers the bytes `said`, and closes."""

    def __init__(self, reactor, said: bytes = b"") -> None:
        factory = protocol.Factory.forProtocol(_Silent)
        factory.said = said
        factory.requests = []
        super().__init__(reactor, factory)

    @property
    def requests(self):
        return self._factory.requests


class HastyServer(Listening):
    """Drops every connection at the first bytes.

    :ivar connections: how many there were
    """

    def __init__(self, reactor) -> None:
        self.connections = 0
        factory = protocol.Factory()
        factory.buildProtocol = lambda address: self._hasty()
        super().__init__(reactor, factory)

    def _hasty(self):
        self.connections += 1
        hasty = protocol.Protocol()
        hasty.dataReceived = lambda data: hasty.transport.abortConnection()
        return hasty
