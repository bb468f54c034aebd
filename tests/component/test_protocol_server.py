"""The line protocol's server, on a transport and a clock that are not real."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from line_role import CountRole, Outcome, Wire
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from trough import errors
from trough.access.gate import Gate
from trough.protocols.line.framing import FramingLimits
from trough.protocols.line.replies import QueryReply, Reply, WriteReply
from trough.protocols.line.server import (
    CANCEL_SECONDS,
    LineServer,
    LineServerFactory,
    ServerLimits,
)
from trough.protocols.unread_answers import LOOK

GREETING = "TROUGH 1 worker w01 max-line=65536 max-literal=67108864 max-requests=10000 auth=none"


class Peer:
    """One connection to a server, seen from its peer."""

    def __init__(self, limits: ServerLimits | None = None, token: str | None = None) -> None:
        self.clock = Clock()
        self.role = CountRole(self.clock)
        self.factory = LineServerFactory(
            "worker", "w01", self.role.verbs(), self.clock, limits, gate=Gate(token)
        )
        self.server, self.wire = self.join()
        self.greeting = self.wire.take()

    def join(self) -> tuple[LineServer, Wire]:
        """Connect once more."""
        server, wire = self.factory.buildProtocol(None), Wire()
        server.makeConnection(wire)
        return server, wire

    def say(self, *lines: str) -> list[str]:
        """Send lines; what is answered at once."""
        self.server.dataReceived("".join(f"{line}\n" for line in lines).encode())
        return self.wire.take()

    def turn(self, turns: int = 1) -> list[str]:
        """Let some turns of the reactor pass; what was answered."""
        for _ in range(turns):
            self.clock.advance(0)
        return self.wire.take()

    def leave(self) -> None:
        """Lose the connection."""
        self.server.connectionLost(Failure(ConnectionDone()))


@contextmanager
def logged_failures() -> Iterator[list[str]]:
    """Collects what is logged as a failure."""
    found: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event["log_level"] is LogLevel.critical:
            found.append(repr(event["log_failure"].value))

    globalLogPublisher.addObserver(observe)
    try:
        yield found
    finally:
        globalLogPublisher.removeObserver(observe)


# -- asking and answering ------------------------------------------------------------------


def test_greeting() -> None:
    """The first line tells version, role, name and limits."""
    assert Peer().greeting == [GREETING]


def test_a_request_is_answered_under_its_tag() -> None:
    """Each line of an answer begins with the request's tag, and one line ends it."""
    assert Peer().say("q7 ECHO hello") == ["q7 INFO hello", "q7 OK"]


def test_pipelining() -> None:
    """Requests that arrive together, or in halves, are all answered."""
    peer = Peer()
    assert peer.say("1 PING", "2 ECHO a", "3 PING") == ["1 OK", "2 INFO a", "2 OK", "3 OK"]
    peer.server.dataReceived(b"4 PI")
    peer.server.dataReceived(b"NG\r\n5 ")
    assert peer.say("PING") == ["4 OK", "5 OK"]


def test_answers_in_any_order() -> None:
    """A request that takes long does not hold up those behind it."""
    peer = Peer()
    assert peer.say("slow WAIT", "slower WAIT", "quick PING") == ["quick OK"]
    peer.role.waiting["slower"].callback("a")
    peer.role.waiting["slow"].callback("b")
    assert peer.wire.take() == ["slower OK word=a", "slow OK word=b"]


def test_requests_interleave() -> None:
    """Two long answers share the connection."""
    peer = Peer()
    peer.say("a COUNT 40", "b COUNT 40")
    tags = [line.split()[0] for line in peer.turn(3)]
    assert set(tags[:16]) == {"a", "b"}


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("1 NONSENSE", "1 ERR protocol no verb NONSENSE (HELP lists them all)"),
        ("ECHO hello", "ECHO ERR protocol no verb HELLO"
         " (a tag comes first, as in: 1 ECHO HELLO)"),
        ("1", "1 ERR protocol a tag and nothing else"
         " (a request is: TAG VERB ARGUMENTS, for example: 1 HELP)"),
        ("ä PING", "* ERR protocol not a tag: '\\ufffd\\ufffd'"
         " (a tag is 1 to 32 characters out of A-Z a-z 0-9 . _ -)"),
        ("1 ECHO", "1 ERR bad-request ECHO without the word (HELP ECHO shows its usage)"),
        ("1 PING pong", "1 ERR bad-request PING has too many arguments"
         " (HELP PING shows its usage)"),
    ],
)  # fmt: skip
def test_mistakes_are_answered_and_forgiven(line: str, answer: str) -> None:
    """A wrong request gets a code and a sentence, and the connection goes on."""
    assert Peer().say(line, "2 PING") == [answer, "2 OK"]


