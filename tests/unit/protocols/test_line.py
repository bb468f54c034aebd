"""The line protocol's parsers: bytes in, messages out."""

from __future__ import annotations

import json
import math
import sys
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trough import errors
from trough.protocols.line import arguments, messages, values
from trough.protocols.line.framing import (
    FramingLimits,
    LineRequest,
    Malformed,
    PartialLines,
    ReplyParser,
    RequestParser,
)

SMALL = FramingLimits(max_line=100, max_literal=50)

#: Bytes, and what a server makes of them; each also cut up, and with more behind it.
MESSAGES: list[tuple[bytes, LineRequest | tuple[str, str]]] = [
    (b"1 PING\n", LineRequest("1", "PING")),
    (b"1 ping\r\n", LineRequest("1", "PING")),
    (b"\n  \n\r\n1 PING\n", LineRequest("1", "PING")),
    (b" 1   PING  \n", LineRequest("1", "PING")),
    (b"a.B-_9 put-schema x\n", LineRequest("a.B-_9", "PUT-SCHEMA", b"x")),
    (b"q QUERY 1,2 SELECT  1 \n", LineRequest("q", "QUERY", b"1,2 SELECT  1 ")),
    (b"q QUERY   1 SELECT 1\r\n", LineRequest("q", "QUERY", b"1 SELECT 1")),
    (b"q QUERY 1 {3}\na\nb\n", LineRequest("q", "QUERY", b"1 \0", (b"a\nb",))),
    (b"q QUERY 1 {3}\r\na\nb\r\n", LineRequest("q", "QUERY", b"1 \0", (b"a\nb",))),
    (b"q WRITE 1 bind={2}\n[] {0}\n x{1}\n\0y\n",
     LineRequest("q", "WRITE", b"1 bind=\0 \0 x\0y", (b"[]", b"", b"\0"))),
    (b"q QUERY 1 SELECT {}\n", LineRequest("q", "QUERY", b"1 SELECT {}")),
    (b"q QUERY 1 SELECT {5} \n", LineRequest("q", "QUERY", b"1 SELECT {5} ")),
    (b"q QUERY 1 SELECT '\xff\0'\n", LineRequest("q", "QUERY", b"1 SELECT '\xff\0'")),
    (b"{6}\nq PING\n", ("*", "protocol")),
    (b"help\n", LineRequest("*", "HELP")),
    (b"Help query\n", LineRequest("*", "HELP", b"query")),
    (b"QUIT\n", LineRequest("*", "QUIT")),
    (b"help QUERY 1 SELECT 1\n", LineRequest("help", "QUERY", b"1 SELECT 1")),
    (b"lonely\n", ("lonely", "protocol")),
    (b"two, words\n", ("*", "protocol")),
    (b"%b PING\n" % (b"t" * 32), LineRequest("t" * 32, "PING")),
    (b"%b PING\n" % (b"t" * 33), ("*", "protocol")),
    (b"\xc3\xa4 PING\n", ("*", "protocol")),
    (b"* PING\n", ("*", "protocol")),
    (b"1 300001\n", ("1", "protocol")),
    (b"1 -X\n", ("1", "protocol")),
    (b"1 QUERY \0 {1}\nx\n", ("1", "protocol")),
]  # fmt: skip

#: Requests that announce too much: what does it, and what then follows to be skipped.
TOO_LARGE = [
    (b"1 QUERY {51}\n", b"x" * 51 + b" SELECT 1\n"),
    (b"1 QUERY {30}\n%b {30}\n" % (b"x" * 30), b"\n" * 30 + b" {10}\n" + b"x" * 10 + b"\n"),
    (b"1 QUERY {200}\n", b"\n" * 200 + b"\n"),
]

