"""One GATHER in a process of its own, for a caller that blocks.

It sends the same messages as the Twisted client (:mod:`trough.cluster_client.gather_process`), over
a blocking socket: the shell and the drivers import no reactor, which takes longer to import than a
statement takes to run. The end of the ``with`` block kills the process in any state.
"""

from __future__ import annotations

import select
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from trough import errors
from trough.executors import ipc
from trough.gather import messages
from trough.gather.limits import check_segment_rows
from trough.util import child_process

#: Bytes that SQLite may use in the process.
MEMORY = 512 << 20

_RECEIVE_SIZE = 1 << 18


class BlockingGathering:
    """See the module; the methods are those of :class:`trough.gather.session.GatherSession`, with
    generators that yield None now and then where there is something to wait for.

    :ivar names: of the answer's columns, once they are known
    :ivar satisfied: queries under way are not needed any more
    :ivar missing: segments that failed, once there is an answer or none
    :ivar too_few: there is no answer because of those
    :raises trough.errors.Unavailable: the system starts no process
    """

    def __init__(
        self,
        sql: str,
        segments: Sequence[str],
        values: Sequence[Any] | None,
        *,
        partial: bool,
        within: bool,
        now: float,
    ) -> None:
        self.names: tuple[str, ...] = ()
        self.repeatable = False
        self.satisfied = False
        self.missing: Mapping[str, errors.TroughError] = {}
        self.too_few = False
        self._passed: list[Sequence[Any]] = []
        self._parser = ipc.ChildFrameParser()
        self._answer: ipc.Message | None = None
        self._process, self._socket = child_process.start_with_socket(
            "trough.gather.process", MEMORY
        )
        self._socket.setblocking(False)
        parameters = None if values is None else list(values)
        begin = (messages.BEGIN, sql, tuple(segments), parameters, partial, within, now, None)
        for _ in self._send(begin, 3600.0):
            pass

    def close(self) -> None:
        """Kill the process. Idempotent."""
        self._socket.close()
        child_process.reaped(self._process)

    # -- what segments send --------------------------------------------------------------

    def send(self, message: ipc.Message, tick: float) -> Generator[None, None, None]:
        """Report what a segment sent, and take the messages of the process.

        :raises trough.errors.LimitExceeded: a row of it is too large
        """
        if message[0] == messages.ROWS and isinstance(message[2], bytes):
            check_segment_rows(message[1], message[2])
        return self._send(message, tick)

    def take(self) -> list[Sequence[Any]]:
        """Rows that may be passed on already."""
        passed, self._passed = self._passed, []
        return passed

    # -- questions -----------------------------------------------------------------------

    def next_requests(self, tick: float) -> Generator[None, None, list[Any]]:
        """What to ask the segments: segments, sql and parameters of each request.

        :raises trough.errors.TroughError: it cannot be answered
        """
        _, requests, names, self.repeatable = yield from self._ask(messages.NEXT, tick)
        self.names = names
        return requests

    def more(self, tick: float) -> Generator[None, None, tuple[list[Sequence[Any]], bool]]:
        """Some rows of the final step, and whether they are the last.

        :raises trough.errors.TroughError: it failed, or segments have
        """
        _, rows, missing = yield from self._ask(messages.MORE, tick)
        if missing is not None:
            self.missing = messages.failures_of(missing)
        return list(rows), missing is not None

    def explanation(self, tick: float) -> Generator[None, None, str | None]:
        """The plan as text, or None while there is none."""
        _, text = yield from self._ask(messages.EXPLAIN, tick)
        return text

    def _ask(self, question: int, tick: float) -> Generator[None, None, Any]:
        yield from self._send((question,), tick)
        while self._answer is None:
            if select.select([self._socket], [], [], tick)[0]:
                self._receive()
            else:
                yield None
        answer, self._answer = self._answer, None
        if answer[0] != messages.REFUSED:
            return answer
        code, message, hint, rest, self.too_few, missing = answer[1:]
        self.missing = messages.failures_of(missing)
        raise messages.error_of(code, message, hint, rest)

    # -- the socket ----------------------------------------------------------------------

    def _send(self, message: ipc.Message, tick: float) -> Generator[None, None, None]:
        unsent = memoryview(ipc.frame([message]))
        while unsent:
            # The process may have to send before it can receive.
            readable, writable, _ = select.select([self._socket], [self._socket], [], tick)
            if readable:
                self._receive()
            if writable:
                try:
                    unsent = unsent[self._socket.send(unsent) :]
                except OSError as error:
                    raise _died() from error
            if not (readable or writable):
                yield None
        if select.select([self._socket], [], [], 0)[0]:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_RECEIVE_SIZE)
        except OSError:
            data = b""
        if not data:
            raise _died()
        for message in self._parser.receive_data(data):
            if message[0] == messages.PASSED:
                self._passed += messages.passed_rows(*message[1:])
            elif message[0] == messages.SATISFIED:
                self.satisfied = True
            else:
                self._answer = message


def _died() -> errors.Unavailable:
    return errors.Unavailable("the process that put the GATHER together died", "ask again")
