"""What is fuzzed: functions of bytes that raise only if something is wrong.

Each takes whatever bytes come, gives them to a part of Trough, and lets pass the errors that the
part promises. ``tests/unit/test_fuzz.py`` runs them for seconds with Hypothesis, and
``tests/support/fuzz.py`` (``make fuzz``) for an hour, with atheris where that is installed.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, globalLogPublisher

from trough import errors
from trough.access.gate import Gate
from trough.access.token_file import read_tokens, write_tokens
from trough.executors import messages as executor_messages
from trough.executors.ipc import ChildFrameParser, ParentFrameParser, child_frame, frame
from trough.metadata.rethinkdb import rows
from trough.protocols.http.request import write_response
from trough.protocols.http.resource import Resource
from trough.protocols.http.site import Site
from trough.protocols.limits import check_json_values
from trough.protocols.line import arguments
from trough.protocols.line.framing import (
    FramingLimits,
    LineRequest,
    Malformed,
    ReplyParser,
    RequestParser,
)
from trough.protocols.line.messages import format_error, parse_error, parse_greeting
from trough.protocols.line.query_replies import deliver, parse_summary
from trough.settings import load_settings
from trough.worker.catalogue import Catalogue, Entry

Target = Callable[[bytes], None]


def portions(data: bytes) -> tuple[bytes, list[bytes]]:
    """Data, and the same in portions, whose sizes are the first four of its bytes."""
    sizes, data = data[:4], data[4:]
    cut, start = [], 0
    for size in sizes:
        cut.append(data[start : start + size])
        start += size
    return data, [*cut, data[start:]]


# -- the line protocol ---------------------------------------------------------------------

_PARSERS: tuple[Callable[[LineRequest], object], ...] = (
    arguments.parse_query_arguments,
    arguments.parse_write_arguments,
    arguments.parse_gather_arguments,
    arguments.parse_where_arguments,
    arguments.parse_provision_arguments,
    arguments.parse_revert_arguments,
    arguments.parse_segment_argument,
    arguments.parse_proof_arguments,
    arguments.parse_optional_word,
    arguments.parse_put_schema_arguments,
    arguments.parse_no_arguments,
)


def _requests(parts: list[bytes]) -> list[object]:
    parser = RequestParser(FramingLimits(300, 600))
    found: list[object] = []
    try:
        for part in parts:
            parser.receive_data(part)
            while (request := parser.next_request()) is not None:
                found.append(
                    (request.tag, format_error(request.error))
                    if isinstance(request, Malformed)
                    else (request.tag, request.verb, request.arguments, request.literals)
                )
    except errors.FramingLost as error:
        found.append(str(error))
    return found


def request_parser(data: bytes) -> None:
    """The server's parser: however it is cut, the same requests come out."""
    whole, cut = portions(data)
    assert _requests([whole]) == _requests(cut)


def request_arguments(data: bytes) -> None:
    """The arguments of each verb: checked values, or an error of our own."""
    parser = RequestParser(FramingLimits(10_000, 10_000))
    parser.receive_data(data + b"\n")
    try:
        while (request := parser.next_request()) is not None:
            if isinstance(request, Malformed):
                continue
            for parse in _PARSERS:
                try:
                    parse(request)
                except errors.TroughError as error:
                    assert b"\n" not in format_error(error)
    except errors.FramingLost:
        pass


class _Listener:
    """Takes a query's lines, and looks at their types."""

    def state(self, segment: str, mark: str) -> None:
        assert isinstance(mark, str)

    def columns(self, segment: str, names: tuple[str, ...]) -> None:
        pass

    def rows(self, segment: str, rows: list[list[Any]]) -> None:
        pass  # what a server sends as JSON is not looked at

    def done(self, segment: str, count: int) -> None:
        assert isinstance(count, int)

    def failed(self, segment: str, error: errors.TroughError) -> None:
        assert isinstance(error, errors.TroughError)


def _replies(parts: list[bytes]) -> list[object]:
    parser = ReplyParser(300)
    found: list[object] = []
    try:
        for part in parts:
            parser.receive_data(part)
            found += parser.replies()
    except errors.FramingLost as error:
        found.append(type(error))
    return found