#: Bytes after which it is unknown where the next message begins.
LOST = [
    b"x" * 101,
    b"1 QUERY %b\n" % (b"x" * 100),
    b"1 QUERY {1}\nx%b\n" % (b"y" * 100),
    b"1 QUERY {1}\nx%b{1}\nx%b\n" % (b"y" * 50, b"y" * 50),
    b"1 QUERY {201}\n",
    b"1 QUERY {99999999999999999999999999}\n",
    b"1 QUERY {190}\n%b{11}\n" % (b"x" * 190),
    b"GET /?segment=1 HTTP/1.1\r\n",
    b"POST / HTTP/1.0\n",
]


def _parsed(parser: RequestParser) -> list[LineRequest | tuple[str, str]]:
    found: list[LineRequest | tuple[str, str]] = []
    while (message := parser.next_request()) is not None:
        if isinstance(message, Malformed):
            found.append((message.tag, message.error.code))
        else:
            found.append(message)
    return found


@pytest.mark.parametrize(("data", "expected"), MESSAGES)
def test_a_message_at_once(data: bytes, expected: object) -> None:
    """A whole message gives one request, and nothing is left over."""
    parser = RequestParser(SMALL)
    parser.receive_data(data)
    assert _parsed(parser) == [expected]
    assert not parser.is_midway()


@pytest.mark.parametrize(("data", "expected"), MESSAGES)
def test_a_message_byte_by_byte(data: bytes, expected: object) -> None:
    """The same message gives the same request however it is cut, and not before its end."""
    parser = RequestParser(SMALL)
    found = []
    for index in range(len(data)):
        assert found == []
        parser.receive_data(data[index : index + 1])
        found += _parsed(parser)
    assert found == [expected]
    assert not parser.is_midway()


@pytest.mark.parametrize(("data", "expected"), MESSAGES)
def test_a_message_with_more_behind_it(data: bytes, expected: object) -> None:
    """What follows a message, good or bad, is a message of its own."""
    parser = RequestParser(SMALL)
    parser.receive_data(data + b"next PING\n" + data + b"half a mess")
    assert _parsed(parser) == [expected, LineRequest("next", "PING"), expected]
    assert parser.is_midway()


@pytest.mark.parametrize(("announcement", "rest"), TOO_LARGE)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_too_much_is_refused_as_soon_as_it_is_announced(
    announcement: bytes, rest: bytes, size: int
) -> None:
    """Once, and what was announced is skipped, should it come all the same."""
    parser = RequestParser(SMALL)
    for data, expected in (
        (announcement[:-1], []),
        (b"\n", [("1", "too-large")]),
        (rest[:-1], []),
        (b"\nnext PING\n", [LineRequest("next", "PING")]),
    ):
        found = []
        for start in range(0, len(data), size):
            assert not found
            parser.receive_data(data[start : start + size])
            found += _parsed(parser)
        assert found == expected
    assert not parser.is_midway()


@pytest.mark.parametrize("data", LOST)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_framing_lost(data: bytes, size: int) -> None:
    """Beyond recovery is said once it is, whatever came before, and ever after."""
    parser = RequestParser(SMALL)
    parser.receive_data(b"1 PING\n")
    assert _parsed(parser) == [LineRequest("1", "PING")]
    with pytest.raises(errors.FramingLost):
        for index in range(0, len(data), size):
            parser.receive_data(data[index : index + size])
            _parsed(parser)
    parser.receive_data(b"2 PING\n")
    with pytest.raises(errors.FramingLost):
        parser.next_request()


def test_is_midway() -> None:
    """Half a line, an announced literal and the text behind a literal are all midway."""
    parser = RequestParser(SMALL)
    for piece in (b"1 QU", b"ERY {3}\n", b"abc", b" x"):
        parser.receive_data(piece)
        assert parser.next_request() is None
        assert parser.is_midway(), piece
    parser.receive_data(b"\n")
    assert parser.next_request() == LineRequest("1", "QUERY", b"\0 x", (b"abc",))
    assert not parser.is_midway()


