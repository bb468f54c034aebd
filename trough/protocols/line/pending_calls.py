"""What a client has asked and not been answered yet, for each kind of question.

A connection keeps one of these for each tag, hands it the lines that arrive, and tells it
when the connection is lost. They turn lines into values; they refuse to know sockets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from trough import errors
from trough.model import segment_of_word
from trough.protocols.line.messages import parse_error, parse_fields
from trough.protocols.line.values import Value, decode_names, decode_rows


class PendingRequest(Protocol):
    """A request that was sent."""

    @property
    def line(self) -> Callable[[bytes, bytes], object]:
        """Takes word and rest of each line of the answer; the last one's word is in
        :data:`trough.protocols.line.framing.FINAL`."""

    def lost(self, error: errors.Unavailable, sent: bool) -> None:
        """There will be no answer.

        :param sent: whether the server may have seen the request
        """

    def broken(self, error: Exception) -> None:
        """`line` raised this; further lines will not be handed over."""


class Asker(Protocol):
    """What a call needs of the connection that it was made on."""

    def cancel(self, tag: bytes) -> None:
        """Ask the server to end a request."""

    def pause(self, tag: bytes) -> None:
        """Read nothing until `resume`."""

    def resume(self, tag: bytes) -> None:
        """Read on, unless another call is paused."""


class QueryListener(Protocol):
    """Is told what a query finds, segment by segment, in whatever order it is found.

    Of one segment: perhaps `state`, `columns` once, `rows` any number of times, at last
    either `done` or `failed`, which makes the rows before it an incomplete answer. A segment
    that cannot be asked at all has only `failed`.
    """

    def state(self, segment: str, mark: str) -> None:
        """What follows need not be the segment's present state: ``last-promoted`` or
        ``unconfirmed``, see ``trough/protocols/PROTOCOL.rst``."""

    def columns(self, segment: str, names: tuple[str, ...]) -> None:
        """The names of the result's columns."""

    def rows(self, segment: str, rows: list[list[Value]]) -> None:
        """Some rows, in the order of the result."""

    def done(self, segment: str, count: int) -> None:
        """The segment has answered whole, with `count` rows in all."""

    def failed(self, segment: str, error: errors.TroughError) -> None:
        """The segment has no whole answer. :class:`trough.errors.Moved` says where it is."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How a query ended.

    :ivar segments: that were asked
    :ivar failed: of those, the ones without a whole answer
    :ivar milliseconds: that the server took
    :ivar complete: whether every segment answered whole
    """

    segments: int
    failed: int
    rows: int
    milliseconds: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a command.

    :ivar lines: all before the last: pairs of word and text
    :ivar fields: of the last line
    :ivar document: of the last line, where it is JSON
    """

    lines: list[tuple[str, str]]
    fields: dict[str, int | str]
    document: Any = None


# What version 1 sends; later fields follow these, or whatever order they come in is
# parsed the long way.
_PLAIN_END = re.compile(
    rb"segments=([0-9]+) failed=([0-9]+) rows=([0-9]+) ms=([0-9]+) complete=(yes|no)(?: |\Z)"
)


class Call:
    """A query under way.

    :ivar done: fires with a :class:`Summary`, or fails with the error of the whole
        request, with :class:`trough.errors.Cancelled` after `cancel`, or with whatever
        the listener raised. Cancelling it is `cancel`.
    """

    __slots__ = ("_asker", "_listener", "_tag", "done")

    def __init__(self, asker: Asker, tag: bytes, listener: QueryListener) -> None:
        self._asker = asker
        self._tag = tag
        self._listener: QueryListener | None = listener
        self.done: Deferred[Summary] = Deferred(self._cancelled)

    def cancel(self) -> None:
        """End the query on the server. The listener hears nothing more; `done` fails
        when the server has confirmed it. Idempotent."""
        if self._listener is not None:
            self._listener = None
            self._asker.resume(self._tag)
            self._asker.cancel(self._tag)

    def pause(self) -> None:
        """Have the listener left alone until `resume`.

        The connection is not read from meanwhile, so every call on it waits.
        """
        if self._listener is not None:
            self._asker.pause(self._tag)

    def resume(self) -> None:
        """End a pause."""
        self._asker.resume(self._tag)

    def line(self, word: bytes, rest: bytes) -> None:
        """See :class:`PendingRequest`."""
        listener = self._listener
        if listener is None:
            if word in (b"END", b"ERR"):
                self._fail(errors.Cancelled("cancelled by this client"))
            return
        first, _, body = rest.partition(b" ")
        if word == b"ROWS":
            listener.rows(_segment(first), _decoded(decode_rows, body))
        elif word == b"COLS":
            listener.columns(_segment(first), _decoded(decode_names, body))
        elif word == b"DONE":
            listener.done(_segment(first), int(body))
        elif word == b"FAIL":
            listener.failed(_segment(first), parse_error(body))
        elif word == b"STATE":
            listener.state(_segment(first), body.decode())
        elif word == b"END":
            self._end(rest)
        elif word == b"ERR":
            self._fail(parse_error(rest))

    def lost(self, error: errors.Unavailable, sent: bool) -> None:
        """See :class:`PendingRequest`."""
        self._fail(error)

    def broken(self, error: Exception) -> None:
        """See :class:`PendingRequest`."""
        self.cancel()
        self._fail(error)

    def _end(self, rest: bytes) -> None:
        self._listener = None
        plain = _PLAIN_END.match(rest)
        if plain is not None:
            segments, failed, rows, ms = map(int, plain.groups()[:4])
            complete = plain[5] == b"yes"
        else:
            told = parse_fields(rest.decode())
            segments, failed, rows, ms = (
                int(told.get(name, 0)) for name in ("segments", "failed", "rows", "ms")
            )
            complete = told.get("complete") == "yes"
        self.done.callback(Summary(segments, failed, rows, ms, complete))

    def _fail(self, error: Exception) -> None:
        self._listener = None
        if not self.done.called:
            self.done.errback(error)

    def _cancelled(self, _: Deferred[Summary]) -> None:
        self.cancel()
        self._fail(errors.Cancelled("cancelled by this client"))


def _decoded(decode: Callable[[bytes], Any], text: bytes) -> Any:
    try:
        return decode(text)
    except ValueError as error:
        raise errors.ProtocolError(f"the server sent no JSON: {text[:80]!a}") from error


class Command:
    """A command under way.

    :param changes: what it changes, where it is not known after a lost connection
        whether that happened; empty where asking again is safe
    :ivar done: fires with an :class:`Answer`; cancelling it cancels the command
    """

    __slots__ = ("_changes", "_lines", "done")

    def __init__(self, asker: Asker, tag: bytes, changes: str = "") -> None:
        self._changes = changes
        self._lines: list[tuple[str, str]] = []
        self.done: Deferred[Answer] = Deferred(lambda _: asker.cancel(tag))

    def line(self, word: bytes, rest: bytes) -> None:
        """See :class:`PendingRequest`."""
        if self.done.called:
            return
        if word == b"ERR":
            self.done.errback(parse_error(rest))
        elif word in (b"OK", b"END"):
            if rest[:1] in (b"{", b"["):
                self.done.callback(Answer(self._lines, {}, _decoded(json.loads, rest)))
            else:
                self.done.callback(Answer(self._lines, parse_fields(rest.decode())))
        else:
            self._lines.append((word.decode(), rest.decode("utf-8", "replace")))

    def lost(self, error: errors.Unavailable, sent: bool) -> None:
        """See :class:`PendingRequest`."""
        if self._changes and sent:
            error = errors.OutcomeUnknown(
                f"{self._changes}: {error.message}", "it may have happened or not"
            )
        self.broken(error)

    def broken(self, error: Exception) -> None:
        """See :class:`PendingRequest`."""
        if not self.done.called:
            self.done.errback(error)


class Raw:
    """A request whose answer is handed over as it came: for measuring."""

    __slots__ = ("line",)

    def __init__(self, line: Callable[[bytes, bytes], object]) -> None:
        self.line = line

    def lost(self, error: errors.Unavailable, sent: bool) -> None:
        """See :class:`PendingRequest`."""
        self.line(b"ERR", f"{error.code} {error}".encode())

    def broken(self, error: Exception) -> None:
        """See :class:`PendingRequest`."""
        raise error


def _segment(word: bytes) -> str:
    try:
        return segment_of_word(word.decode())
    except (UnicodeDecodeError, errors.BadSegmentId) as error:
        raise errors.FramingLost(f"a segment's id that cannot be read: {word[:80]!a}") from error
