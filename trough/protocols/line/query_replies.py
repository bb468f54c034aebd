"""Turns the reply to a query, as lines of the protocol, into calls of a listener.

Functions of values: they depend neither on sockets nor on whether the caller waits or has a
reactor. :mod:`trough.protocols.line.pending_calls` keeps the calls without an answer, or a client
with one query at a time does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from trough import errors
from trough.model import segment_of_word
from trough.protocols.line.messages import parse_error, parse_fields
from trough.protocols.line.values import decode_names, decode_rows


class QueryListener(Protocol):
    """Gets the results of a query, segment by segment, in the order in which they arrive.

    For one segment: perhaps `state`, `columns` once, `rows` any number of times, at last either
    `done` or `failed`. `failed` makes the rows before it an incomplete answer. A segment that
    cannot be asked at all has only `failed`.
    """

    def state(self, segment: str, mark: str) -> None:
        """What follows need not be the segment's present state: ``last-promoted`` or
        ``unconfirmed``, see ``trough/protocols/PROTOCOL.rst``."""

    def columns(self, segment: str, names: tuple[str, ...]) -> None:
        """The names of the result's columns."""

    def rows(self, segment: str, rows: Any) -> None:
        """Some rows, in the order of the result: a list of lists of values. As bytes, if the
        query asked for `encoded` rows: a JSON array of them."""

    def done(self, segment: str, count: int) -> None:
        """The segment has answered whole, with `count` rows in all."""

    def failed(self, segment: str, error: errors.TroughError) -> None:
        """The segment has no whole answer. :class:`trough.errors.Moved` names its worker."""


class MergedListener(QueryListener, Protocol):
    """Gets the results of a query with ``merge=``."""

    def merged(self, segments: list[str], count: int, rows: Any) -> None:
        """These segments have answered whole, together, with `count` rows in all; they have sent
        nothing before."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How a query ended.

    :ivar segments: that were asked
    :ivar failed: of those, the ones without a whole answer
    :ivar milliseconds: that the server took
    :ivar complete: whether every segment answered whole
    :ivar kept: segments that answered from what was kept
    :ivar pruned: segments that were not opened, as they fail a test
    :ivar version: see ``QUERY`` with ``keep=yes``; empty where there is none
    """

    segments: int
    failed: int
    rows: int
    milliseconds: int
    complete: bool
    version: str = ""
    kept: int = 0
    pruned: int = 0


def deliver(listener: QueryListener, word: bytes, rest: bytes, *, encoded: bool = False) -> None:
    """Pass a line of an answer, any but the last one, to the listener.

    :param encoded: the listener takes rows as they are, JSON, and decodes them itself
    :raises trough.errors.ProtocolError: it cannot be read
    """
    first, _, body = rest.partition(b" ")
    if word == b"ROWS":
        listener.rows(_segment(first), body if encoded else decoded(decode_rows, body))
    elif word == b"COLS":
        listener.columns(_segment(first), decoded(decode_names, body))
    elif word == b"DONE":
        listener.done(_segment(first), decoded(int, body))
    elif word == b"MERGED":
        count, _, body = body.partition(b" ")
        cast(MergedListener, listener).merged(
            [*map(_segment, first.split(b","))],
            decoded(int, count),
            body if encoded else decoded(decode_rows, body),
        )
    elif word == b"FAIL":
        listener.failed(_segment(first), parse_error(body))
    elif word == b"STATE":
        listener.state(_segment(first), body.decode("utf-8", "replace"))


# The fields of version 1. Later fields follow these; fields in another order are parsed the long
# way.
_PLAIN_END = re.compile(
    rb"segments=([0-9]+) failed=([0-9]+) rows=([0-9]+) ms=([0-9]+) complete=(yes|no)(?: |\Z)"
)


def parse_summary(rest: bytes) -> Summary:
    """How a query ended, out of the rest of its ``END``.

    :raises trough.errors.ProtocolError: it cannot be read
    """
    return decoded(_summary, rest)  # type: ignore[no-any-return]


def _summary(rest: bytes) -> Summary:
    plain = _PLAIN_END.match(rest)
    if plain is not None:
        segments, failed, rows, ms = map(int, plain.groups()[:4])
        if plain.end() == len(rest):
            return Summary(segments, failed, rows, ms, plain[5] == b"yes")
    told = parse_fields(rest.decode())
    segments, failed, rows, ms, kept, pruned = (
        int(told.get(name, 0)) for name in ("segments", "failed", "rows", "ms", "kept", "pruned")
    )
    complete, version = told.get("complete") == "yes", str(told.get("version", ""))
    return Summary(segments, failed, rows, ms, complete, version, kept, pruned)


def decoded(decode: Callable[[bytes], Any], text: bytes) -> Any:
    """A value that a line has.

    :raises trough.errors.ProtocolError: it has none
    """
    try:
        return decode(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise errors.ProtocolError(f"the server sent what cannot be read: {text[:80]!a}") from error


def _segment(word: bytes) -> str:
    try:
        return segment_of_word(word.decode())
    except (UnicodeDecodeError, errors.BadSegmentId) as error:
        raise errors.FramingLost(f"a segment's id that cannot be read: {word[:80]!a}") from error