def test_a_tag_in_use() -> None:
    """A tag that is used again is refused; the first request goes on under it."""
    peer = Peer()
    assert peer.say("t WAIT", "t PING", "t {3}") == [
        "* ERR protocol tag t is in use (the earlier request goes on)"
    ]
    assert peer.say("abc", "u PING") == [
        "* ERR protocol tag t is in use (the earlier request goes on)",
        "u OK",
    ]
    peer.role.waiting["t"].callback("x")
    assert peer.wire.take() == ["t OK word=x"]
    assert peer.say("t PING") == ["t OK"]


@pytest.mark.parametrize("line", ["1 BOOM", "1 BOOM later", "1 MUTE"])
def test_a_handler_that_breaks(line: str) -> None:
    """A bug in a verb is logged once, answered without its secrets, and does no more harm."""
    peer = Peer()
    with logged_failures() as found:
        answer, pong = peer.say(line, "2 PING")
    verb = line.split()[1]
    assert answer == f"1 ERR internal {verb} failed (the server's log has the reason)"
    assert pong == "2 OK"
    assert len(found) == 1


def test_help() -> None:
    """HELP lists every verb with a line each; HELP VERB shows its usage and an example."""
    peer = Peer()
    lines = peer.say("1 HELP")
    assert lines[-1] == "1 OK"
    for verb in peer.factory.verbs.values():
        assert [line for line in lines if f"{verb.name} " in line and verb.help in line]
    assert peer.say("2 help echo") == [
        "2 INFO ECHO <word>",
        "2 INFO     answers with the word",
        "2 INFO For example: 1 ECHO hello",
        "2 OK",
    ]
    assert peer.say("3 HELP NONE") == ["3 ERR not-found no verb 'NONE' (HELP lists them all)"]


def test_help_without_a_tag() -> None:
    """Someone who types HELP, and knows nothing yet, is helped."""
    peer = Peer()
    lines = peer.say("help")
    assert lines[0].startswith("* INFO A request is one line: TAG VERB ARGUMENTS.")
    assert lines[-1] == "* OK"
    assert peer.say("help ping")[0] == "* INFO PING"


def test_examples_are_requests() -> None:
    """Every example of HELP is taken by the verb that it explains."""
    for name, verb in Peer().factory.verbs.items():
        answer = Peer().say(verb.example) if name not in ("BOOM", "MUTE") else ["1 OK"]
        assert not [line for line in answer if " ERR " in line], name


# -- cancelling ----------------------------------------------------------------------------


def test_cancel() -> None:
    """CANCEL ends what goes on, which still gets its last line; too late is no error."""
    peer = Peer()
    assert peer.say("c COUNT 100", "w WAIT") == []
    assert peer.say("1 CANCEL c", "2 CANCEL w", "3 CANCEL w", "4 CANCEL 4") == [
        "c ERR cancelled counting was cancelled",
        "1 OK cancelled=1",
        "w ERR cancelled cancelled",
        "2 OK cancelled=1",
        "3 OK cancelled=0",
        "4 OK cancelled=0",
    ]
    assert peer.role.jobs[0].cancelled
    assert peer.turn(5) == []


def test_a_lost_connection_cancels_everything() -> None:
    """What went on for a connection ends with it, and its replies go nowhere."""
    peer = Peer()
    peer.say("c COUNT 100", "w WAIT", "x WAIT")
    waiting = peer.role.waiting["w"]
    peer.leave()
    assert peer.role.jobs[0].cancelled
    assert waiting.called
    assert peer.clock.getDelayedCalls() == []
    assert peer.wire.take() == []
    assert not peer.factory._connections and not peer.server._requests


def test_a_job_that_is_followed_too_late_is_cancelled() -> None:
    """A coroutine that starts something after its connection is gone leaves it behind no one."""
    peer = Peer()
    peer.say("w WAIT")
    reply = peer.server.find("w")
    assert reply is not None
    peer.leave()

    class Job:
        cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

        def pause(self) -> None: ...

        def resume(self) -> None: ...

    job = Job()
    reply.follow(job)
    assert job.cancelled


