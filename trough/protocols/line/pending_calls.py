"""The calls of a client that have no answer yet, one class for each kind of request.

A connection keeps one of these for each tag, passes it the lines that arrive, and notifies it when
the connection is lost. They turn lines into values, and do not depend on sockets.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from trough import errors
from trough.protocols.line.messages import parse_error, parse_fields
from trough.protocols.line.query_replies import (
    QueryListener,
    Summary,
    decoded,
    deliver,
    parse_summary,
)


class PendingRequest(Protocol):
    """A request that was sent."""

    @property
    def line(self) -> Callable[[bytes, bytes], object]:
        """Takes word and rest of each line of the answer; the last one's word is in
        :data:`trough.protocols.line.framing.FINAL`."""

    def lost(self, error: errors.TroughError, sent: bool) -> None:
        """There will be no answer.

        :param sent: whether the server may have seen the request
        """

    def broken(self, error: Exception) -> None:
        """`line` raised this; it gets no further lines."""


class Asker(Protocol):
    """What a call needs of the connection that it was made on."""

    def cancel(self, tag: bytes) -> None:
        """Ask the server to end a request."""

    def pause(self, tag: bytes) -> None:
        """Read nothing until `resume`."""

    def resume(self, tag: bytes) -> None:
        """Read on, unless another call is paused."""


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """The answer to a command.

    :ivar lines: all before the last: pairs of word and text
    :ivar fields: of the last line
    :ivar document: of the last line, where it is JSON
    """

    lines: list[tuple[str, str]]
    fields: dict[str, int | str]
    document: Any = None


class Call:
    """A query under way.

    :param encoded: see :func:`trough.protocols.line.query_replies.deliver`
    :ivar done: fires with a :class:`Summary`, or fails with the error of the whole
        request, with :class:`trough.errors.Cancelled` after `cancel`, or with the error
        that the listener raised. Cancelling it is `cancel`.
    """

    __slots__ = ("_asker", "_encoded", "_listener", "_tag", "done")

    def __init__(
        self, asker: Asker, tag: bytes, listener: QueryListener, *, encoded: bool = False
    ) -> None:
        self._asker = asker
        self._encoded = encoded
        self._tag = tag
        self._listener: QueryListener | None = listener
        self.done: Deferred[Summary] = Deferred(self._cancelled)

    def cancel(self) -> None:
        """End the query on the server. The listener gets no further calls; `done` fails when
        the server has confirmed it. Idempotent."""
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
        if word == b"END":
            self._listener = None
            self.done.callback(parse_summary(rest))
        elif word == b"ERR":
            self._fail(parse_error(rest))
        else:
            deliver(listener, word, rest, encoded=self._encoded)

    def lost(self, error: errors.TroughError, sent: bool) -> None:
        """See :class:`PendingRequest`."""
        self._fail(error)

    def broken(self, error: Exception) -> None:
        """See :class:`PendingRequest`."""
        self.cancel()
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._listener = None
        if not self.done.called:
            self.done.errback(error)

    def _cancelled(self, _: Deferred[Summary]) -> None:
        self.cancel()
        self._fail(errors.Cancelled("cancelled by this client"))


class PendingCommand:
    """A command under way.

    :param changes: what it changes, where it is not known after a lost connection
        whether that happened; empty where asking again is safe
    :ivar done: fires with an :class:`CommandAnswer`; cancelling it cancels the command
    """

    __slots__ = ("_changes", "_lines", "done")

    def __init__(self, asker: Asker, tag: bytes, changes: str = "") -> None:
        self._changes = changes
        self._lines: list[tuple[str, str]] = []
        self.done: Deferred[CommandAnswer] = Deferred(lambda _: asker.cancel(tag))

    def line(self, word: bytes, rest: bytes) -> None:
        """See :class:`PendingRequest`."""
        if self.done.called:
            return
        if word == b"ERR":
            self.done.errback(parse_error(rest))
        elif word in (b"OK", b"END"):
            if rest[:1] in (b"{", b"["):
                self.done.callback(CommandAnswer(self._lines, {}, decoded(json.loads, rest)))
            else:
                self.done.callback(CommandAnswer(self._lines, parse_fields(rest.decode())))
        else:
            self._lines.append((word.decode(), rest.decode("utf-8", "replace")))

    def lost(self, error: errors.TroughError, sent: bool) -> None:
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


class RawRequest:
    """A request whose answer is passed on unparsed: for measuring."""

    __slots__ = ("line",)

    def __init__(self, line: Callable[[bytes, bytes], object]) -> None:
        self.line = line

    def lost(self, error: errors.TroughError, sent: bool) -> None:
        """See :class:`PendingRequest`."""
        self.line(b"ERR", f"{error.code} {error}".encode())

    def broken(self, error: Exception) -> None:
        """See :class:`PendingRequest`."""
        raise error
