"""Small roles for the tests of the line protocol: real verbs, no files.

One answers at once (ECHO), little by little under back-pressure (COUNT), when told to
(WAIT), and wrongly (BOOM, MUTE); the other is a worker in miniature.
"""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport

from trough import errors
from trough.protocols.line.arguments import (
    QueryArguments,
    parse_query_arguments,
    parse_word,
    parse_write_arguments,
)
from trough.protocols.line.framing import LineRequest
from trough.protocols.line.replies import QueryReply, Reply, Verb, WriteReply, table
from trough.protocols.line.values import encode_value


class CountJob:
    """Sends lines, a few a turn of the clock, until all are sent or it is cancelled."""

    def __init__(self, clock: Any, reply: Reply, total: int) -> None:
        self.sent = 0
        self.paused = False
        self.cancelled = False
        self._clock, self._reply, self._total = clock, reply, total
        self._call = clock.callLater(0, self._step)

    def _step(self) -> None:
        if self.paused:
            return
        for _ in range(min(8, self._total - self.sent)):
            self.sent += 1
            self._reply.line("ROWS", "count", f"[[{self.sent}]]", "x" * 1000)
        if self.sent == self._total:
            self._reply.end(rows=self.sent)
        else:
            self._call = self._clock.callLater(0, self._step)

    def cancel(self) -> None:
        self.cancelled = True
        if self._call.active():
            self._call.cancel()
        self._reply.error(errors.Cancelled("counting was cancelled"))

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        if not self._call.active() and not self.cancelled and self.sent < self._total:
            self._call = self._clock.callLater(0, self._step)


class DeafJob:
    """Goes on for ever, whatever it is told."""

    def cancel(self) -> None:
        pass

    pause = resume = cancel


@dataclass
class CountRole:
    """The role; what goes on in it can be looked at.

    :ivar jobs: of COUNT, the oldest first
    :ivar waiting: what each WAIT waits for, by tag
    """

    clock: Any
    jobs: list[CountJob] = field(default_factory=list)
    waiting: dict[str, Deferred[str]] = field(default_factory=dict)

    def verbs(self) -> dict[str, Verb]:
        """The table that a server takes."""
        return table(
            Verb("ECHO", "<word>", "answers with the word", self._echo, "1 ECHO hello"),
            Verb("COUNT", "<n>", "counts up to n", self._count, "1 COUNT 3"),
            Verb("WAIT", "[anything]", "answers when it is told to", self._wait, "1 WAIT"),
            Verb("SPEAK", "<n>", "says n lines, as the reader takes them", self._speak,
                 "1 SPEAK 3"),
            Verb("DEAF", "", "never answers", self._deaf, "1 DEAF"),
            Verb("BOOM", "[later]", "breaks", self._boom, "1 BOOM"),
            Verb("MUTE", "", "forgets to answer", self._mute, "1 MUTE"),
        )  # fmt: skip

    def _echo(self, request: LineRequest, reply: Reply) -> None:
        reply.info(parse_word(request, "the word"))
        reply.ok()

    def _count(self, request: LineRequest, reply: Reply) -> None:
        job = CountJob(self.clock, reply, int(parse_word(request, "the number")))
        self.jobs.append(job)
        reply.follow(job)

    def _deaf(self, request: LineRequest, reply: Reply) -> None:
        reply.follow(DeafJob())

    async def _wait(self, request: LineRequest, reply: Reply) -> None:
        waiting = self.waiting[request.tag] = Deferred()
        reply.ok(word=await waiting)

    async def _speak(self, request: LineRequest, reply: Reply) -> None:
        total = int(parse_word(request, "the number"))
        for number in range(total):
            await reply.ready()
            reply.line("ROWS", "speak", f"[[{number}]]", "x" * 1000)
        reply.end(rows=total)

    def _boom(self, request: LineRequest, reply: Reply) -> Any:
        if request.arguments:
            return self._boom_later()
        raise ZeroDivisionError("boom")

    async def _boom_later(self) -> None:
        raise ZeroDivisionError("boom later")

    async def _mute(self, request: LineRequest, reply: Reply) -> None:
        pass