def test_an_answered_request_leaves_nothing_to_the_collector() -> None:
    """Reply and job know each other; both are gone with the last one who knows either."""

    class Going:
        def __init__(self, reply: Reply) -> None:
            self.reply = reply

        def cancel(self) -> None:
            """It has ended by itself."""

        pause = resume = cancel

    reply = Reply(Peer().server, "1", 0)
    job = Going(reply)
    reply.follow(job)
    kept = weakref.ref(job)
    gc.disable()
    try:
        reply.ok()
        del reply, job
        assert kept() is None
    finally:
        gc.enable()


# -- back-pressure -------------------------------------------------------------------------

TIGHT = ServerLimits(requests=4, held=2000, unsent=4000)


def test_a_slow_reader_pauses_its_jobs() -> None:
    """Jobs rest while the peer does not read, lose nothing, and go on when it does."""
    peer = Peer(TIGHT)
    peer.say("c COUNT 100")
    peer.server._outbox.pauseProducing()
    for _ in range(50):
        peer.clock.advance(0)
    job = peer.role.jobs[0]
    assert job.paused and job.sent < 100
    assert peer.say("d COUNT 1") == []
    assert peer.role.jobs[1].paused, "a job that is started meanwhile rests as well"
    lines: list[str] = []
    for _ in range(100):
        peer.server._outbox.resumeProducing()
        lines += peer.turn()
    assert [int(line.split("[[")[1].split("]")[0]) for line in lines if "c ROWS" in line] == list(
        range(1, 101)
    )
    assert "c END rows=100" in lines and "d END rows=1" in lines


def test_a_coroutine_waits_for_a_slow_reader() -> None:
    """A verb that says a lot stops where the reader does, and goes on with it."""
    peer = Peer(TIGHT)
    peer.server._outbox.pauseProducing()
    peer.say("s SPEAK 1000")
    assert peer.server._outbox.unsent < 10000
    lines: list[str] = []
    while not lines or lines[-1] != "s END rows=1000":
        peer.server._outbox.resumeProducing()
        peer.server._outbox.pauseProducing()
        new = peer.wire.take()
        assert new, "it goes on whenever there is room"
        lines += new
    assert len(lines) == 1001


def test_who_does_not_read_is_not_read_from() -> None:
    """A flood of requests whose answers nobody takes stops at the socket."""
    peer = Peer(TIGHT)
    peer.server._outbox.pauseProducing()
    sent = 0
    while peer.wire.producerState == "producing":
        peer.say(f"{sent} ECHO {'x' * 1000}")
        sent += 1
        assert sent < 100
    peer.say("late PING")
    peer.server._outbox.resumeProducing()
    lines = peer.turn()
    assert peer.wire.producerState == "producing"
    assert lines[-1] == "late OK"
    assert len(lines) == 2 * sent + 1


def test_too_many_requests_at_once() -> None:
    """As many requests as allowed are under way; the next ones wait, in order."""
    peer = Peer(TIGHT)
    assert peer.say(*(f"{number} WAIT" for number in range(6)), "p PING") == []
    assert list(peer.role.waiting) == ["0", "1", "2", "3"]
    assert peer.wire.producerState == "paused"
    for number in range(4):
        peer.role.waiting[f"{number}"].callback("x")
    assert list(peer.role.waiting) == ["0", "1", "2", "3", "4", "5"]
    assert "p OK" in peer.wire.take()
    assert peer.wire.producerState == "producing"


def test_too_many_bytes_at_once() -> None:
    """Requests that are large keep others waiting before their number would."""
    peer = Peer(TIGHT)
    assert peer.say(f"1 WAIT {'x' * 3000}", "2 PING") == []
    peer.role.waiting["1"].callback("x")
    assert peer.wire.take() == ["1 OK word=x", "2 OK"]


# -- the end -------------------------------------------------------------------------------


def test_quit_answers_first() -> None:
    """QUIT takes up nothing more, waits for what is under way, and says goodbye."""
    peer = Peer()
    assert peer.say("w WAIT", "q QUIT", "p PING") == []
    assert not peer.wire.half_closed
    peer.role.waiting["w"].callback("x")
    assert peer.wire.take() == ["w OK word=x", "q OK", "* BYE quit goodbye"]
    assert peer.wire.half_closed