def test_other_limits_from_the_next_request_on() -> None:
    """A peer that has authenticated may send more."""
    parser = RequestParser(SMALL)
    parser.receive_data(b"1 AUTH x\n2 QUERY {60}\n%b\n" % (b"x" * 60))
    assert parser.next_request() == LineRequest("1", "AUTH", b"x")
    parser.set_limits(FramingLimits(100, 60))
    assert parser.next_request() == LineRequest("2", "QUERY", b"\0", (b"x" * 60,))


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=60), max_size=12))
def test_garbage(chunks: list[bytes]) -> None:
    """Garbage is parsed, refused or not enough; never anything else, and never for ever."""
    parser = RequestParser(SMALL)
    data = b"".join(chunks)
    most = data.count(b"\n") + 1
    try:
        for chunk in chunks:
            parser.receive_data(chunk)
            most -= len(_parsed(parser))
            assert most >= 0
    except errors.FramingLost:
        return


_PIECES = st.sampled_from(
    [b"1", b"q7", b" ", b"PING", b"QUERY", b"{3}\n", b"{0}\r\n", b"{60}\n", b"\n", b"\r\n", b"\0",
     b"abc", b"}", b"bind=", b"x" * 40, b"help"]
)  # fmt: skip


@settings(max_examples=500)
@given(st.lists(_PIECES, max_size=40).map(b"".join), st.lists(st.integers(1, 30), max_size=20))
def test_cutting_changes_nothing(data: bytes, cuts: list[int]) -> None:
    """Whatever is sent, how it is cut into chunks does not matter."""

    def outcome(chunks: list[bytes]) -> list[object]:
        parser = RequestParser(SMALL)
        found: list[object] = []
        try:
            for chunk in chunks:
                parser.receive_data(chunk)
                found += _parsed(parser)
        except errors.FramingLost:
            # When it shows may differ, by what else a chunk held; that it shows may not.
            return ["lost", *found]
        return [*found, parser.is_midway()]

    chunks, rest = [], data
    for cut in cuts:
        chunks.append(rest[:cut])
        rest = rest[cut:]
    whole, cut_up = outcome([data]), outcome([*chunks, rest])
    if whole[:1] == ["lost"]:
        assert cut_up[:1] == ["lost"]
    else:
        assert cut_up == whole


@given(
    st.from_regex(r"\A[A-Za-z0-9._\-]{1,32}\Z"),
    st.lists(st.tuples(st.sampled_from([b"", b"name="]), st.binary(max_size=2000)), max_size=4),
    st.binary(max_size=3000),
)
def test_what_a_client_sends_arrives(
    tag: str, words: list[tuple[bytes, bytes]], text: bytes
) -> None:
    """Any bytes survive as an argument: in the line where they can, else as a literal."""
    sent = [messages.format_word(word, prefix) for prefix, word in words]
    parser = RequestParser(FramingLimits())
    parser.receive_data(
        messages.format_request(tag.encode(), b"VERB", b"first", *sent, messages.format_text(text))
    )
    request = parser.next_request()
    assert isinstance(request, LineRequest)
    assert parser.next_request() is None
    assert request.tag == tag
    pieces = iter(request.literals)
    found = [
        b"".join(part + next(pieces) if marked else part for part, marked in _marked(word))
        for word in request.arguments.split(b" ", len(words) + 1)
    ]
    assert found == [b"first", *(prefix + word for prefix, word in words), text]


def _marked(word: bytes) -> list[tuple[bytes, bool]]:
    parts = word.split(b"\0")
    return [(part, index < len(parts) - 1) for index, part in enumerate(parts)]


def test_a_long_line_costs_no_more_than_its_length() -> None:
    """Bytes that trickle in are not looked at again and again."""

    def seconds(size: int) -> float:
        parser = RequestParser(FramingLimits(max_line=size + 1))
        begun = time.process_time()
        for _ in range(size):
            parser.receive_data(b"x")
            parser.next_request()
        return time.process_time() - begun

    # Squared, sixteen times the bytes would be 256 times the work. The factor in between
    # is room for a machine that does something else meanwhile.
    small = min(seconds(8000) for _ in range(3))
    assert min(seconds(128000) for _ in range(2)) < 80 * max(small, 0.001)


