"""The rows in a response of an original worker: an array of objects, one per line.

The reader passes rows on as they arrive. A response that ends without its closing bracket is a
failure, with any status. A row that arrives in many pieces is joined once. This module does not
depend on the server or the request.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import PotentialDataLoss, ResponseDone

from trough import errors
from trough.protocols.line.query_replies import QueryListener
from trough.protocols.line.values import Value

#: Bytes of one row.
MAX_ROW = 64 << 20


class RowLines(Protocol):
    """Turns the lines of a response into rows.

    :param most: rows; 0 or None for any number
    :param paused: whether to read nothing at first
    :ivar done: fires with the number of rows when all have come
    """

    transport: Any

    def __init__(
        self,
        segment: str,
        listener: QueryListener,
        most: int | None,
        paused: Callable[[], bool],
    ) -> None:
        self._paused = paused
        self._segment = segment
        self._listener = listener
        self._most = most
        # Of the line that has not ended, the pieces that have come, and their bytes.
        self._begun: list[bytes] = []
        self._length = 0
        self._count = 0
        self._whole = False
        self._names: tuple[str, ...] | None = None
        self.done: Deferred[int] = Deferred(lambda _: self._stop())

    def connectionMade(self) -> None:
        if self._paused():
            self.pause()

    def pause(self) -> None:
        """Read nothing until `resume`."""
        self.transport.pauseProducing()

    def resume(self) -> None:
        """End a pause."""
        self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        if self.done.called:
            return
        lines = self._ended_by(data)
        try:
            if self._length > MAX_ROW:
                raise errors.LimitExceeded(f"a row of more than {MAX_ROW} bytes")
            self._take(lines)
        except Exception as error:  # of the listener too: `done` fails with it
            self._end(error)

    def _ended_by(self, data: bytes) -> list[bytes]:
        """The lines that end in `data`. One that is long is put together once."""
        first, *more = data.split(b"\n")
        self._begun.append(first)
        self._length += len(first)
        if not more:
            return []
        lines = [b"".join(self._begun), *more[:-1]]
        self._begun, self._length = more[-1:], len(more[-1])
        return lines

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        try:
            if reason.check(ResponseDone, PotentialDataLoss):
                self._take([b"".join(self._begun)])
            if not self._whole:
                raise errors.Unavailable("the response ended before all rows had come")
            if self._names is None:
                self._listener.columns(self._segment, ())
        except Exception as error:
            self._end(error)
        else:
            self.done.callback(self._count)

    def _take(self, lines: list[bytes]) -> None:
        rows = []
        for line in lines:
            text = line.strip()
            if self._names is None:
                text = text.removeprefix(b"[")
            if text.endswith(b"]"):
                self._whole, text = True, text[:-1]
            text = text.strip().rstrip(b",")
            if text:
                rows.append(self._row(text))
        self._count += len(rows)
        if self._most and self._count > self._most:
            raise errors.LimitExceeded(f"more than {self._most} rows")
        if rows:
            self._listener.rows(self._segment, rows)

    def _row(self, text: bytes) -> list[Value]:
        try:
            row = json.loads(text)
            values = [_value(value) for value in row.values()]
        except (ValueError, AttributeError, TypeError, KeyError) as error:
            raise errors.TroughError(f"not a row as JSON: {text[:80]!a}") from error
        if self._names is None:
            self._names = tuple(row)
            self._listener.columns(self._segment, self._names)
        return values

    def _end(self, error: Exception) -> None:
        self._stop()
        self.done.errback(error)

    def _stop(self) -> None:
        # What a response is delivered from has this and no abortConnection(); what it
        # stands for has, and is closed at once by it.
        self.transport.stopProducing()


def _value(value: Any) -> Value:
    if isinstance(value, dict):
        return base64.b64decode(value["blob"])
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list):
        raise TypeError
    return value  # type: ignore[no-any-return]