def reply_parser(data: bytes) -> None:
    """The client's parser and what makes values of lines."""
    whole, cut = portions(data)
    found = _replies([whole])
    in_parts = _replies(cut)
    # A line that is too long passes if it comes in one piece, for then it is here already.
    if errors.FramingLost not in (*found, *in_parts):
        assert in_parts == found
    for reply in found:
        if not isinstance(reply, tuple):
            continue
        parse_error(reply[2])
        for read in (
            lambda reply=reply: parse_greeting(reply),
            lambda reply=reply: parse_summary(reply[2]),
            lambda reply=reply: deliver(_Listener(), reply[1], reply[2]),
        ):
            with suppress(errors.TroughError):
                read()


# -- HTTP ----------------------------------------------------------------------------------


class _Answering(Resource):
    def handler(self, request: Any) -> Callable[[Any], None]:
        request.allowed.check_segment("s")
        return lambda request: write_response(request, 200, b"text/plain", request.body())


def http_requests(data: bytes) -> None:
    """A connection of an HTTP port: it answers or closes, and nothing fails inside."""
    _, cut = portions(data)
    failures: list[Any] = []

    def observe(event: dict[str, Any]) -> None:
        if event["log_level"] is LogLevel.critical:
            failures.append(event.get("log_failure") or event)

    clock = Clock()
    site = Site(_Answering(Gate("a-secret-token")), clock, 1000)
    channel, transport = site.buildProtocol(None), StringTransport()
    globalLogPublisher.addObserver(observe)
    try:
        channel.makeConnection(transport)
        for part in cut:
            # As TCP does: nothing is read once the connection is to end.
            if not transport.disconnected and not transport.disconnecting:
                channel.dataReceived(part)
                clock.advance(0)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert not failures, failures


def authorization(data: bytes) -> None:
    """What clients show: a grant for the token and for nothing else."""
    gate = Gate("a-secret-token", addresses=["w:1"])
    grant = gate.grant_of_header(data)
    assert grant is None or b"token" in data or data[:5].lower() == b"basic"
    text = data.decode("utf-8", "replace")
    assert gate.grant_of_proof("chosen", text, text) is None
    assert gate.grant_of_proof(text, gate.challenge(), text) is None


def json_values(data: bytes) -> None:
    """Counting never takes JSON with few values for one with many."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    try:
        check_json_values(data, 1000, "it")
    except errors.TooLarge:
        assert value is None or data.count(b",") + data.count(b"[") + data.count(b"{") > 1000


# -- between our own processes ---------------------------------------------------------------


def executor_frames(data: bytes) -> None:
    """Messages that hold any bytes come out as they went in, however the stream is cut."""
    whole, cut = portions(data)
    messages = [(1, whole, len(whole)), (2, [part.hex() for part in cut], None)]
    stream = frame([messages[0]]) + frame([]) + frame(messages)
    parser = ParentFrameParser()
    found: list[object] = []
    start = 0
    for size in [*data[:40], len(stream)]:
        found += parser.receive_data(stream[start : start + size + 1])
        start += size + 1
    assert found == [messages[0], *messages]


def child_frames(data: bytes) -> None:
    """Any bytes of a child are tuples with something in them, or a ValueError."""
    _, cut = portions(data)
    parser = ChildFrameParser()
    try:
        for part in cut:
            for message in parser.receive_data(part):
                assert type(message) is tuple
                assert message
    except ValueError:
        pass


def answers_of_executors(data: bytes) -> None:
    """Any bytes of an executor are messages with fields of the right types, or a ValueError."""
    _, cut = portions(data)
    parser = executor_messages.ExecutorFrameParser()
    try:
        for part in cut:
            for message in parser.receive_data(part):
                again = executor_messages.ExecutorFrameParser()
                assert again.receive_data(executor_messages.frame([message])) == [message]
    except ValueError:
        pass


# -- files -----------------------------------------------------------------------------------


def catalogue(data: bytes) -> None:
    """A worker's catalogue of any content opens as one, or is refused."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "catalogue.db")
        path.write_bytes(_mutated(_CATALOGUE, data))
        try:
            with closing(Catalogue(path)) as opened:
                for entry in opened.entries():
                    assert isinstance(entry, Entry)
                    _check_types(entry)
                opened.put(Entry("s", "s.sqlite"))
                opened.remove(["s"])
        except errors.TroughError:
            pass


def _check_types(entry: Entry) -> None:
    for field in fields(entry):
        kinds = {"str": str, "int": int, "bool": bool, "float": (int, float)}[str(field.type)]
        value = getattr(entry, field.name)
        assert isinstance(value, kinds), (field.name, value)  # type: ignore[arg-type]


