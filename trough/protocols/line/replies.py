"""The verbs that a role serves over the line protocol, and how it replies.

A role is a mapping of :class:`Verb`. Its handlers are called on the reactor's thread, in
the order of the requests, with the request and a :class:`Reply`, and either

* answer at once, or leave the answer to a job that they started and passed to
  :meth:`Reply.follow`; such a handler returns None, or
* are coroutines, for slow work; they are cancelled by ``CANCEL`` and when the
  connection is lost, and have answered, or followed a job, when they return.

A :class:`trough.errors.TroughError` that a handler raises becomes the answer; any other
exception is logged and becomes ``internal``. Every request is answered exactly once, by one of
`ok`, `end` and `error`. Lines after that, or after the connection is gone, are dropped. Nothing
in this module depends on sockets.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred

from trough import errors
from trough.access.audit import AuditLog
from trough.access.rights import EVERY_RIGHT, Grant
from trough.model import segment_word
from trough.protocols.line import messages
from trough.protocols.line.framing import LineRequest
from trough.util.job import Job

if TYPE_CHECKING:
    from trough.executors.pool.jobs import LargeLineReceiver, LargeLineSource
    from trough.executors.pool.pool import Outcome
    from trough.worker.writing import Write


class ReplyConnection(Protocol):
    """What a reply needs of the connection that it travels on."""

    #: Whether jobs have to be paused from the start.
    jobs_paused: bool
    #: Who is at the other end.
    client: str
    #: What it may do.
    grant: Grant

    def send(self, data: bytes) -> None:
        """Send whole lines, soon and in order."""

    def large_line(self, source: LargeLineSource) -> LargeLineReceiver:
        """Have a line sent in pieces, as soon as no other one is on its way."""

    def ended(self, reply: Reply) -> None:
        """The reply has been given."""

    def seconds(self) -> float:
        """The time, by a clock that only counts."""


class Reply:
    """The answer to one request, while it is being given.

    :ivar tag: of the request
    :ivar connection: that it travels on
    :ivar began: when the request was taken up, in seconds of the connection's clock
    :ivar size: bytes of the request
    :ivar ended: whether nothing more will be sent
    :ivar verb: what was asked, ``other`` where there is no such verb; for the metrics
    :ivar outcome: ``ok`` or the code of the error; for the metrics
    :ivar jobs: that were handed to `follow`
    :ivar seconds: from taking the request up to its answer; set right before the end
    """

    __slots__ = (
        *("_waiter", "began", "connection", "ended", "jobs"),
        *("outcome", "seconds", "size", "tag", "verb"),
    )

    def __init__(self, connection: ReplyConnection, tag: str, size: int) -> None:
        self.connection = connection
        self.tag = tag
        self.size = size
        self.began = connection.seconds()
        self.ended = False
        self.verb = "other"
        self.outcome = "ok"
        self.seconds = -1.0
        self.jobs: tuple[Job, ...] = ()
        self._waiter: Deferred[None] | None = None

    # -- for handlers ---------------------------------------------------------------

    def follow(self, job: Job) -> None:
        """Tie `job` to this reply: it is cancelled with it and paused for a slow reader."""
        self.jobs += (job,)
        if self.ended:
            job.cancel()
        elif self.connection.jobs_paused:
            job.pause()

    def ready(self) -> Deferred[None]:
        """Fires when the reader keeps up, which may be now.

        For a coroutine that sends many lines; it awaits this every now and then.
        """
        ready: Deferred[None] = Deferred()
        if self.connection.jobs_paused:
            self._waiter = ready
        else:
            ready.callback(None)
        return ready

    def data(self, lines: bytes) -> None:
        """Send finished lines, each of which begins with the tag and ends with LF."""
        if not self.ended:
            self.connection.send(lines)

    def line(self, word: str, *arguments: str) -> None:
        """Send ``tag WORD arguments``."""
        line = " ".join((self.tag, word, *arguments)).rstrip()
        self.data(line.encode("utf-8", "replace") + b"\n")

    def info(self, text: str) -> None:
        """Send ``tag INFO`` lines, one for each line of `text`."""
        for line in text.split("\n"):
            self.line("INFO", messages.one_line(line))

    def fail(self, segment: str, error: errors.TroughError) -> None:
        """Send ``tag FAIL segment code sentence``: one segment has no whole answer."""
        self.data(
            b"%b FAIL %b " % (self.tag.encode(), segment_word(segment).encode()) + _told(error)
        )

    def miss(self, segment: str, error: errors.TroughError) -> None:
        """Send ``tag MISS segment code sentence``: the answer does without this segment."""
        self.data(
            b"%b MISS %b " % (self.tag.encode(), segment_word(segment).encode()) + _told(error)
        )

    def ok(self, document: object = None, /, **fields: object) -> None:
        """Answer ``tag OK``, with `fields` as ``key=value`` or `document` as JSON.

        A key's underscores become hyphens.
        """
        if document is not None:
            self._end(f"{self.tag} OK {json.dumps(document)}\n".encode())
        else:
            self._end(f"{self.tag} OK {_formatted(fields)}".rstrip().encode() + b"\n")

    def written(self, changes: int) -> None:
        """Answer a write, as :meth:`ok` with ``changes`` and ``ms`` does.

        :param changes: rows
        """
        line = b"%b OK changes=%d ms=%d\n"
        self._end(line % (self.tag.encode(), changes, self.milliseconds))

    def end(self, **fields: object) -> None:
        """Answer ``tag END`` with `fields`, after a request for many segments."""
        self._end(f"{self.tag} END {_formatted(fields)}\n".encode())

    def error(self, error: errors.TroughError) -> None:
        """Answer ``tag ERR code sentence``: the whole request failed."""
        self.outcome = error.code
        self._end(b"%b ERR " % self.tag.encode() + _told(error))

    @property
    def milliseconds(self) -> int:
        """Since the request was taken up."""
        self.seconds = self.connection.seconds() - self.began
        return int(self.seconds * 1000 + 0.5)

    # -- for the connection ------------------------------------------------------------

    def cancel(self) -> None:
        """Ask everything that goes on for this reply to end."""
        for job in self.jobs:
            job.cancel()

    def abandon(self) -> None:
        """The connection is gone: send nothing more, and end what goes on."""
        self.ended = True
        self.cancel()

    def pause(self) -> None:
        """The reader is slow."""
        for job in self.jobs:
            job.pause()

    def resume(self) -> None:
        """The reader has caught up."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.called:
            waiter.callback(None)
        for job in self.jobs:
            job.resume()

    def about(self, **more: object) -> None:
        """Set what the request is about, for the audit log; see :class:`NotedReply`."""

    def _end(self, line: bytes) -> None:
        if not self.ended:
            self.ended = True
            # They know this reply in turn; left together, both would wait for the collector.
            self.jobs = ()
            self.connection.send(line)
            self.connection.ended(self)