def test_memory_is_bounded() -> None:
    """Skipped literals, endless blank lines and refused ones leave nothing behind."""
    parser = RequestParser(FramingLimits(max_line=1000, max_literal=1 << 20))
    tracemalloc.start()
    try:
        parser.receive_data(b"1 QUERY {%d}\n" % (4 << 20))
        assert _parsed(parser) == [("1", "too-large")]
        for _ in range(64):
            parser.receive_data(b"x" * 65536)
            assert _parsed(parser) == []
        parser.receive_data(b"\n")
        assert _parsed(parser) == []
        for _ in range(20):
            parser.receive_data(b"\r\n" * 5000 + b"? ?\n")
            assert _parsed(parser) == [("*", "protocol")]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


# -- what a server says ------------------------------------------------------------------

REPLIES = b'1 COLS a ["x"]\n1 ROWS a [[1]]\n* BYE quit goodbye\n2 OK\n'
EXPECTED = [
    (b"1", b"COLS", b'a ["x"]'),
    (b"1", b"ROWS", b"a [[1]]"),
    (b"*", b"BYE", b"quit goodbye"),
    (b"2", b"OK", b""),
]


@pytest.mark.parametrize("size", [1, 3, 20, 1000])
def test_replies_however_they_are_cut(size: int) -> None:
    """A client finds tag, word and rest of each line."""
    parser = ReplyParser()
    found = []
    for index in range(0, len(REPLIES), size):
        parser.receive_data(REPLIES[index : index + size])
        found += list(parser.replies())
    assert found == EXPECTED


def test_replies_wait_until_they_are_taken() -> None:
    """A client that pauses in the middle of a chunk finds the rest later, in order."""
    parser = ReplyParser()
    parser.receive_data(REPLIES)
    for first in parser.replies():
        assert first == EXPECTED[0]
        break
    parser.receive_data(b"3 OK\n")
    assert list(parser.replies()) == [*EXPECTED[1:], (b"3", b"OK", b"")]


@pytest.mark.parametrize("data", [b"\n", b"word\n", b"x" * 101])
def test_what_is_no_reply(data: bytes) -> None:
    """A client does not go on with what cannot be the line protocol."""
    parser = ReplyParser(100)
    with pytest.raises(errors.FramingLost):
        parser.receive_data(data)
        list(parser.replies())


LARGE_REPLIES = b"1 COLS a []\n1 ROWS a [[%b]]\n1 DONE a 1\n2 OK\n" % (b"y" * 600_000)


@pytest.mark.parametrize("size", [1000, 65536, 10_000_000])
def test_a_row_beyond_the_bounds_fails_its_segment(size: int) -> None:
    """Its line is dropped as it arrives, and what follows is taken as before."""
    bounds = PartialLines(500_000, 10_000_000, "ask for less")
    parser = ReplyParser(bounds=bounds)
    found = []
    for index in range(0, len(LARGE_REPLIES), size):
        parser.receive_data(LARGE_REPLIES[index : index + size])
        found += list(parser.replies())
        assert len(parser._tail) <= 500_000
    if size < 10_000_000:  # where it came with others it takes no more than they
        assert [each[:2] for each in found] == [
            *((b"1", word) for word in (b"COLS", b"FAIL", b"DONE")),
            (b"2", b"OK"),
        ]
        assert found[1][2] == b"a limit it sent a row of more than 500000 bytes (ask for less)"
    assert bounds.used == 0


