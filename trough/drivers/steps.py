"""The steps that a driver does for a router; see :mod:`trough.drivers.routing`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from trough import errors


class NotReached(errors.Unavailable):
    """The driver got no connection to the server, which never saw the request."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a request to a server. Its outcome: all lines of the answer, the last one included.

    :ivar address: of its line protocol
    :ivar request: makes the request, from a tag
    :ivar changes: what it changes; a lost answer is then
        :class:`trough.errors.OutcomeUnknown`; empty: nothing
    """

    address: str
    request: Callable[[bytes], bytes]
    changes: str = ""


@dataclass(frozen=True, slots=True)
class AskAll:
    """Send requests to a server at once. Its outcome: the last line of each answer, in the order
    of the requests. For the fields see :class:`Ask`."""

    address: str
    requests: Sequence[Callable[[bytes], bytes]]
    changes: str


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Send a query to a server. Its outcome: the driver's stream of the result, once the first
    rows or the end have come."""

    address: str
    request: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Role:
    """Connect to a server. Its outcome: ``worker`` or ``sync``."""

    address: str


@dataclass(frozen=True, slots=True)
class Look:
    """Call a function that blocks. Its outcome: what it returns."""

    call: Callable[[], Any]


Step = Ask | AskAll | OpenStream | Role | Look

#: Yields steps, and gets their outcomes; the driver raises their errors in it.
Steps = Generator[Step, Any, Any]
