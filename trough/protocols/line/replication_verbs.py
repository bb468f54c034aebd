"""What workers send each other to replicate writes: REPLICA-JOIN, -APPEND, -BASE, -TAKE.

See :mod:`trough.replication.orders`. Requests are made and read here, so that both sides agree.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from trough import errors
from trough.access.rights import PEER
from trough.model import segment_word
from trough.protocols.line.arguments import Words, segment_argument
from trough.protocols.line.framing import LineRequest
from trough.protocols.line.messages import format_text
from trough.protocols.line.pending_calls import CommandAnswer
from trough.protocols.line.replies import Reply as LineReply
from trough.protocols.line.replies import Verb, table
from trough.replication.messages import Behind, Confirmed, Rejected
from trough.replication.orders import VERSION, More, Order, OrderKind, Reply

_OPTIONS = ("version", "disk", "epoch", "end", "digest")


class ReplicationVerbs:
    """The verbs of a worker that follows others.

    :param obey: carries an order out
    """

    def __init__(self, obey: Callable[[Order], Awaitable[Reply]]) -> None:
        self._obey = obey

    def table(self) -> dict[str, Verb]:
        """The verbs by name, as the server takes them."""
        head = f"<id> version={VERSION} disk=WORD epoch=N"
        return table(
            Verb(
                "REPLICA-JOIN",
                f"{head} end=N digest=HEX",
                "between workers: follow the holder of the write lock, whose log ends there",
                self._take,
                f"1 REPLICA-JOIN 300001 version={VERSION} disk=d41d epoch=7 end=4152 digest=00ff",
                needs=PEER,
            ),
            Verb(
                "REPLICA-APPEND",
                f"{head} <part>",
                "between workers: store a part of the log",
                self._take,
                f"1 REPLICA-APPEND 300001 version={VERSION} disk=d41d epoch=7 {{4244}}",
                needs=PEER,
            ),
            Verb(
                "REPLICA-BASE",
                f"{head} <part>",
                "between workers: store a piece of the database that the log belongs to",
                self._take,
                f"1 REPLICA-BASE 300001 version={VERSION} disk=d41d epoch=7 {{4244}}",
                needs=PEER,
            ),
            Verb(
                "REPLICA-TAKE",
                head,
                "between workers: take the write lock, which its holder gives up",
                self._take,
                f"1 REPLICA-TAKE 300001 version={VERSION} disk=d41d epoch=7",
                needs=PEER,
            ),
        )

    async def _take(self, request: LineRequest, reply: LineReply) -> None:
        result = await self._obey(parse_order(request))
        match result:
            case Confirmed(epoch, end):
                reply.ok(reply="confirmed", epoch=epoch, end=end)
            case Behind(epoch, end, digest):
                shown = digest.hex() if digest is not None else "none"
                reply.ok(reply="behind", epoch=epoch, end=end, digest=shown)
            case Rejected(epoch):
                reply.ok(reply="rejected", epoch=epoch)
            case More():
                reply.ok(reply="more")


def parse_order(request: LineRequest) -> Order:
    """The order in a request.

    :raises trough.errors.BadRequest: it is none, or of another version
    """
    words = Words(request)
    kind = OrderKind(request.verb.removeprefix("REPLICA-").lower())
    segment = segment_argument(words.next("the segment"))
    given = words.options(_OPTIONS)
    if (version := given.get("version")) != b"%d" % VERSION:
        shown = (version or b"none").decode("ascii", "replace")[:20]
        raise errors.BadRequest(
            f"{request.verb} of version {shown}", f"this worker knows version {VERSION}"
        )
    order = Order(
        kind, segment, given.get("disk", b"").decode("ascii", "replace"), _number(given, "epoch")
    )
    if kind is OrderKind.TAKE:
        words.end()
        return order
    if kind is OrderKind.JOIN:
        words.end()
        return Order(kind, segment, order.disk, order.epoch, _number(given, "end"), _digest(given))
    part = words.raw("the part")
    return Order(kind, segment, order.disk, order.epoch, part=part)


def format_order(order: Order) -> tuple[str, list[bytes]]:
    """The verb and the arguments of a request."""
    arguments = [
        segment_word(order.segment).encode(),
        f"version={VERSION}".encode(),
        f"disk={order.disk}".encode(),
        f"epoch={order.epoch}".encode(),
    ]
    if order.kind is OrderKind.JOIN:
        arguments += [f"end={order.end}".encode(), f"digest={order.digest.hex()}".encode()]
    elif order.kind is not OrderKind.TAKE:
        arguments.append(format_text(order.part))
    return f"REPLICA-{order.kind.upper()}", arguments


def parse_reply(answer: CommandAnswer) -> Reply:
    """The reply of a follower.

    :raises trough.errors.ProtocolError: it is none
    """
    fields = answer.fields
    epoch, end = fields.get("epoch"), fields.get("end")
    match fields.get("reply"):
        case "more":
            return More()
        case "rejected" if isinstance(epoch, int):
            return Rejected(epoch)
        case "confirmed" if isinstance(epoch, int) and isinstance(end, int):
            return Confirmed(epoch, end)
        case "behind" if isinstance(epoch, int) and isinstance(end, int):
            return Behind(epoch, end, _hex(str(fields.get("digest", ""))))
    raise errors.ProtocolError("not a reply of a follower", f"it has {sorted(fields)}")


def _number(given: Mapping[str, bytes], name: str) -> int:
    text = given.get(name, b"")
    if not (text.isdigit() and len(text) < 19):
        shown = text.decode("ascii", "replace")[:40]
        raise errors.BadRequest(f"{name}={shown} is no number", "a whole number, at least 0")
    return int(text)


def _digest(given: Mapping[str, bytes]) -> bytes:
    text = given.get("digest", b"").decode("ascii", "replace")
    digest = _hex(text)
    if digest is None:
        raise errors.BadRequest(f"digest={text[:80]} is no digest", "bytes as hexadecimal digits")
    return digest


def _hex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None
