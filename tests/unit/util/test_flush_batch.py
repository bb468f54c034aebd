"""Bunches of work, and connections that send what one of them gives in one piece."""

from __future__ import annotations

import gc
import weakref

import pytest
from twisted.internet.interfaces import IWriteDescriptor
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from zope.interface import implementer

from trough.executors.pool.jobs import Outcome
from trough.protocols.http.query import Streamed
from trough.protocols.http.request import write_response
from trough.protocols.http.resource import Resource
from trough.protocols.http.site import Site
from trough.protocols.line.write_buffer import WriteBuffer
from trough.util.flush_batch import FlushBatch


def test_what_is_due_comes_at_the_end_of_the_outermost_bunch():
    """Nothing happens within, all happens before the outermost one is left."""
    flush_batch, done = FlushBatch(Clock()), []
    with flush_batch:
        with flush_batch:
            flush_batch.at_end(lambda: done.append("first"))
            flush_batch.at_end(lambda: done.append("second"))
        assert flush_batch.under_way
        assert done == []
    assert done == ["first", "second"]
    assert not flush_batch.under_way


def test_without_a_bunch_the_turn_of_the_reactor_is_one():
    """What is due outside of any comes with the reactor's next turn, all together."""
    clock = Clock()
    flush_batch, done = FlushBatch(clock), []
    flush_batch.at_end(lambda: done.append("first"))
    flush_batch.at_end(lambda: done.append("second"))
    assert done == []
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(0)
    assert done == ["first", "second"]


def test_what_comes_up_at_the_end_is_still_of_this_bunch():
    """What an end makes due is done before the batch is left, and needs no other turn."""
    clock = Clock()
    flush_batch, done = FlushBatch(clock), []
    with flush_batch:
        flush_batch.at_end(lambda: flush_batch.at_end(lambda: done.append("later")))
    assert done == ["later"]
    assert not clock.getDelayedCalls()


