"""The verbs that every role has: PING, HELP, CANCEL, AUTH, QUIT.

They act on the conversation, so they know its connection, of which they need what
:class:`Session` says and nothing else.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Protocol

from trough import errors
from trough.protocols.line.arguments import parse_no_arguments, parse_optional_word, parse_word
from trough.protocols.line.framing import Request
from trough.protocols.line.messages import format_error
from trough.protocols.line.replies import Reply, Verb, help_on, table

#: Wrong tokens after which a connection is closed.
MAX_ATTEMPTS = 3


class Session(Protocol):
    """What the common verbs need of a connection."""

    #: Everything that can be asked here.
    verbs: Mapping[str, Verb]
    #: The secret to be told by AUTH, or None where nobody is asked.
    token: str | None
    #: Wrong tokens so far.
    attempts: int

    def find(self, tag: str) -> Reply | None:
        """The request with this tag that is under way."""

    def admit(self) -> None:
        """The other side has authenticated."""

    def quit(self, reply: Reply | None, farewell: bytes) -> None:
        """Read no more, let what is under way end, answer `reply`, say `farewell`, close."""


def common_verbs() -> dict[str, Verb]:
    """The verbs of every role, to be put beside a role's own."""
    return table(
        Verb("HELP", "[VERB]", "this list, or one verb's usage", _help, "1 HELP CANCEL", True),
        Verb("PING", "", "answers OK", _ping, "1 PING", True),
        Verb("CANCEL", "<tag>", "ends a request that is under way", _cancel, "2 CANCEL 1", True),
        Verb("AUTH", "<token>", "authenticates, where the greeting asks for it", _auth,
             "1 AUTH secret", True),
        Verb("QUIT", "", "answers what is under way, then closes", _quit, "1 QUIT", True),
    )  # fmt: skip


def _session(reply: Reply) -> Session:
    return reply.connection  # type: ignore[return-value]


def _ping(request: Request, reply: Reply) -> None:
    parse_no_arguments(request)
    reply.ok()


def _help(request: Request, reply: Reply) -> None:
    for line in help_on(_session(reply).verbs, parse_optional_word(request)):
        reply.info(line)
    reply.ok()


def _cancel(request: Request, reply: Reply) -> None:
    found = _session(reply).find(parse_word(request, "the tag"))
    if found is not None and found is not reply:
        found.cancel()
    # Not an error: it ended while the CANCEL was on its way.
    reply.ok(cancelled=int(found is not None and found is not reply))


def _auth(request: Request, reply: Reply) -> None:
    session = _session(reply)
    token = parse_word(request, "the token")
    if session.token is None or hmac.compare_digest(token.encode(), session.token.encode()):
        session.admit()
        reply.ok()
        return
    session.attempts += 1
    error = errors.Unauthorized(f"not the token; attempt {session.attempts} of {MAX_ATTEMPTS}")
    reply.error(error)
    if session.attempts >= MAX_ATTEMPTS:
        session.quit(None, format_error(error))


def _quit(request: Request, reply: Reply) -> None:
    parse_no_arguments(request)
    _session(reply).quit(reply, b"quit goodbye")