def test_large_rows_that_come_at_once_have_a_bound_together() -> None:
    """The one that would exceed it fails, and what a lost connection had is free again."""
    bounds = PartialLines(1_000_000, 1_000_000, "ask for less")
    first, second, third = [ReplyParser(bounds=bounds) for _ in range(3)]
    first.receive_data(b"1 ROWS a [[" + b"y" * 600_000)
    second.receive_data(b"1 ROWS b [[" + b"y" * 600_000)
    assert not list(first.replies())
    ((_, word, rest),) = second.replies()
    assert (word, rest[:8]) == (b"FAIL", b"b limit ")
    first.close()
    third.receive_data(b"1 ROWS c [[" + b"y" * 600_000 + b"]]\n")
    assert [each[1] for each in third.replies()] == [b"ROWS"]
    assert bounds.used == 0


def test_a_line_without_rows_beyond_the_bounds_ends_a_connection() -> None:
    """Nothing can be said of one segment in its place."""
    parser = ReplyParser(bounds=PartialLines(300_000, 300_000, ""))
    with pytest.raises(errors.FramingLost):
        parser.receive_data(b"1 MERGED a,b 1 [[" + b"y" * 400_000)


def test_greeting() -> None:
    """A greeting survives the way, and words of later versions are skipped."""
    greeting = messages.Greeting("worker", "w01", 1000, 2000, 30, "token")
    parser = ReplyParser()
    parser.receive_data(greeting.line())
    parser.receive_data(b"TROUGH 1 sync s1 later=x max-line=7 more\n")
    first, second = parser.replies()
    assert messages.parse_greeting(first) == greeting
    assert messages.parse_greeting(second) == messages.Greeting("sync", "s1", 7)


@pytest.mark.parametrize("line", [b"TROUGH 2 worker w", b"HTTP/1.1 400 Bad", b"TROUGH 1 w"])
def test_another_greeting(line: bytes) -> None:
    """Another protocol, and another version, are found out."""
    tag, word, rest = line.split(b" ", 2)
    with pytest.raises(errors.FramingLost):
        messages.parse_greeting((tag, word, rest))


@pytest.mark.parametrize("code", sorted(errors.BY_CODE))
def test_every_error_survives(code: str) -> None:
    """Code, sentence and hint of each error arrive as the same kind of error."""
    if code == "moved":
        told = messages.format_error(errors.Moved("x", "w07", "host:6440"))
        moved = messages.parse_error(told)
        assert isinstance(moved, errors.Moved)
        assert (moved.node, moved.line) == ("w07", "host:6440")
        return
    error = errors.BY_CODE[code]("what\nit was\x1b[2J", "try \u2028 this")
    told = messages.format_error(error)
    assert b"\n" not in told and b"\x1b" not in told
    heard = messages.parse_error(told)
    assert type(heard) is type(error)
    assert heard.message == "what it was [2J (try   this)"


def test_a_long_sentence_is_cut() -> None:
    """An error that quotes megabytes of SQL does not travel whole."""
    assert len(messages.format_error(errors.BadSql("x" * 1000000))) < 2100


def test_an_unknown_code() -> None:
    """A code of a later version is an error nevertheless."""
    error = messages.parse_error(b"brand-new something")
    assert type(error) is errors.TroughError and str(error) == "something"


# -- values --------------------------------------------------------------------------------

VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(max_size=100),
)


@given(st.one_of(st.lists(VALUES), st.dictionaries(st.text(min_size=1), VALUES)))
def test_parameters_survive(parameters: values.Parameters) -> None:
    """Parameters arrive with their values and types, and never hold a blank on the way."""
    text = values.encode_parameters(parameters)
    assert b" " not in text and b"\n" not in text
    decoded = values.decode_parameters(text)
    assert decoded == parameters
    if isinstance(parameters, list):
        assert [type(value) for value in decoded] == [type(value) for value in parameters]


def test_a_parameter_named_blob() -> None:
    """A single named parameter is not taken for a BLOB."""
    assert values.decode_parameters(b'{"blob":"aGk="}') == {"blob": "aGk="}
    assert values.decode_parameters(b'{"blob":{"blob":"aGk="}}') == {"blob": b"hi"}


