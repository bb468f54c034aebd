"""The line protocol's framing: bytes in, requests or replies out, without any I/O.

The caller passes a parser all bytes that arrive, and asks it for the next message. The parser
returns a message, or None for "need more", or raises :class:`trough.errors.FramingLost`, after
which it raises nothing else. Its time is linear in the bytes that arrive, for all sizes of chunks.
Its limits bound its memory. What is not a message is a value too (:class:`Malformed`), for the
conversation goes on. The parser never writes, and depends neither on verbs nor on the meaning of
arguments.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from trough import errors

#: Tags hold what needs no escaping anywhere, and are short because each reply repeats one.
MAX_TAG = 32
_TAG = re.compile(rb"[A-Za-z0-9._\-]{1,32}")
_VERB = re.compile(rb"[A-Za-z][A-Za-z\-]{0,31}")
TAG_RULE = f"a tag is 1 to {MAX_TAG} characters out of A-Z a-z 0-9 . _ -"
REQUEST_RULE = "a request is: TAG VERB ARGUMENTS, for example: 1 HELP"

# Most requests: taken apart by one match, since each further call would be felt at 100,000
# a second. What it leaves (a carriage return, a literal, anything wrong) goes the long way.
_PLAIN = re.compile(
    rb"([A-Za-z0-9._\-]{1,32}) ++([A-Za-z][A-Za-z\-]{0,31}) ++([^\n]++)(?<![}\r])\n"
)
_WORDS = re.compile(rb" *+([^ ]*+) *+([^ ]*+) *+(.*)", re.DOTALL)

#: Words that a person may type without a tag; answered under the tag ``*``.
_UNTAGGED = frozenset({b"HELP", b"QUIT"})

#: Lines without a word, which are passed over; so many of them cost one step.
_BLANK = re.compile(rb"(?: *+\r?\n)++")

_LITERAL = re.compile(rb"\{([0-9]+)\}$")
_HTTP = re.compile(rb" HTTP/[0-9]")

#: Default limits. A line of 64 kB holds a list of some thousand ids from a program. Longer text
#: goes as a literal, up to a batch of rows that is worth one commit.
MAX_LINE = 65536
MAX_LITERAL = 64 << 20

#: Literals of one request; no verb takes more than three.
MOST_LITERALS = 16

#: A request whose literals are too long is skipped if they are at most this many times
#: too long; beyond it, waiting for the end would cost the peer more than a new connection.
SKIPPED = 4

#: Stands in a request's text where a literal belongs. No text may hold it.
MARK = b"\0"

#: Words that end a request; each request gets exactly one of them, last.
FINAL = frozenset({b"OK", b"END", b"ERR"})


@dataclass(frozen=True, slots=True)
class FramingLimits:
    """What a peer may send.

    :ivar max_line: bytes of a message's text, without its literals
    :ivar max_literal: bytes of a message's literals altogether
    """

    max_line: int = MAX_LINE
    max_literal: int = MAX_LITERAL


# Not frozen, and no tuple: one is made for each request, and this is the fastest kind.
@dataclass(slots=True)
class LineRequest:
    """A request, whole.

    :ivar verb: in upper case
    :ivar arguments: everything after the verb, with :data:`MARK` for each literal
    :ivar literals: the literals' bytes, in their order
    """

    tag: str
    verb: str
    arguments: bytes = b""
    literals: tuple[bytes, ...] = ()

    def size(self) -> int:
        """Bytes that the request keeps in memory."""
        size = len(self.arguments)
        return size + sum(map(len, self.literals)) if self.literals else size


@dataclass(slots=True)
class Malformed:
    """What came instead of a request; the next one is unharmed.

    :ivar tag: to answer with; ``*`` where there is no telling
    """

    tag: str
    error: errors.TroughError


@functools.lru_cache
def _verb(word: bytes) -> str:
    return word.decode().upper()


class RequestParser:
    """The server's ear.

    The parser proper is a generator, so that where it is within a message is simply
    where it stands; it yields None for "need more".
    """

    __slots__ = ("_chunk", "_limits", "_literals", "_lost", "_offset", "_parser", "_tail")

    def __init__(self, limits: FramingLimits) -> None:
        self._limits = limits
        self._chunk = b""  # arrived last; read up to `_offset`
        self._offset = 0
        self._tail = bytearray()  # arrived before, and holds no end of a line
        self._literals = False  # within a request that has literals
        self._lost: errors.FramingLost | None = None
        self._parser = self._parse()

    def set_limits(self, limits: FramingLimits) -> None:
        """Take other limits from the next request on."""
        self._limits = limits

    def receive_data(self, data: bytes) -> None:
        """Take bytes in; they are looked at when the next request is asked for."""
        left = self._offset < len(self._chunk)
        self._chunk = self._chunk[self._offset :] + data if left else data
        self._offset = 0

    def next_request(self) -> LineRequest | Malformed | None:
        """The next request, or what came in its place, or None for "need more".

        :raises trough.errors.FramingLost: in this call and all later ones
        """
        if self._lost is not None:
            raise self._lost
        try:
            return next(self._parser)
        except errors.FramingLost as error:
            self._lost = error
            raise

    def is_midway(self) -> bool:
        """Whether a request has begun and not ended, all whole ones having been taken."""
        return self._literals or bool(self._tail)

    def _parse(self) -> Iterator[LineRequest | Malformed | None]:
        while True:
            if not self._tail and (plain := _PLAIN.match(self._chunk, self._offset)):
                begin, self._offset = self._offset, plain.end()
                if self._offset - begin - 1 <= self._limits.max_line:
                    tag, verb, arguments = plain.groups()
                    yield LineRequest(tag.decode(), _verb(verb), arguments)
                    continue
                raise self._too_long()
            if not self._tail and (blank := _BLANK.match(self._chunk, self._offset)):
                self._offset = blank.end()
            end = self._chunk.find(b"\n", self._offset)
            if end < 0:
                self._keep_tail()
                yield None
                continue
            line = self._take_line(end)
            if line.endswith(b"}") and (match := _LITERAL.search(line)) is not None:
                yield from self._with_literals(line, match)
            elif line.strip(b" "):
                yield _request(line)

    def _take_line(self, end: int) -> bytes:
        line = self._chunk[self._offset : end]
        self._offset = end + 1
        if self._tail:
            line = bytes(self._tail) + line
            self._tail.clear()
        if len(line) > self._limits.max_line:
            raise self._too_long()
        return line[:-1] if line.endswith(b"\r") else line

    def _keep_tail(self) -> None:
        self._tail += memoryview(self._chunk)[self._offset :]
        self._chunk, self._offset = b"", 0
        if len(self._tail) > self._limits.max_line:
            raise self._too_long()

    def _with_literals(
        self, line: bytes, match: re.Match[bytes] | None
    ) -> Iterator[LineRequest | Malformed | None]:
        """Read a request on, whose first line is `line`, up to its end."""
        self._literals = True
        pieces: list[bytes] = []  # of text; a literal comes after each but the last
        literals: list[bytes] = []
        announced = text = 0
        refused = False
        while match is not None:
            pieces.append(line[: match.start()])
            text += match.start()
            length = _literal_length(match[1])
            announced += length
            self._check(text, announced)
            if len(pieces) > MOST_LITERALS:
                raise errors.FramingLost(f"more than {MOST_LITERALS} literals in one request")
            if announced > self._limits.max_literal and not refused:
                # Now, and not after its end: a client that waits for an answer need not send it.
                refused = True
                literals.clear()
                yield self._refused(MARK.join(pieces), announced)
            literals.append((yield from self._literal(length, not refused)))
            while (end := self._chunk.find(b"\n", self._offset)) < 0:
                self._keep_tail()
                yield None
            line = self._take_line(end)
            match = _LITERAL.search(line)
        pieces.append(line)
        self._check(text + len(line), announced)
        self._literals = False
        if refused:
            return
        request = _request(MARK.join(pieces), tuple(literals))
        if isinstance(request, LineRequest) and request.arguments.count(MARK) != len(literals):
            request = Malformed(request.tag, errors.ProtocolError(*_STRAY_NUL))
        yield request

    def _refused(self, line: bytes, announced: int) -> Malformed:
        """What comes in place of a request that begins with `line`, and is skipped."""
        request = _request(line)
        if isinstance(request, Malformed):
            return request
        most = self._limits.max_literal
        error = errors.TooLarge(
            f"literals of {announced} bytes in one request", f"the limit is {most}"
        )
        return Malformed(request.tag, error)

    def _check(self, text: int, announced: int) -> None:
        if text > self._limits.max_line:
            raise self._too_long()
        if announced > SKIPPED * self._limits.max_literal:
            raise errors.FramingLost(
                "literals too long to skip", f"the limit is {self._limits.max_literal}"
            )

    def _too_long(self) -> errors.FramingLost:
        most = self._limits.max_line
        return errors.FramingLost(
            f"more than {most} bytes without the end of a request",
            "send long arguments as literals",
        )

    def _literal(self, length: int, kept: bool) -> Generator[None, None, bytes]:
        """Read `length` bytes, and keep them or not."""
        literal = bytearray()
        while length:
            if self._offset >= len(self._chunk):
                yield None
                continue
            taken = memoryview(self._chunk)[self._offset : self._offset + length]
            self._offset += len(taken)
            length -= len(taken)
            if kept:
                literal += taken
        return bytes(literal)


_STRAY_NUL = ("a NUL byte, or a literal, where none can be", "send a NUL byte in a literal")


def _literal_length(digits: bytes) -> int:
    # int() takes its time over a line of digits, and refuses it in the end.
    return int(digits) if len(digits) < 19 else 10**19


def _request(line: bytes, literals: tuple[bytes, ...] = ()) -> LineRequest | Malformed:
    """The request in `line`, or what is wrong with it.

    :raises trough.errors.FramingLost: it is HTTP. Going on would let a web page that a
        browser shows send requests here, hidden in the body of a form.
    """
    words = _WORDS.fullmatch(line)
    assert words is not None
    tag, verb, arguments = words.groups()
    if tag.upper() in _UNTAGGED and not arguments:
        return LineRequest("*", tag.decode().upper(), verb, literals)
    shown = tag.decode("ascii", "replace")
    if not _TAG.fullmatch(tag):
        return Malformed("*", errors.ProtocolError(f"not a tag: {shown[:40]!a}", TAG_RULE))
    if not verb:
        return Malformed(shown, errors.ProtocolError("a tag and nothing else", REQUEST_RULE))
    if not _VERB.fullmatch(verb):
        if _HTTP.search(line[-16:]):
            raise errors.FramingLost("this port speaks Trough's line protocol, not HTTP")
        verb = verb[:40].decode("ascii", "replace")
        return Malformed(shown, errors.ProtocolError(f"not a verb: {verb!a}", REQUEST_RULE))
    return LineRequest(shown, verb.decode().upper(), arguments, literals)


class PartialLines:
    """Bounds of lines that have begun and not ended, of all parsers that share this. A line of rows
    beyond them is dropped as it arrives, and its segment fails.

    :param line: bytes of one line
    :param together: bytes of all of them
    :param refusal: what to do about a row that is too large, for the error
    """

    __slots__ = ("line", "refusal", "together", "used")

    def __init__(self, line: int, together: int, refusal: str) -> None:
        self.line = line
        self.together = together
        self.refusal = refusal
        self.used = 0

    def failure(self, head: bytes, size: int) -> bytes:
        """The line to take in place of one.

        :param head: its beginning
        :param size: bytes of it that have come
        :raises trough.errors.FramingLost: it has no rows of a segment
        """
        tag, word, segment, *rest = *head.split(b" ", 3), b"", b"", b""
        if word != b"ROWS" or not rest[0]:
            raise errors.FramingLost(f"a line of more than {self.line} bytes")
        error = errors.LimitExceeded(f"it sent a row of more than {self.line} bytes", self.refusal)
        if size <= self.line:
            error = errors.LimitExceeded(
                f"large rows of more than {self.together} bytes come at once", "ask again later"
            )
        return b"%b FAIL %b %b %b" % (tag, segment, error.code.encode(), str(error).encode())


#: Bytes of a line that are never too many together with others.
_SMALL_LINE = 1 << 18


class ReplyParser:
    """The client's ear.

    :param max_line: bytes of one line; a row travels in one, so this bounds a row
    :param bounds: further ones, which need not be met
    """

    __slots__ = ("_bounds", "_counted", "_limit", "_lines", "_skipping", "_tail")

    def __init__(self, max_line: int = 256 << 20, bounds: PartialLines | None = None) -> None:
        self._limit = max_line
        self._lines: list[bytes] = []  # whole ones, the next one last
        self._tail = bytearray()
        self._bounds = bounds
        self._counted = 0  # bytes of the tail that the bounds know of
        self._skipping = False  # what comes belongs to a line that was dropped

    def receive_data(self, data: bytes) -> None:
        """Take bytes in.

        :raises trough.errors.FramingLost: a line is longer than the limit
        """
        first, *lines = data.split(b"\n")
        if self._skipping:
            if not lines:
                return
            self._skipping = False
            first = lines.pop(0)
        self._tail += first
        if self._bounds is not None:
            self._check(self._bounds, not lines)
        if len(self._tail) > self._limit:
            raise errors.FramingLost(f"a line of more than {self._limit} bytes")
        if lines:
            lines.insert(0, bytes(self._tail))
            self._tail = bytearray(lines.pop())
            lines.reverse()
            self._lines[:0] = lines

    def _check(self, bounds: PartialLines, goes_on: bool) -> None:
        """Drop the line that has begun, if it is too large."""
        size = len(self._tail)
        used = bounds.used - self._counted + size
        if size > _SMALL_LINE and (size > bounds.line or used > bounds.together):
            line = bounds.failure(bytes(self._tail[:1024]), size)
            self._tail = bytearray(b"" if goes_on else line)
            if goes_on:
                self._skipping = True
                self._lines.insert(0, line)
        self._count(len(self._tail) if goes_on else 0)

    def _count(self, size: int) -> None:
        if self._bounds is not None:
            self._bounds.used += size - self._counted
            self._counted = size

    def close(self) -> None:
        """Nothing more comes: what has begun is forgotten."""
        self._tail.clear()
        self._count(0)

    def replies(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Tag, word and the rest of each line that is there and was not taken yet.

        :raises trough.errors.FramingLost: what came is not the line protocol
        """
        lines = self._lines
        while lines:
            parts = lines.pop().split(b" ", 2)
            if len(parts) == 2:
                parts.append(b"")
            elif len(parts) < 2:
                raise errors.FramingLost(f"not a reply of the line protocol: {parts[0][:80]!a}")
            yield tuple(parts)  # type: ignore[misc]