def test_what_was_asked_for_before_quit_may_be_read_slowly() -> None:
    """Half an hour passes before the network has taken all; then the peer has a moment to go."""
    peer = Peer()
    peer.say("q QUIT")
    peer.clock.advance(1800)
    assert peer.wire.half_closed and not peer.wire.aborted and not peer.wire.disconnecting
    peer.server.writeConnectionLost()
    peer.clock.advance(10)
    assert peer.wire.disconnecting and not peer.wire.aborted


def test_a_peer_that_never_reads_its_farewell() -> None:
    """It is cut off in the end, one that is thrown out soon."""
    quitting, thrown_out = Peer(ServerLimits(idle=300)), Peer()
    quitting.say("q QUIT")
    thrown_out.server.dataReceived(b"POST / HTTP/1.1\r\n\r\n")
    for peer, seconds in ((quitting, 300), (thrown_out, 10)):
        peer.clock.advance(seconds)
        assert peer.wire.aborted


def test_who_has_said_quit_may_end_his_side() -> None:
    """Everything is answered, as to a script that is piped into nc."""
    peer = Peer()
    peer.say("w WAIT", "q QUIT")
    peer.server.readConnectionLost()
    assert not peer.wire.disconnecting
    peer.role.waiting["w"].callback("x")
    assert peer.wire.take() == ["w OK word=x", "q OK", "* BYE quit goodbye"]
    assert peer.wire.disconnecting


def test_who_ends_his_side_without_quit_is_gone() -> None:
    """He may have been killed: what goes on is cancelled, what was answered still leaves."""
    peer = Peer()
    peer.say("w WAIT")
    peer.server.readConnectionLost()
    assert peer.role.waiting["w"].called
    assert peer.wire.disconnecting and peer.wire.take() == []


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"x" * 70000, "framing more than 65536 bytes without the end of a request"),
        (b"1 QUERY {999999999999}\n", "framing literals too long to skip"),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n1 PING\n", "framing this port speaks Trough's"),
    ],
)
def test_framing_lost(data: bytes, sentence: str) -> None:
    """Where the next request begins is unknown: say so, cancel, close, and listen no more."""
    peer = Peer()
    peer.say("w WAIT")
    peer.server.dataReceived(data)
    (line,) = peer.wire.take()
    assert line.startswith(f"* BYE {sentence}")
    assert peer.wire.half_closed
    assert peer.role.waiting["w"].called
    assert peer.say("2 PING") == []


def test_a_literal_too_long_is_skipped() -> None:
    """Its request is refused, and the next one is heard."""
    peer = Peer(ServerLimits(peers=FramingLimits(1000, 1000)))
    assert peer.say("1 ECHO {1001}", "x" * 1001, "2 PING") == [
        "1 ERR too-large literals of 1001 bytes in one request (the limit is 1000)",
        "2 OK",
    ]


def test_half_a_request_and_silence() -> None:
    """A peer that stops in the middle of a request is thrown out."""
    peer = Peer()
    peer.say("w WAIT")
    peer.server.dataReceived(b"1 QUERY {30}\nabc")
    peer.clock.pump([30.0] * 4)
    (line,) = peer.wire.take()
    assert line.startswith("* BYE timeout half a request, and silence for")


def test_idle() -> None:
    """A peer that asks nothing for long is thrown out; one that waits for an answer is not."""
    idle, waiting = Peer(ServerLimits(idle=300)), Peer(ServerLimits(idle=300))
    waiting.say("w WAIT")
    for peer in (idle, waiting):
        peer.clock.pump([30.0] * 20)
    assert idle.wire.take()[0].startswith("* BYE timeout idle for")
    assert waiting.say("p PING") == ["p OK"]


def test_a_peer_that_never_reads() -> None:
    """Whoever takes no reply for long is thrown out, and what went on for him cancelled."""
    peer = Peer(ServerLimits(idle=300, unsent=4000))
    peer.say("c COUNT 100")
    peer.server._outbox.pauseProducing()
    peer.clock.pump([0.1] * 20 + [30.0] * 20)
    assert peer.role.jobs[0].cancelled
    assert peer.wire.aborted


def test_too_many_connections() -> None:
    """One connection more than allowed is told so."""
    peer = Peer(ServerLimits(connections=1))
    _, wire = peer.join()
    assert wire.take() == [GREETING, "* BYE unavailable 1 connections, which is all"]
    assert peer.say("1 PING") == ["1 OK"]