def test_odd_values() -> None:
    """Infinities, bool, NaN and negative zero are what SQLite makes of them."""
    sent = [math.inf, -math.inf, True, math.nan, -0.0, bytearray(b"x")]
    assert values.encode_parameters(sent) == b'[9e999,-9e999,1,null,-0.0,{"blob":"eA=="}]'


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, [], Ellipsis, 1j])
def test_values_that_sqlite_has_not(value: object) -> None:
    """They are refused before anything is sent."""
    with pytest.raises(errors.BadRequest):
        values.encode_parameters([value])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "text",
    [
        b"", b"1", b"null", b"[1", b"[1]]", b"[1] [2]", b"[NaN]", b"[Infinity]", b"[[1]]",
        b"[9223372036854775808]", b"[1" + b"0" * 5000 + b"]", b'[{"blob":1}]', b'[{"blob":"?"}]',
        b'[{"blob":"eA==","x":1}]', b'[{"x":1}]', b'["\\ud800"]', b'["\xff"]', b"[" * 100000,
    ],
)  # fmt: skip
def test_parameters_that_are_none(text: bytes) -> None:
    """Whatever is sent as parameters is used or refused with a sentence."""
    with pytest.raises(errors.BadRequest):
        values.decode_parameters(text)


def test_rows_as_executors_write_them() -> None:
    """Rows decode to SQLite's five kinds of value."""
    text = b'[[null,9223372036854775807,1.5,9e999,"\\u00e4",{"blob":"AP8="}],[-9e999]]'
    assert values.decode_rows(text) == [
        [None, 2**63 - 1, 1.5, math.inf, "ä", b"\0\xff"],
        [-math.inf],
    ]


# -- arguments -------------------------------------------------------------------------------


def _request(line: bytes, *literals: bytes) -> LineRequest:
    verb, _, rest = line.partition(b" ")
    return LineRequest("1", verb.decode(), rest, literals)


def _query(line: bytes, *literals: bytes) -> tuple[object, ...]:
    found = arguments.parse_query_arguments(_request(line, *literals))
    assert isinstance(found.segments, tuple)
    return (
        found.segments, found.pattern, found.seconds, found.rows, found.parameters, found.sql
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "literals", "expected"),
    [
        (b"QUERY a SELECT 1", (), (("a",), None, None, None, None, "SELECT 1")),
        (b"QUERY  a   SELECT  1 ", (), (("a",), None, None, None, None, "SELECT  1 ")),
        (b"QUERY a,b,a,c SELECT 1", (), (("a", "b", "c"), None, None, None, None, "SELECT 1")),
        (b"QUERY ~^a,{1,2} SELECT 1", (), ((), "^a,{1,2}", None, None, None, "SELECT 1")),
        (b"QUERY ~ SELECT 1", (), ((), "", None, None, None, "SELECT 1")),
        (b"QUERY ~\0 SELECT 1", (b"a b",), ((), "a b", None, None, None, "SELECT 1")),
        (b"QUERY ,~a SELECT 1", (), (("~a",), None, None, None, None, "SELECT 1")),
        (b"QUERY \0 \0", (b"a,b", b"SELECT\n1"), (("a", "b"), None, None, None, None, "SELECT\n1")),
        (b"QUERY a seconds=1.5 rows=3 bind=[1] SELECT ?", (),
         (("a",), None, 1.5, 3, [1], "SELECT ?")),
        (b"QUERY a BIND=\0 SELECT \0 LIMIT 1", (b'{"x": "a b"}', b"'\n'"),
         (("a",), None, None, None, {"x": "a b"}, "SELECT '\n' LIMIT 1")),
        (b"QUERY a bind=[1] SELECT ?", (), (("a",), None, None, None, [1], "SELECT ?")),
        (b"QUERY a bind=[1] rows=2 SELECT ?", (), (("a",), None, None, 2, [1], "SELECT ?")),
        (b"QUERY a SELECT x=1", (), (("a",), None, None, None, None, "SELECT x=1")),
        (b"QUERY a rows=0 \0", (b"rows=1",), (("a",), None, None, 0, None, "rows=1")),
        ("QUERY a SELECT 'ä'".encode(), (), (("a",), None, None, None, None, "SELECT 'ä'")),
    ],
)  # fmt: skip
def test_query_arguments(line: bytes, literals: tuple[bytes, ...], expected: object) -> None:
    """Segments, options and SQL are told apart, literals being taken as they are."""
    assert _query(line, *literals) == expected