def _mutated(good: bytes, data: bytes) -> bytes:
    """A good file with some bytes changed: each three bytes are a place and a value."""
    if data[:1] == b"!":
        return data[1:]
    changed = bytearray(good)
    for high, low, value in zip(*[iter(data[:300])] * 3, strict=False):
        changed[(high << 8 | low) % len(good)] = value
    return bytes(changed)


def _a_catalogue() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "catalogue.db")
        with closing(Catalogue(path)) as opened:
            opened.put(Entry("a", "a.sqlite", 1, 2, "sha256:x", 3, True, "", 4, 5, 6.5))
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode = DELETE")
        return path.read_bytes()


_CATALOGUE = _a_catalogue()


def settings_file(data: bytes) -> None:
    """A settings file is understood, or refused by one sentence of bounded length."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "settings.yml")
        path.write_bytes(data)
        try:
            load_settings(str(path), {}, "w01", cores=2)
        except errors.BadSettings as error:
            assert len(str(error)) < 5000


def token_file(data: bytes) -> None:
    """The same for the file of tokens."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "tokens.json")
        path.write_bytes(data)
        try:
            tokens = read_tokens(path)
        except errors.BadSettings as error:
            assert len(str(error)) < 5000
        else:
            write_tokens(path, tokens)
            assert read_tokens(path) == tokens


# -- rows that others write --------------------------------------------------------------------


def registry_rows(data: bytes) -> None:
    """A row of RethinkDB is a value of ours, or is passed over."""
    try:
        row = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(row, dict):
        return
    row.setdefault("id", "x")  # RethinkDB keeps no row without a primary key
    for read in (rows.leader, rows.worker, rows.lock, rows.assignment, rows.inventory):
        value: Any = read(row)
        if value is not None:
            _check_fields(value)
    value = rows.copy(row, 1.0)
    if value is not None:
        _check_fields(value)
    rows.locked(row)
    rows.by_segment([{**row, "worker": None}, {"worker": [3, 5.5]}])
    rows.assignments([row])
    rows.segment_of(row)
    try:
        rows.refuse_foreign_lock(row)
        rows.schema(row, "x")
    except errors.TroughError:
        pass


def _check_fields(value: Any) -> None:
    for field in fields(value):
        kinds = {"str": str, "int": int, "bool": bool, "float": (int, float)}.get(str(field.type))
        if kinds is not None:
            found = getattr(value, field.name)
            assert isinstance(found, kinds), (type(value), field.name, found)  # type: ignore[arg-type]


