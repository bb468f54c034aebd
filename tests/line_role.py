"""A small role for the tests of the line protocol: real verbs, no SQL, no files.

It answers at once (ECHO), little by little under back-pressure (COUNT), when told to
(WAIT), and wrongly (BOOM, MUTE).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport

from trough import errors
from trough.protocols.arguments import parse_word
from trough.protocols.line import Request
from trough.protocols.verbs import Reply, Verb, table


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
            Verb("BOOM", "[later]", "breaks", self._boom, "1 BOOM"),
            Verb("MUTE", "", "forgets to answer", self._mute, "1 MUTE"),
        )  # fmt: skip

    def _echo(self, request: Request, reply: Reply) -> None:
        reply.info(parse_word(request, "the word"))
        reply.ok()

    def _count(self, request: Request, reply: Reply) -> None:
        job = CountJob(self.clock, reply, int(parse_word(request, "the number")))
        self.jobs.append(job)
        reply.follow(job)

    async def _wait(self, request: Request, reply: Reply) -> None:
        waiting = self.waiting[request.tag] = Deferred()
        reply.ok(word=await waiting)

    async def _speak(self, request: Request, reply: Reply) -> None:
        total = int(parse_word(request, "the number"))
        for number in range(total):
            await reply.ready()
            reply.line("ROWS", "speak", f"[[{number}]]", "x" * 1000)
        reply.end(rows=total)

    def _boom(self, request: Request, reply: Reply) -> Any:
        if request.arguments:
            return self._boom_later()
        raise ZeroDivisionError("boom")

    async def _boom_later(self) -> None:
        raise ZeroDivisionError("boom later")

    async def _mute(self, request: Request, reply: Reply) -> None:
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
