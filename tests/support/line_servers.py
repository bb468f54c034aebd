"""Small real servers of the line protocol for tests of clients.

They understand requests by the project's own parser, and answer whatever the test says:
line by line, waiting for the test in between, or dying.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from twisted.internet import protocol
from web_servers import Listening

from trough.protocols.line.arguments import parse_query_arguments, parse_write_arguments
from trough.protocols.line.framing import FramingLimits, RequestParser

#: In place of a line: close the connection after what was said, without another word.
DIE = object()


class LineServer(Listening):
    """Answers every request by a function of the test.

    :param answer: takes a :class:`Asked`; may be a coroutine function's equivalent by
        keeping it and answering later
    :ivar asked: every request, in order
    """

    def __init__(self, reactor, answer) -> None:
        self.asked = []
        self.connections = []
        self._answer = answer
        factory = protocol.Factory()
        factory.buildProtocol = lambda address: _Connection(self)
        super().__init__(reactor, factory)

    async def __aexit__(self, *exc_info: object) -> None:
        await super().__aexit__(*exc_info)
        self.die()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answer_with(self, answer) -> None:
        """From now on, this function answers."""
        self._answer = answer

    def die(self) -> None:
        """Drop every connection."""
        for connection in self.connections:
            connection.transport.abortConnection()
        self.connections = []


class Asked:
    """A request, and how to answer it.

    :ivar segments: of QUERY, in the order of the request
    """

    def __init__(self, connection, request) -> None:
        self._connection = connection
        self.request = request
        self.verb = request.verb
        self.segments = ()
        self.sql = ""
        if request.verb == "QUERY":
            self.query = parse_query_arguments(request)
            self.segments, self.sql = self.query.segments, self.query.sql
        elif request.verb == "WRITE":
            self.write = parse_write_arguments(request)
            self.segments, self.sql = (self.write.segment,), self.write.sql

    @property
    def words(self) -> list[str]:
        """The arguments as words, where no literal is among them."""
        return self.request.arguments.decode().split()

    def say(self, *lines) -> None:
        """Answer these lines, under the request's tag; :data:`DIE` closes."""
        transport = self._connection.transport
        for line in lines:
            if line is DIE:
                transport.loseConnection()
                return
            transport.write(f"{self.request.tag} {line}\n".encode())

    def end(self) -> None:
        """End a query's answer."""
        self.say(f"END segments={len(self.segments)} failed=0 rows=0 ms=1 complete=yes")

    def answer_segment(self, segment: str, cursor) -> None:
        """Answer for one segment with what a cursor of SQLite has."""
        rows = cursor.fetchall()
        self.say(f"COLS {segment} {json.dumps([item[0] for item in cursor.description])}")
        if rows:
            self.say(f"ROWS {segment} {json.dumps(rows)}")
        self.say(f"DONE {segment} {len(rows)}")

    def answer(self, rows: Mapping[str, list]) -> None:
        """Answer a query whole, from these rows by segment; others are nowhere."""
        for segment in self.segments:
            if segment in rows:
                self.say(f'COLS {segment} ["a"]')
                if rows[segment]:
                    self.say(f"ROWS {segment} [{','.join(f'[{row}]' for row in rows[segment])}]")
                self.say(f"DONE {segment} {len(rows[segment])}")
            else:
                self.say(f"FAIL {segment} no-segment no worker has a copy of it")
        self.end()


class _Connection(protocol.Protocol):
    def __init__(self, server) -> None:
        self._server = server
        self._parser = RequestParser(FramingLimits())

    def connectionMade(self) -> None:
        self._server.connections.append(self)
        self.transport.write(b"TROUGH 1 worker w01 max-line=65536 auth=none\n")

    def dataReceived(self, data: bytes) -> None:
        self._parser.receive_data(data)
        while (request := self._parser.next_request()) is not None:
            asked = Asked(self, request)
            self._server.asked.append(asked)
            self._server._answer(asked)
