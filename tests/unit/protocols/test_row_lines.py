"""Rows of an original worker's response, as they arrive over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from trough import errors
from trough.protocols.http import row_stream
from trough.protocols.http.row_stream import RowLines


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.got: list[list[Any]] = []

    def state(self, segment: str, mark: str) -> None:
        self.told.append(("state", segment, mark))

    def columns(self, segment: str, names: tuple[str, ...]) -> None:
        self.names = names

    def rows(self, segment: str, rows: list[list[Any]]) -> None:
        self.got += rows


class Piece(bytes):
    """Counts the bytes that are copied to put it behind others."""

    copied = 0

    def __radd__(self, other: bytes) -> bytes:
        Piece.copied += len(other)
        return b"".join([other, self])


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def body(listener: Listener) -> RowLines:
    """The body of a response, none of which has come."""
    body = RowLines("s1", listener, None, lambda: False)
    body.makeConnection(StringTransport())
    return body


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest_twisted.ensureDeferred
async def test_rows_come_whole_in_pieces_of_any_size(body, listener, size):
    """Wherever the response is cut."""
    rows = [{"a": number, "b": "é\n" * number} for number in range(20)]
    text = "[" + ",\n".join(map(json.dumps, rows)) + "]\n"
    data = text.encode()
    for at in range(0, len(data), size):
        body.dataReceived(data[at : at + size])
    body.connectionLost(Failure(ResponseDone()))
    assert await body.done == 20
    assert listener.names == ("a", "b")
    assert listener.got == [[row["a"], row["b"]] for row in rows]


@pytest_twisted.ensureDeferred
async def test_a_long_row_is_not_copied_with_every_piece(body, listener):
    """What has come of it is put together once, when its end has come."""
    value = "x" * 200_000
    data = f'[{{"a": "{value}"}}]\n'.encode()
    Piece.copied = 0
    for at in range(0, len(data), 1000):
        body.dataReceived(Piece(data[at : at + 1000]))
    body.connectionLost(Failure(ResponseDone()))
    assert await body.done == 1
    assert listener.got == [[value]]
    assert Piece.copied <= len(data)


@pytest_twisted.ensureDeferred
async def test_a_row_that_is_too_long_ends_the_response(body, listener, monkeypatch):
    """Before all of it is in memory."""
    monkeypatch.setattr(row_stream, "MAX_ROW", 5000)
    body.dataReceived(b'[{"a": 1},\n')
    for _ in range(6):
        body.dataReceived(b"x" * 1000)
    with pytest.raises(errors.LimitExceeded, match="a row of more than 5000 bytes"):
        await body.done
    assert listener.got == [[1]]
