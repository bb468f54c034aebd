"""The parts of the line protocol's messages: greeting, fields, errors, requests.

Pure functions between values and the bytes of a line. Each result is one line, for any text.
Additions of a later version are skipped where the protocol allows additions.
:mod:`trough.protocols.line.framing` separates lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trough import errors
from trough.model import check_segment_id, is_segment_id, segment_word
from trough.protocols.line.framing import MAX_LINE, MAX_LITERAL
from trough.protocols.line.values import Parameters, encode_parameters, encode_tests
from trough.sql.column_filters import FilterTest

#: The version in the greeting. Additions that old clients can ignore keep it.
VERSION = 1

#: Longest sentence of an error; SQLite quotes the statement, which may be megabytes.
MAX_SENTENCE = 2000
_CONTROLS = {code: " " for code in (*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029)}


@dataclass(frozen=True, slots=True)
class Greeting:
    """The first line of a server.

    :ivar role: ``worker`` or ``sync``
    :ivar node: the server's name
    :ivar max_requests: that may be under way on one connection; further ones wait
    :ivar auth: ``none``, or ``token`` where ``AUTH`` has to come first
    """

    role: str
    node: str
    max_line: int = MAX_LINE
    max_literal: int = MAX_LITERAL
    max_requests: int = 10000
    auth: str = "none"
    version: int = VERSION

    def line(self) -> bytes:
        """The greeting as it is sent."""
        return (
            f"TROUGH {self.version} {self.role} {self.node} max-line={self.max_line}"
            f" max-literal={self.max_literal} max-requests={self.max_requests}"
            f" auth={self.auth}\n"
        ).encode()


def parse_greeting(reply: tuple[bytes, bytes, bytes]) -> Greeting:
    """The greeting out of the first line, as :class:`ReplyParser` took it apart.

    :raises trough.errors.FramingLost: it is another protocol, or another version
    """
    name, version, rest = reply
    words = rest.decode("utf-8", "replace").split(" ")
    if name != b"TROUGH" or len(words) < 2:
        raise errors.FramingLost(f"not Trough's line protocol: {b' '.join(reply)[:80]!a}")
    if version != b"%d" % VERSION:
        raise errors.FramingLost(
            f"version {version.decode('ascii', 'replace')} of the line protocol",
            f"this client speaks version {VERSION}",
        )
    told = parse_fields(" ".join(words[2:]))
    numbers = {key: told.get(key.replace("_", "-")) for key in _GREETING_NUMBERS}
    known = {key: number for key, number in numbers.items() if isinstance(number, int)}
    return Greeting(words[0], words[1], auth=str(told.get("auth", "none")), **known)


_GREETING_NUMBERS = ("max_line", "max_literal", "max_requests")


def format_fields(fields: Mapping[str, object]) -> str:
    """``key=value`` pairs as in ``END``; True and False are yes and no.

    Values are numbers and single words.
    """
    shown = {True: "yes", False: "no"}
    return " ".join(
        f"{key}={shown[value] if isinstance(value, bool) else value}"
        for key, value in fields.items()
    )


def parse_fields(text: str) -> dict[str, int | str]:
    """The reverse of :func:`format_fields`; integers where they are."""
    fields: dict[str, int | str] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if equals:
            fields[key] = int(value) if value.isdecimal() and len(value) < 19 else value
    return fields


def one_line(text: str) -> str:
    """`text` without anything that would end a line or act on a terminal."""
    return text.translate(_CONTROLS)


def format_error(error: errors.TroughError) -> bytes:
    """``code sentence``, the error in ``ERR``, ``FAIL`` and ``BYE``."""
    if isinstance(error, errors.Moved):
        return f"{error.code} {error.node} {error.line}".rstrip().encode()
    sentence = one_line(str(error))
    if len(sentence) > MAX_SENTENCE:
        sentence = f"{sentence[: MAX_SENTENCE - 3]}..."
    return f"{error.code} {sentence}".encode("utf-8", "replace")


def parse_error(text: bytes) -> errors.TroughError:
    """The error in ``code sentence``; see :func:`trough.errors.from_code`."""
    code, _, sentence = text.decode("utf-8", "replace").partition(" ")
    if code == errors.Moved.code:
        node, line, *_ = (*sentence.split(), "", "")
        return errors.Moved(f"served by {node} {line}".rstrip(), node, line)
    return errors.from_code(code, sentence)


#: An argument at least this long is sent as a literal. Every server takes longer lines
#: than this, so that a client need not wait for the greeting.
LITERAL_FROM = 1024


def format_text(value: bytes, prefix: bytes = b"") -> bytes:
    """The last argument, which may hold blanks, as it is sent: as a literal where it is
    long or would not survive.

    :param prefix: ``name=`` of an option, which is never part of the literal
    """
    if value and len(value) < LITERAL_FROM and _UNSAFE.search(value) is None:
        return prefix + value
    return b"%b{%d}\n%b" % (prefix, len(value), value)


def format_word(value: bytes, prefix: bytes = b"") -> bytes:
    """Any other argument as it is sent; see :func:`format_text`."""
    if b" " in value:
        return b"%b{%d}\n%b" % (prefix, len(value), value)
    return format_text(value, prefix)


def format_request(tag: bytes, verb: bytes, *arguments: bytes) -> bytes:
    """A request as it is sent, of arguments made by :func:`format_word` and :func:`format_text`."""
    return b"%b\n" % b" ".join((tag, verb, *arguments))


@dataclass(frozen=True, slots=True)
class Matching:
    """All segments whose id `pattern`, a regular expression, is found in."""

    pattern: str


def format_segments(segments: Iterable[str] | Matching) -> bytes:
    """Ids or a pattern, as an argument.

    :raises trough.errors.BadRequest: no segment, or what cannot be an id
    """
    if isinstance(segments, Matching):
        return format_word(segments.pattern.encode(), b"~")
    ids = list(segments)
    if not ids:
        raise errors.BadRequest("no segment was named")
    if not all(map(is_segment_id, ids)):
        for segment in ids:
            check_segment_id(segment)
    text = ",".join(map(segment_word, ids))
    # A list that begins with a tilde would be taken for a pattern.
    return format_word((f",{text}" if text.startswith("~") else text).encode())


def format_options(
    seconds: float | None, rows: int | None, parameters: Parameters | None
) -> list[bytes]:
    """The options of a query that are not None, as arguments.

    :raises trough.errors.BadRequest: a parameter that SQLite could not store
    """
    options = []
    if seconds is not None:
        options.append(f"seconds={seconds:.6f}".encode())
    if rows is not None:
        options.append(f"rows={rows}".encode())
    if parameters is not None:
        options.append(format_word(encode_parameters(parameters), b"bind="))
    return options


def format_query(
    tag: bytes,
    segments: Iterable[str] | Matching,
    sql: str,
    parameters: Parameters | None = None,
    seconds: float | None = None,
    rows: int | None = None,
    keep: bool = False,
    tests: Sequence[FilterTest] = (),
    trace: str = "",
    merge: str = "",
) -> bytes:
    """A query as it is sent.

    :param trace: a ``traceparent`` of the W3C, or empty
    :raises trough.errors.BadRequest: no segment, a segment's id or a parameter that cannot
        be one
    """
    arguments = [format_segments(segments), *format_options(seconds, rows, parameters)]
    if keep:
        arguments.append(b"keep=yes")
        if tests:
            arguments.append(format_word(encode_tests(tests), b"tests="))
    if trace:
        arguments.append(b"trace=" + trace.encode())
    if merge:
        arguments.append(format_word(merge.encode(), b"merge="))
    return format_request(tag, b"QUERY", *arguments, format_text(sql.encode()))


def format_write(
    tag: bytes,
    segment: str,
    sql: str,
    parameters: Parameters | None = None,
    seconds: float | None = None,
) -> bytes:
    """A write as it is sent.

    :raises trough.errors.BadRequest: a segment's id or a parameter that cannot be one
    """
    word = segment_word(check_segment_id(segment)).encode()
    options = format_options(seconds, None, parameters)
    return format_request(tag, b"WRITE", word, *options, format_text(sql.encode()))


def format_gather(
    tag: bytes,
    segments: Iterable[str] | Matching,
    sql: str,
    parameters: Parameters | None = None,
    seconds: float | None = None,
    options: Iterable[str] = (),
) -> bytes:
    """A GATHER as it is sent.

    :param options: such as ``partial=yes``
    :raises trough.errors.BadRequest: as in :func:`format_query`
    """
    words = [option.encode() for option in options]
    words += format_options(seconds, None, parameters)
    return format_request(
        tag, b"GATHER", format_segments(segments), *words, format_text(sql.encode())
    )


# What a server would not take as it is: the end of a line, the carriage return that it
# strips, a NUL, outer blanks, and an end that may look like the announcement of a literal.
_UNSAFE = re.compile(rb"[\r\n\0]|\}\Z|\A | \Z")