@pytest.mark.parametrize(
    ("line", "code", "word"),
    [
        (b"QUERY", "bad-request", "without the segments"),
        (b"QUERY a", "bad-request", "without the SQL"),
        (b"QUERY a rows=1", "bad-request", "without the SQL"),
        (b"QUERY a bind=[1]", "bad-request", "without the SQL"),
        (b"QUERY a bind=[1] bind=[1] SELECT 1", "bad-request", "twice"),
        (b"QUERY a,,b SELECT 1", "bad-name", "''"),
        (b"QUERY a,.b SELECT 1", "bad-name", ".b"),
        (b"QUERY ../x SELECT 1", "bad-name", "../x"),
        (b"QUERY \xff SELECT 1", "bad-request", "UTF-8"),
        (b"QUERY a SELECT '\xff'", "bad-request", "UTF-8"),
        (b"QUERY a row=1 SELECT 1", "bad-request", "row="),
        (b"QUERY a rows=1 rows=2 SELECT 1", "bad-request", "twice"),
        (b"QUERY a rows=-1 SELECT 1", "bad-request", "rows=-1"),
        (b"QUERY a rows=1e3 SELECT 1", "bad-request", "rows=1e3"),
        (b"QUERY a seconds=0 SELECT 1", "bad-request", "seconds=0"),
        (b"QUERY a seconds=nan SELECT 1", "bad-request", "seconds=nan"),
        (b"QUERY a seconds=inf SELECT 1", "bad-request", "seconds=inf"),
        (b"QUERY a bind=x SELECT 1", "bad-request", "JSON"),
    ],
)
def test_bad_query_arguments(line: bytes, code: str, word: str) -> None:
    """A wrong argument is named, with what it is that is wrong."""
    with pytest.raises(errors.BadRequest) as caught:
        _query(line)
    assert caught.value.code == code
    assert word in str(caught.value)


def test_ten_thousand_ids() -> None:
    """A long list is taken whole, in its order."""
    ids = [f"{number}" for number in range(300000, 310000)]
    segments, *_ = _query(b"QUERY " + ",".join(ids).encode() + b" SELECT 1")
    assert segments == tuple(ids)


def test_the_other_verbs_arguments() -> None:
    """Each verb's arguments come out as its function says."""
    parsed = arguments.parse_write_arguments(_request(b"WRITE a seconds=2 bind=[1] INSERT"))
    assert parsed == arguments.WriteArguments("a", 2.0, [1], "INSERT")
    gather = arguments.parse_gather_arguments(_request(b"GATHER a,b SELECT partial=yes"))
    assert gather == arguments.GatherArguments(("a", "b"), None, "SELECT partial=yes")
    gather = arguments.parse_gather_arguments(
        _request(b"GATHER ~x within=no PARTIAL=Yes seconds=2 bind=\0 SELECT 1", b'{"a": 1}')
    )
    told = arguments.GatherArguments((), "x", "SELECT 1", {"a": 1}, 2.0, True, False)
    assert gather == told
    assert arguments.parse_where_arguments(_request(b"WHERE a,b")) == (("a", "b"), None)
    assert arguments.parse_where_arguments(_request(b"WHERE ~x ")) == ((), "x")
    assert arguments.parse_provision_arguments(_request(b"PROVISION a")) == ("a", "default")
    assert arguments.parse_provision_arguments(_request(b"PROVISION a schema=s")) == ("a", "s")
    assert arguments.parse_segment_argument(_request(b"DELETE a")) == "a"
    assert arguments.parse_word(_request(b"SCHEMA \0", b"a name"), "the name") == "a name"
    assert arguments.parse_optional_word(_request(b"HELP")) == ""
    put = arguments.parse_put_schema_arguments(_request(b"PUT-SCHEMA s \0", b"create\n"))
    assert put == ("s", "create\n")
    empty = arguments.parse_put_schema_arguments(_request(b"PUT-SCHEMA s \0", b""))
    assert empty == ("s", "")