class Wire(StringTransport):
    """A transport without a network, with an end of its own for each direction."""

    half_closed = False
    aborted = False

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def take(self) -> list[str]:
        """The lines written since the last time."""
        data = self.value()
        self.clear()
        assert data == b"" or data.endswith(b"\n")
        return data.decode().split("\n")[:-1]


@dataclass
class Outcome:
    """As the executors report one."""

    segments: int = 0
    failed: int = 0
    rows: int = 0
    changes: int = 0
    error: errors.TroughError | None = None
    corrupt: tuple[str, ...] = ()


class SqlRole:
    """A worker in miniature: each segment is a database in memory, asked in the reactor.

    :ivar segments: the databases by segment
    :ivar moved: where segments are that are not here
    """

    def __init__(self) -> None:
        self.segments: dict[str, sqlite3.Connection] = {}
        self.moved: dict[str, errors.Moved] = {}

    def add(self, segment: str, sql: str) -> None:
        """Add a segment made by `sql`."""
        database = sqlite3.connect(":memory:", isolation_level=None)
        database.executescript(sql)
        self.segments[segment] = database

    def verbs(self) -> dict[str, Verb]:
        """The table that a server takes."""
        return table(
            Verb("QUERY", "<id>,<id>...|~<pattern> [seconds=N] [rows=N] [bind=JSON] <SQL>",
                 "asks one SELECT of each of the segments", self._query,
                 "1 QUERY 300001,300002 SELECT count(*) FROM crawled_url"),
            Verb("WRITE", "<id> [seconds=N] [bind=JSON] <SQL>",
                 "runs SQL in one transaction; answers once it is on disk", self._write,
                 "1 WRITE 300001 INSERT INTO crawled_url (url) VALUES ('http://example.com/')"),
        )  # fmt: skip

    def _query(self, request: LineRequest, reply: Reply) -> None:
        asked = parse_query_arguments(request)
        segments = asked.segments
        if asked.pattern is not None:
            found = re.compile(asked.pattern)
            segments = tuple(filter(found.search, self.segments))
        answer, tag = QueryReply(reply), request.tag
        outcome = Outcome()
        for segment in segments:
            if segment not in self.segments:
                lost = errors.NoSuchSegment("no worker has a copy of it")
                answer.fail(segment, self.moved.get(segment, lost))
                continue
            outcome.segments += 1
            try:
                rows = self._rows(segment, asked, answer, tag)
            except sqlite3.Error as error:
                reply.fail(segment, errors.BadSql(str(error)))
                outcome.failed += 1
            else:
                outcome.rows += rows
                reply.line("DONE", segment, f"{rows}")
        answer.finished(outcome)  # type: ignore[arg-type]

    def _rows(self, segment: str, asked: QueryArguments, answer: QueryReply, tag: str) -> int:
        database = self.segments[segment]
        database.execute("PRAGMA query_only = 1")
        try:
            cursor = database.execute(asked.sql, asked.parameters or ())
        finally:
            database.execute("PRAGMA query_only = 0")
        names = json.dumps([column[0] for column in cursor.description], separators=(",", ":"))
        answer.data(f"{tag} COLS {segment} {names}\n".encode())
        count = 0
        while rows := cursor.fetchmany(100):
            count += len(rows)
            if asked.rows and count > asked.rows:
                raise sqlite3.Error(f"more than {asked.rows} rows")
            told = ",".join(f"[{','.join(map(encode_value, row))}]" for row in rows)
            answer.data(f"{tag} ROWS {segment} [{told}]\n".encode())
        return count

    def _write(self, request: LineRequest, reply: Reply) -> None:
        asked = parse_write_arguments(request)
        database = self.segments.get(asked.segment)
        if database is None:
            raise errors.NoWriteLock(f"segment {asked.segment} is not written here")
        before = database.total_changes
        try:
            database.execute(asked.sql, asked.parameters or ())
        except sqlite3.Error as error:
            raise errors.BadSql(str(error)) from error
        outcome = Outcome(changes=database.total_changes - before)
        WriteReply(reply).finished(outcome)  # type: ignore[arg-type]