#: Everything that is fuzzed, with inputs to begin with.
TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "request_parser": (
        request_parser,
        [
            b"\1\2\3\4" + text
            for text in (
                b"1 QUERY a,b seconds=1 bind=[1] SELECT 1\n",
                b"1 WRITE a {3}\nabc\r\n2 PING\n",
                b"2 ECHO {3}\nabc {2}\nxy\nHELP\n",
                b"x {999}\n",
                b"GET / HTTP/1.1\r\n",
            )
        ],
    ),
    "request_arguments": (
        request_arguments,
        [
            b"1 QUERY ~^a seconds=1.5 rows=3 bind={\"a\":1} SELECT :a",
            b"1 GATHER a,b partial=yes within=no stale=refuse SELECT 1",
            b"1 WRITE a%20b bind=[1,2.5,null,{\"blob\":\"YQ==\"}] SELECT 1",
            b"1 REVERT a preview=yes",
            b"1 PROVISION a schema=b",
            b"1 PROVE a b c",
        ],
    ),
    "reply_parser": (
        reply_parser,
        [
            b"\5\1\1\1" + text
            for text in (
                b"TROUGH 1 worker w01 max-line=65536 max-literal=1000 max-requests=10 auth=none\n",
                b'1 COLS a ["x"]\n1 ROWS a [[1,"y",null,{"blob":"YQ=="}]]\n1 DONE a 1\n',
                b"1 END segments=1 failed=0 rows=1 ms=2 complete=yes\n* BYE timeout idle\n",
                b"1 FAIL a moved w02 h:1\n1 STATE a last-promoted\n1 ERR internal x\n",
            )
        ],
    ),
    "http_requests": (
        http_requests,
        [
            b"\20\1\1\1" + text
            for text in (
                b"POST /?segment=a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
                b"GET /peer/challenge HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\n",
                b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
                b"Authorization: Bearer a-secret-token\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
                b"POST /peer/ticket HTTP/1.1\r\nAuthorization: Trough-Proof chosen a b\r\n\r\n",
                b"OPTIONS * HTTP/1.1\r\nOrigin: http://a\r\nExpect: 100-continue\r\n\r\n",
            )
        ],
    ),
    "authorization": (
        authorization,
        [b"Bearer x", b"Basic bWU6YS1zZWNyZXQtdG9rZW4=", b"Trough-Ticket x", b"3c.00.00"],
    ),
    "json_values": (json_values, [b'{"a":[1,"x,\\"[",{}]}', b'"' + b"[," * 600 + b'"']),
    "executor_frames": (executor_frames, [b"\0\1\2\3abc", bytes(range(64))]),
    "answers_of_executors": (
        answers_of_executors,
        [
            b"\x05\x08\x03\x02" + executor_messages.frame(
                [
                    executor_messages.PartPieces(1, [0, ~1], [2, 0], [b"abc", b""], [0]),
                    executor_messages.WriteStored(2, 3),
                ]
            ),
            b"\0\0\0\0" + executor_messages.frame(
                [executor_messages.PartFailed(1, "bad-sql", "no", "")]
            ),
        ],
    ),
    "child_frames": (
        child_frames,
        [
            b"\x05\x08\x03\x02" + child_frame([(1, 2, b"abc", [1, -1])]),
            b"\0\0\0\0" + child_frame([(3, "x", {"a": 1.5}, None, True)]),
        ],
    ),
    "catalogue": (catalogue, [b"", b"\0\0S", b"!SQLite format 3\0", b"\20\0\0\20\1\377"]),
    "settings_file": (
        settings_file,
        [
            b"READ_PORT: 7000\nCOPIES: [{match: x, copies: 1}]\n",
            b"a: &a [x, x]\nREAD_PORT: [*a, *a]\n",
            b"WORKER_TTL: 1e1\nSTORAGE_URL: webhdfs://h:1/x\n",
            b"METADATA_URL: 'rethinkdb://a,b:2/t'\nHTTP_HOSTS: [a]\n",
        ],
    ),
    "token_file": (
        token_file,
        [
            b'{"version": 1, "tokens": [{"name": "a", "id": "0123456789abcdef", "stored": "'
            + b"0" * 64
            + b'", "rights": ["read"], "segments": ["a*"], "created": 5, "expires": null}]}'
        ],
    ),
    "registry_rows": (
        registry_rows,
        [
            json.dumps(row).encode()
            for row in (
                {"id": "trough-nodes:w1:None", "role": "trough-nodes", "node": "w1", "ttl": 3,
                 "last_heartbeat": {"epoch_time": 1.5}, "url": "http://a:1/", "load": 1},
                {"id": "trough-read:w1:a", "role": "trough-read", "node": "w1", "segment": "a",
                 "url": "http://w1:1/?segment=a", "ttl": 1.5, "port": 1},
                {"id": "write:lock:a", "segment": "a", "node": "w1", "epoch": 3},
                {"id": "w1:a", "node": "w1", "segment": 5, "remote_path": "/x/a.sqlite",
                 "bytes": 5, "hash_ring": 1, "path": "a.sqlite"},
                {"id": "ring-assignments", "w1": {}},
                {"id": "x", "sql": "CREATE TABLE t (a)"},
            )
        ],
    ),
}  # fmt: skip


def mutations(seeds: list[bytes], random: Any) -> Iterator[bytes]:
    """Inputs made of seeds, for ever: bytes changed, removed, repeated, and put together."""
    known = list(seeds)
    while True:
        data = bytearray(random.choice(known))
        for _ in range(random.randrange(1, 6)):
            place = random.randrange(len(data) + 1)
            other = random.choice(known)
            kind = random.randrange(6)
            if kind == 0:
                data[place : place + 1] = random.randbytes(1)
            elif kind == 1:
                del data[place : place + random.randrange(1, 9)]
            elif kind == 2:
                data[place:place] = random.randbytes(random.randrange(1, 9))
            elif kind == 3:
                data[place:place] = data[place : place + random.randrange(1, 40)]
            elif kind == 4:
                begin = random.randrange(len(other) + 1)
                data[place:place] = other[begin : begin + random.randrange(1, 60)]
            else:
                data[place:place] = random.choice(_WORDS)
        yield bytes(data[:4096])


_WORDS = [b"\n", b"\r\n", b" ", b"\0", b"{0}", b"{5}\n", b"%2C", b"%", b"~", b",", b"=", b"\"",
          b"[", b"{", b"null", b"1e999", b"-1", b"99999999999999999999", b"\xff",
          b"\xed\xa0\x80", b"*", b"&a ", b"- ", b": ", b"'", b"true", b"1.5"]  # fmt: skip