def test_drain() -> None:
    """A shutdown ends idle connections, refuses new work and waits for the old."""
    peer = Peer()
    idle_server, idle = peer.join()
    idle.take()
    peer.say("w WAIT")
    drained = Deferred.fromCoroutine(peer.factory.drain(60))
    bye = "* BYE unavailable w01 is shutting down"
    assert idle.take() == [bye]
    idle_server.connectionLost(Failure(ConnectionDone()))
    assert peer.say("e ECHO x", "p PING") == [
        "e ERR unavailable w01 is shutting down",
        "p OK",
    ]
    late_server, late = peer.join()
    assert late.take() == [GREETING, bye]
    late_server.connectionLost(Failure(ConnectionDone()))
    peer.role.waiting["w"].callback("x")
    assert peer.wire.take() == ["w OK word=x", bye]
    assert not drained.called
    peer.leave()
    assert drained.called


def test_drain_to_the_bitter_end() -> None:
    """What is not done when the time is up is cancelled, and says so before BYE."""
    peer = Peer()
    peer.say("w WAIT")
    drained = Deferred.fromCoroutine(peer.factory.drain(60))
    peer.clock.advance(60)
    assert peer.wire.take() == [
        "w ERR cancelled cancelled",
        "* BYE unavailable w01 is shutting down",
    ]
    assert not peer.wire.aborted
    peer.leave()
    assert drained.called
    assert peer.clock.getDelayedCalls() == []


def test_drain_of_what_cannot_be_cancelled() -> None:
    """BYE comes all the same, and a peer that does not hang up is reset in the end."""
    peer = Peer()
    peer.say("c DEAF")
    drained = Deferred.fromCoroutine(peer.factory.drain(60))
    peer.clock.advance(60)
    assert peer.wire.take() == []
    peer.clock.advance(CANCEL_SECONDS)
    assert peer.wire.take() == ["* BYE cancelled w01 is shutting down"]
    assert not peer.wire.aborted
    peer.clock.advance(ServerLimits().linger)
    assert peer.wire.aborted
    peer.leave()
    assert drained.called


# -- authentication ------------------------------------------------------------------------


def test_authentication() -> None:
    """Before AUTH only what is harmless works; after it, everything."""
    peer = Peer(token="s3cret")
    assert peer.greeting[0].endswith("auth=token")
    assert peer.say("1 PING", "2 ECHO x") == [
        "1 OK",
        "2 ERR unauthorized not authenticated (AUTH <token> comes first)",
    ]
    assert peer.say("3 HELP")[-1] == "3 OK"
    assert peer.say("4 AUTH S3cret") == ["4 ERR unauthorized not the token; attempt 1 of 3"]
    assert peer.say("5 AUTH s3cret", "6 ECHO x") == ["5 OK", "6 INFO x", "6 OK"]


def test_guessing() -> None:
    """The third wrong token is the last one."""
    peer = Peer(token="s3cret")
    assert peer.say("1 AUTH a", "2 AUTH b", "3 AUTH c", "4 AUTH s3cret", "5 PING")[-1] == (
        "* BYE unauthorized not the token; attempt 3 of 3"
    )


def test_strangers_get_little() -> None:
    """Nobody fills memory without a token, nor keeps a connection for nothing."""
    peer = Peer(token="s3cret")
    peer.server.dataReceived(b"1 ECHO {100000}\n")
    assert peer.wire.take()[0].startswith("* BYE framing literals too long to skip")
    silent = Peer(token="s3cret")
    silent.clock.pump([30.0] * 4)
    assert silent.wire.take()[0].startswith("* BYE timeout idle")


def test_auth_where_nobody_asks() -> None:
    """A client with a token may talk to a server without one."""
    assert Peer().say("1 AUTH whatever", "2 PING") == ["1 OK", "2 OK"]


# -- whatever is sent -------------------------------------------------------------------

_LINES = st.sampled_from(
    ["1 PING", "2 WAIT", "3 COUNT 30", "4 COUNT 500", "CANCEL", "5 CANCEL 2", "6 CANCEL 4", "HELP",
     "2 ECHO x", "3 ECHO {4}", "7 ECHO {3}\nabc", "8 SPEAK 40", "9 ECHO {30000}", "", "x", "? ?",
     "1 AUTH x", "2", "3 NO", "abc"]
)  # fmt: skip
_STEPS = st.one_of(_LINES, st.sampled_from(["full", "room", "turn", "answer"]))