class NotedReply(Reply):
    """A reply that the audit log has an entry of.

    :param act: what the log calls it
    """

    __slots__ = ("_act", "_audit", "_subject")

    def __init__(
        self, connection: ReplyConnection, tag: str, size: int, audit: AuditLog, act: str
    ) -> None:
        super().__init__(connection, tag, size)
        self._audit = audit
        self._act = act
        self._subject: dict[str, object] = {}

    def about(self, **more: object) -> None:
        """Set what the request is about.

        :param more: keys of the entry
        """
        self._subject |= more

    # A write may end after its connection, so these write the entry even if the client is gone.

    def ok(self, document: object = None, /, **fields: object) -> None:
        self._note("ok")
        super().ok(document, **fields)

    def written(self, changes: int) -> None:
        self._note("ok")
        super().written(changes)

    def error(self, error: errors.TroughError) -> None:
        self._note(error.code)
        super().error(error)

    def _note(self, outcome: str) -> None:
        act, self._act = self._act, ""
        if act:
            connection = self.connection
            self._audit.note(
                act, outcome, connection.grant.name, connection.client, **self._subject
            )


class QueryReply:
    """Receives a query's outcome from the executors and sums it up.

    :param parts: how many times `finished` will be called, once by each of the parts
        that the request was split into; the last one answers
    """

    __slots__ = (
        *("_error", "_failed", "_kept", "_parts", "_pruned", "_reply", "_rows", "_segments"),
        "version",
    )

    def __init__(self, reply: Reply, parts: int = 1) -> None:
        self._reply = reply
        self._parts = parts
        self._segments = self._failed = self._rows = self._kept = self._pruned = 0
        self._error: errors.TroughError | None = None
        #: Gives the word for the state that so many segments answered from, or nothing.
        self.version: Callable[[int], str] | None = None

    def data(self, chunk: bytes) -> None:
        """Pass on an executor's finished lines; what they hold is counted by their outcome."""
        self._reply.data(chunk)

    def fail(self, segment: str, error: errors.TroughError) -> None:
        """One more segment, of those that no executor was asked for, is not answered."""
        self._segments += 1
        self._failed += 1
        self._reply.fail(segment, error)

    def large_line(self, source: LargeLineSource) -> LargeLineReceiver:
        """See :class:`trough.executors.pool.jobs.Receiver`."""
        return self._reply.connection.large_line(source)

    def answered(self, segments: int, rows: int, pruned: int = 0) -> None:
        """Some more segments were answered, from what was kept.

        :param pruned: of these, segments without rows by a filter of a column
        """
        self._segments += segments
        self._kept += segments - pruned
        self._pruned += pruned
        self._rows += rows

    def whole(self, chunk: bytes, rows: int) -> bool:
        """Take the only segment's whole answer, and its end, in one call.

        :return: whether it was taken; if not, it comes by `data` and `finished`
        """
        if self._parts != 1 or self._segments or self.version is not None:
            return False
        reply = self._reply
        seconds = reply.seconds = reply.connection.seconds() - reply.began
        reply._end(
            b"%b%b END segments=1 failed=0 rows=%d ms=%d complete=yes\n"
            % (chunk, reply.tag.encode(), rows, seconds * 1000 + 0.5)
        )
        return True

    def finished(self, outcome: Outcome) -> None:
        """One part has ended."""
        self._segments += outcome.segments
        self._failed += outcome.failed
        self._rows += outcome.rows
        self._error = self._error or outcome.error
        self._parts -= 1
        if self._parts:
            return
        if self._error is not None:
            self._reply.error(self._error)
        else:
            more = b"" if self.version is None else self._about_kept(self.version)
            self._reply._end(
                b"%b END segments=%d failed=%d rows=%d ms=%d complete=%b%b\n"
                % (
                    self._reply.tag.encode(),
                    self._segments,
                    self._failed,
                    self._rows,
                    self._reply.milliseconds,
                    b"no" if self._failed else b"yes",
                    more,
                )
            )

    def _about_kept(self, version: Callable[[int], str]) -> bytes:
        word = "" if self._failed else version(self._segments)
        pruned = f" pruned={self._pruned}" if self._pruned else ""
        return f" kept={self._kept}{pruned}{' version=' if word else ''}{word}".encode()