def test_an_end_that_fails_keeps_nobody_from_theirs():
    """A failure is logged, and everything else is done."""
    flush_batch, done = FlushBatch(Clock()), []
    with capturedLogs() as logged, flush_batch:
        flush_batch.at_end(lambda: done.append(1 // 0))
        flush_batch.at_end(lambda: done.append("other"))
    assert done == ["other"]
    assert [event["log_failure"].type for event in logged] == [ZeroDivisionError]
    with flush_batch:
        flush_batch.at_end(lambda: done.append("next"))
    assert done == ["other", "next"]


def test_a_bunch_that_fails_ends_all_the_same():
    """What was due is done though the work raised."""
    flush_batch, done = FlushBatch(Clock()), []
    with pytest.raises(ValueError, match="broken"), flush_batch:
        flush_batch.at_end(lambda: done.append("end"))
        raise ValueError("broken")
    assert done == ["end"]
    assert not flush_batch.under_way


@implementer(IWriteDescriptor)
class Descriptor(StringTransport):
    """A transport that collects, until it is made to write or finds that it may.

    :ivar room: bytes that the kernel takes past it, or what says that there is no connection
    """

    def __init__(self, room=1 << 20):
        super().__init__()
        self.room = room
        self.collected = []
        self.sent = []

    def writeSomeData(self, data):
        if isinstance(self.room, Exception):
            return self.room
        self.sent.append(data[: self.room])
        return len(self.sent[-1])

    def write(self, data):
        self.collected.append(data)

    def writeSequence(self, data):
        self.collected += data

    def doWrite(self):
        self.sent.append(b"".join(self.collected))
        self.collected.clear()


def outbox(flush_batch, transport, mark=100):
    return WriteBuffer(transport, flush_batch, mark, lambda: None, lambda: None)


def test_a_bunch_of_replies_is_sent_at_once_and_in_one_piece():
    """Nothing leaves within the batch; at its end the transport need not be waited for."""
    flush_batch, transport = FlushBatch(Clock()), Descriptor()
    box = outbox(flush_batch, transport)
    with flush_batch:
        box.send(b"1 OK\n")
        box.send(b"2 OK\n")
        assert transport.collected == transport.sent == []
    assert transport.sent == [b"1 OK\n2 OK\n"]


def test_large_replies_do_not_wait_for_the_end():
    """What is kept back within a batch is bounded."""
    flush_batch, transport = FlushBatch(Clock()), Descriptor()
    box = outbox(flush_batch, transport)
    with flush_batch:
        for _ in range(5):
            box.send(b"x" * 30_000)
        assert list(map(len, transport.sent)) == [90_000]
    assert list(map(len, transport.sent)) == [90_000, 60_000]


def test_a_transport_that_has_enough_is_given_no_more_at_an_end():
    """What a batch gives while the reader is slow waits for it, and is counted."""
    flush_batch, transport = FlushBatch(Clock()), Descriptor()
    box = outbox(flush_batch, transport)
    with flush_batch:
        box.send(b"before\n")
        box.flush()
        box.send(b"while ")
        box.pauseProducing()
        box.send(b"after\n")
    assert transport.sent == [b"before\n"]
    assert box.unsent == 12
    box.resumeProducing()
    assert transport.sent == [b"before\n", b"while after\n"]
    assert box.unsent == 0


def test_what_the_kernel_does_not_take_keeps_its_place():
    """The rest is the transport's, and so is all that follows until that has sent it."""
    flush_batch, transport = FlushBatch(Clock()), Descriptor(room=4)
    box = outbox(flush_batch, transport)
    with flush_batch:
        box.send(b"1 OK\n")
    assert (transport.sent, transport.collected) == ([b"1 OK"], [b"\n"])
    transport.room = 100
    with flush_batch:
        box.send(b"2 OK\n")
    assert (transport.sent, transport.collected) == ([b"1 OK"], [b"\n", b"2 OK\n"])
    box.pauseProducing()
    transport.doWrite()
    box.resumeProducing()
    with flush_batch:
        box.send(b"3 OK\n")
    assert transport.sent == [b"1 OK", b"\n2 OK\n", b"3 OK\n"]
    assert transport.collected == []


def test_a_connection_that_the_kernel_has_lost_is_the_transports_to_find_out():
    """It is given what could not be sent, and is told why when it tries."""
    flush_batch, transport = FlushBatch(Clock()), Descriptor(room=CONNECTION_LOST)
    box = outbox(flush_batch, transport)
    with flush_batch:
        box.send(b"1 OK\n")
    assert transport.collected == [b"1 OK\n"]


def test_outside_of_a_bunch_replies_leave_together_too():
    """What a turn of the reactor gives is sent at its end."""
    clock, transport = Clock(), Descriptor()
    box = outbox(FlushBatch(clock), transport)
    box.send(b"1 OK\n")
    box.send(b"2 OK\n")
    assert transport.sent == transport.collected == []
    clock.advance(0)
    assert transport.sent == [b"1 OK\n2 OK\n"]


def test_a_transport_that_encrypts_is_written_to():
    """It has nothing that could be passed by."""
    flush_batch, transport = FlushBatch(Clock()), StringTransport()
    box = outbox(flush_batch, transport)
    box.send(b"greeting\n")
    assert transport.value() == b"greeting\n"
    with flush_batch:
        box.send(b"1 OK\n")
        assert transport.value() == b"greeting\n"
    assert transport.value() == b"greeting\n1 OK\n"


def test_a_connection_that_is_lost_within_a_bunch_is_sent_nothing():
    """Its end finds nothing to send."""
    flush_batch, transport = FlushBatch(Clock()), Descriptor()
    box = outbox(flush_batch, transport)
    with flush_batch:
        box.send(b"1 OK\n")
        box.abandon()
    assert transport.collected == transport.sent == []


class Asked(Resource):
    """Keeps requests, to be answered by the test."""

    def __init__(self):
        super().__init__()
        self.requests = []

    def handler(self, request):
        return self.requests.append


def asked_over_http(flush_batch, *headers):
    """A request, and the transport that its answer leaves by."""
    resource, transport = Asked(), Descriptor()
    channel = Site(resource, Clock(), 100, flush_batch).buildProtocol(None)
    channel.makeConnection(transport)
    channel.dataReceived(b"\r\n".join([b"POST / HTTP/1.1", *headers, b"", b""]))
    (request,) = resource.requests
    return request, transport


def test_an_answer_over_http_is_sent_whole_and_at_once():
    """Each answer has a connection to itself: it waits neither for others nor for the reactor."""
    flush_batch = FlushBatch(Clock())
    request, transport = asked_over_http(flush_batch)
    with flush_batch:
        write_response(request, 200, b"text/plain", b"OK\n")
        (answer,) = transport.sent
    assert transport.sent == [answer] and transport.collected == []
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nOK\n")


def test_what_the_kernel_does_not_take_of_an_answer_is_left_to_the_transport():
    """Nothing of it is lost, or sent twice."""
    flush_batch = FlushBatch(Clock())
    request, transport = asked_over_http(flush_batch)
    transport.room = 10
    write_response(request, 200, b"text/plain", b"OK\n")
    whole = b"".join(transport.sent + transport.collected)
    assert transport.sent == [whole[:10]]
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n") and whole.endswith(b"\r\n\r\nOK\n")


def test_a_connection_that_ends_with_its_answer_is_closed_after_it():
    """The reactor finds out that all is sent, and closes."""
    flush_batch = FlushBatch(Clock())
    request, transport = asked_over_http(flush_batch, b"Connection: close")
    with flush_batch:
        write_response(request, 200, b"text/plain", b"OK\n")
    assert b"".join(transport.sent + transport.collected).endswith(b"\r\n\r\nOK\n")
    assert transport.disconnecting


def test_an_answer_to_a_client_that_is_gone_is_not_sent():
    """A connection that is lost before its answer is left alone."""
    flush_batch = FlushBatch(Clock())
    request, transport = asked_over_http(flush_batch)
    transport.connected = False
    transport.room = CONNECTION_LOST
    with flush_batch:
        write_response(request, 200, b"text/plain", b"OK\n")
    assert transport.sent == []


def test_an_answered_read_over_http_leaves_nothing_to_the_collector():
    """Receiver and job know each other; both are gone with the last one who knows either."""

    class Going:
        def __init__(self, receiver):
            self.receiver = receiver

        def cancel(self):
            raise AssertionError("the client is still there")

    request, _ = asked_over_http(FlushBatch(Clock()))
    receiver = Streamed(Asked(), request)
    receiver.job = Going(receiver)
    receiver.watch()
    kept = weakref.ref(receiver)
    gc.disable()
    try:
        receiver.finished(Outcome(segments=1))
        del receiver
        assert kept() is None
    finally:
        gc.enable()