@settings(max_examples=200, deadline=None)
@given(st.lists(_STEPS, max_size=40))
def test_every_request_is_answered_once(steps: list[str]) -> None:
    """Whatever is asked, cancelled and read or not: one last line each, and nothing stays."""
    limits = ServerLimits(peers=FramingLimits(1000, 20000), requests=4, held=50000, unsent=3000)
    peer = Peer(limits)
    lines: list[str] = []
    with logged_failures() as failures:
        for step in steps:
            if step == "full":
                peer.server._outbox.pauseProducing()
            elif step == "room":
                peer.server._outbox.resumeProducing()
            elif step == "turn":
                peer.clock.advance(0)
            elif step == "answer":
                _answer(peer.role)
            elif peer.wire.producerState == "producing":
                peer.server.dataReceived(f"{step}\n".encode())
            lines += peer.wire.take()
            assert len(peer.server._requests) <= limits.requests
        peer.server._outbox.resumeProducing()
        for _ in range(400):
            peer.clock.advance(0)
            _answer(peer.role)
            peer.server._outbox.resumeProducing()
        lines += peer.wire.take()
        assert not peer.server._requests
        peer.leave()
        peer.clock.advance(LOOK)  # the last look at unread answers: there are none
    assert failures == []
    assert peer.clock.getDelayedCalls() == []
    under_way: set[str] = set()
    for line in lines:
        tag, word = line.split(" ")[:2]
        if word in ("ROWS", "INFO"):
            under_way.add(tag)
        elif word in ("OK", "END", "ERR"):
            under_way.discard(tag)
    assert under_way <= {"*"}


def _answer(role: CountRole) -> None:
    for waiting in role.waiting.values():
        if not waiting.called:
            waiting.callback("x")


# -- what a query's reply sums up ----------------------------------------------------------


def _reply(use: Callable[[Reply], None]) -> list[str]:
    peer = Peer()
    peer.say("q WAIT")
    reply = peer.server.find("q")
    assert reply is not None
    peer.clock.advance(0.25)
    use(reply)
    return peer.wire.take()


def test_query_reply() -> None:
    """Parts of a query, and segments that nobody was asked for, give one sum."""

    def use(reply: Reply) -> None:
        answer = QueryReply(reply, 2)
        answer.data(b'q COLS a ["x"]\nq DONE a 0\n')
        answer.finished(Outcome(segments=1, rows=3))  # type: ignore[arg-type]
        answer.fail("b", errors.Moved("gone", "w02", "h:6440"))
        answer.finished(Outcome(segments=2, failed=1))  # type: ignore[arg-type]

    assert _reply(use) == [
        'q COLS a ["x"]',
        "q DONE a 0",
        "q FAIL b moved w02 h:6440",
        "q END segments=4 failed=2 rows=3 ms=250 complete=no",
    ]


def test_query_reply_complete() -> None:
    """Complete is when nothing failed."""
    lines = _reply(lambda reply: QueryReply(reply).finished(Outcome(segments=3)))  # type: ignore[arg-type]
    assert lines == ["q END segments=3 failed=0 rows=0 ms=250 complete=yes"]


def test_query_reply_failed() -> None:
    """An error of the whole request is told in place of the sum, once all parts have ended."""

    def use(reply: Reply) -> None:
        answer = QueryReply(reply, 2)
        answer.finished(Outcome(error=errors.Cancelled("stopped")))  # type: ignore[arg-type]
        answer.finished(Outcome(segments=1))  # type: ignore[arg-type]

    assert _reply(use) == ["q ERR cancelled stopped"]


def test_write_reply() -> None:
    """A write is answered with what it changed, or with why it was not made."""
    done = Outcome(changes=3)
    assert _reply(lambda reply: WriteReply(reply).finished(done)) == [  # type: ignore[arg-type]
        "q OK changes=3 ms=250"
    ]
    full = Outcome(error=errors.DiskFull("no room"))
    assert _reply(lambda reply: WriteReply(reply).finished(full)) == [  # type: ignore[arg-type]
        "q ERR disk-full no room"
    ]


def test_reply_documents() -> None:
    """JSON and several lines of text stay one line each."""

    def use(reply: Reply) -> None:
        reply.info("one\ntwo\x1b[0m\n\nthree")
        reply.ok({"a": "line\nline"})
        reply.ok(twice=1)

    assert _reply(use) == [
        "q INFO one",
        "q INFO two [0m",
        "q INFO",
        "q INFO three",
        'q OK {"a": "line\\nline"}',
    ]
