"""Orders between workers on the line protocol: what is made is read, and bad ones are named."""

from __future__ import annotations

import pytest

from trough import errors
from trough.protocols.line.framing import FramingLimits, LineRequest, RequestParser
from trough.protocols.line.messages import format_request
from trough.protocols.line.pending_calls import CommandAnswer
from trough.protocols.line.replication_verbs import format_order, parse_order, parse_reply
from trough.replication.messages import Behind, Confirmed, Rejected
from trough.replication.orders import More, Order, OrderKind, Reply

#: What framing could mistake for its own.
AWKWARD = bytes(range(256)) * 3 + b"{12}\r\n\0 }"

ORDERS = [
    Order(OrderKind.JOIN, "crawl 2026", "d41d", 7, 4152, bytes(range(32))),
    Order(OrderKind.JOIN, "300001", "d41d", 1),
    Order(OrderKind.APPEND, "~ä%", "d41d", 2**53, part=AWKWARD),
    Order(OrderKind.BASE, "300001", "d41d", 8, part=b"short"),
    Order(OrderKind.BASE, "300001", "d41d", 8, part=b" "),
]


def sent(order: Order) -> bytes:
    verb, arguments = format_order(order)
    return format_request(b"t", verb.encode(), *arguments)


def received(data: bytes) -> LineRequest:
    parser = RequestParser(FramingLimits())
    parser.receive_data(data)
    request = parser.next_request()
    assert isinstance(request, LineRequest), request
    assert parser.next_request() is None
    return request


@pytest.mark.parametrize("order", ORDERS, ids=["join", "empty", "append", "base", "blank"])
def test_an_order_arrives_as_it_was_sent(order: Order) -> None:
    """All bytes of a part, and any segment id."""
    assert parse_order(received(sent(order))) == order


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (b"s version=2 disk=d epoch=1 x", "version 2.*knows version 1"),
        (b"s disk=d epoch=1 x", "version none"),
        (b"s version=1 disk=d epoch=-1 x", "epoch=-1 is no number"),
        (b"s version=1 disk=d epoch=9999999999999999999 x", "is no number"),
        (b"s version=1 disk=d x", "epoch= is no number"),
        (b"s version=1 disk=d epoch=1", "without the part"),
        (b"s version=1 disk=d epoch=1 unknown=2 x", "no option unknown="),
        (b"a/b version=1 disk=d epoch=1 x", "a/b"),
        (b"a,b version=1 disk=d epoch=1 x", "several segments"),
    ],
)
def test_a_bad_order_is_named(arguments: bytes, reason: str) -> None:
    """The error has what is wrong with it."""
    with pytest.raises(errors.BadRequest, match=reason):
        parse_order(received(b"t REPLICA-APPEND " + arguments + b"\n"))


def test_a_join_has_a_digest_and_nothing_behind_it() -> None:
    """In hexadecimal digits."""
    head = b"t REPLICA-JOIN s version=1 disk=d epoch=1 end=0 "
    with pytest.raises(errors.BadRequest, match="digest=xyz is no digest"):
        parse_order(received(head + b"digest=xyz\n"))
    with pytest.raises(errors.BadRequest, match="too many arguments"):
        parse_order(received(head + b"digest=00 more\n"))


@pytest.mark.parametrize(
    ("fields", "reply"),
    [
        ({"reply": "confirmed", "epoch": 7, "end": 9}, Confirmed(7, 9)),
        ({"reply": "rejected", "epoch": 8}, Rejected(8)),
        ({"reply": "behind", "epoch": 7, "end": 9, "digest": "00ff"}, Behind(7, 9, b"\0\xff")),
        ({"reply": "behind", "epoch": 7, "end": 0, "digest": "none"}, Behind(7, 0, None)),
        ({"reply": "more"}, More()),
    ],
    ids=["confirmed", "rejected", "behind", "empty", "more"],
)
def test_a_reply_is_read(fields: dict[str, int | str], reply: Reply) -> None:
    """Each kind of it."""
    assert parse_reply(CommandAnswer([], fields)) == reply


@pytest.mark.parametrize("fields", [{}, {"reply": "confirmed"}, {"reply": "x", "epoch": 1}])
def test_a_bad_reply_is_an_error(fields: dict[str, int | str]) -> None:
    """It is no confirmation."""
    with pytest.raises(errors.ProtocolError):
        parse_reply(CommandAnswer([], fields))