@pytest.mark.parametrize(
    ("parse", "line"),
    [
        (arguments.parse_write_arguments, b"WRITE a,b INSERT"),
        (arguments.parse_write_arguments, b"WRITE a rows=1 INSERT"),
        (arguments.parse_gather_arguments, b"GATHER a"),
        (arguments.parse_gather_arguments, b"GATHER a partial=maybe SELECT 1"),
        (arguments.parse_gather_arguments, b"GATHER a rows=1 SELECT 1"),
        (arguments.parse_gather_arguments, b"GATHER a/b SELECT 1"),
        (arguments.parse_where_arguments, b"WHERE a b"),
        (arguments.parse_where_arguments, b"WHERE"),
        (arguments.parse_provision_arguments, b"PROVISION a default"),
        (arguments.parse_segment_argument, b"DELETE a b"),
        (arguments.parse_segment_argument, b"DELETE .a"),
        (arguments.parse_no_arguments, b"PING pong"),
        (arguments.parse_put_schema_arguments, b"PUT-SCHEMA s"),
    ],
)
def test_bad_arguments_of_other_verbs(parse: object, line: bytes) -> None:
    """What does not belong there is refused."""
    with pytest.raises(errors.BadRequest):
        parse(_request(line))  # type: ignore[operator]


@given(st.binary(max_size=80), st.lists(st.binary(max_size=10), max_size=3))
def test_arguments_raise_nothing_else(text: bytes, literals: list[bytes]) -> None:
    """Any request that a parser can make is parsed, or refused as a bad request."""
    text = text.replace(b"\0", b"") + b"\0" * len(literals)
    request = LineRequest("1", "QUERY", text, tuple(literals))
    for parse in (
        arguments.parse_query_arguments,
        arguments.parse_write_arguments,
        arguments.parse_gather_arguments,
        arguments.parse_provision_arguments,
        arguments.parse_put_schema_arguments,
        arguments.parse_optional_word,
    ):
        try:
            parse(request)
        except errors.BadRequest as error:
            assert str(error)


def test_fields() -> None:
    """Fields survive; what is no field is skipped."""
    text = messages.format_fields({"rows": 2, "complete": True, "node": "w1"})
    assert text == "rows=2 complete=yes node=w1"
    assert messages.parse_fields(text + " x") == {"rows": 2, "complete": "yes", "node": "w1"}
    assert json.loads(json.dumps(messages.parse_fields("a=1"))) == {"a": 1}


def test_many_literals_or_empty_lines_cost_no_more_than_their_bytes():
    """They once took seconds, while nobody else was answered."""
    parser = RequestParser(FramingLimits())
    parser.receive_data(b"1 QUERY " + b"{0}\n" * 16_000 + b"\n")
    with pytest.raises(errors.FramingLost, match="literals"):
        parser.next_request()
    parser = RequestParser(FramingLimits())
    parser.receive_data(b"\n \r\n" * 100_000 + b"1 PING\n")
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    sys.setprofile(count)
    try:
        request = parser.next_request()
    finally:
        sys.setprofile(None)
    assert request == LineRequest("1", "PING")
    assert steps < 100


def test_a_request_may_have_sixteen_literals():
    """More than any verb takes."""
    parser = RequestParser(FramingLimits())
    parser.receive_data(b"1 QUERY " + b"{1}\nx" * 16 + b"\n")
    request = parser.next_request()
    assert isinstance(request, LineRequest)
    assert request.literals == (b"x",) * 16