class WriteReply:
    """Receives a write's outcome from the executors, and answers.

    :param again: called in place of an answer, if this worker has lost the write lock meanwhile
    :ivar job: the write
    """

    __slots__ = ("_again", "_reply", "job")

    def __init__(self, reply: Reply, again: Callable[[], None] | None = None) -> None:
        self._reply = reply
        self._again = again
        self.job: Write | None = None

    def data(self, chunk: bytes) -> None:
        """A write has no rows."""

    def finished(self, outcome: Outcome) -> None:
        """The write is on disk, or is not."""
        job, self.job = self.job, None
        if job is not None:
            self._reply.about(epoch=job.epoch)
        if outcome.error is not None:
            lost = isinstance(outcome.error, errors.NoWriteLock)  # and nothing was stored
            if lost and self._again is not None and not self._reply.ended:
                self._again()
            else:
                self._reply.error(outcome.error)
        else:
            self._reply.written(outcome.changes)


#: Answers a request; see the module's text.
Handler = Callable[[LineRequest, Reply], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb of the protocol.

    :ivar name: in upper case
    :ivar usage: its arguments, in the notation of the protocol document
    :ivar help: what it does, in one line
    :ivar example: a whole request
    :ivar always: whether it works before authentication and during a shutdown
    :ivar needs: rights of which the client has to have one
    :ivar act: what the audit log calls it; empty: it changes nothing
    """

    name: str
    usage: str
    help: str
    handler: Handler
    example: str
    always: bool = False
    needs: int = EVERY_RIGHT
    act: str = ""


def table(*verbs: Verb) -> dict[str, Verb]:
    """Verbs by their names, as the server takes them."""
    return {verb.name: verb for verb in verbs}


def help_on(verbs: Mapping[str, Verb], topic: str) -> Iterator[str]:
    """The text of ``HELP``, line by line.

    :param topic: a verb, or empty for all of them
    :raises trough.errors.NotFound: there is no such verb
    """
    if topic:
        verb = verbs.get(topic.upper())
        if verb is None:
            raise errors.NotFound(f"no verb {topic[:40]!a}", "HELP lists them all")
        yield f"{verb.name} {verb.usage}".rstrip()
        yield f"    {verb.help}"
        yield f"For example: {verb.example}"
        return
    yield "A request is one line: TAG VERB ARGUMENTS. The tag is any word you choose;"
    yield "every line of the answer begins with it, and OK, END or ERR is the last one."
    width = max(map(len, verbs))
    for verb in verbs.values():
        yield f"  {verb.name:<{width}}  {verb.help}"
    yield "HELP VERB shows a verb's usage and an example, as in: 1 HELP HELP"


def _formatted(fields: Mapping[str, object]) -> str:
    return messages.format_fields({key.replace("_", "-"): fields[key] for key in fields})


def _told(error: errors.TroughError) -> bytes:
    return messages.format_error(error) + b"\n"
