"""The verbs that every role has: PING, HELP, CANCEL, AUTH, CHALLENGE, PROVE, QUIT.

They act on the conversation, so they need its connection. They use only the methods of
:class:`VerbSession`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Protocol

from trough import errors
from trough.access.gate import Gate
from trough.access.rights import ANYBODY, Grant
from trough.protocols.line.arguments import (
    parse_no_arguments,
    parse_optional_word,
    parse_proof_arguments,
    parse_word,
)
from trough.protocols.line.framing import LineRequest
from trough.protocols.line.messages import format_error
from trough.protocols.line.replies import Reply, Verb, help_on, table

#: Wrong tokens after which a connection is closed.
MAX_ATTEMPTS = 3


class VerbSession(Protocol):
    """What the common verbs need of a connection."""

    #: Everything that can be asked here.
    verbs: Mapping[str, Verb]
    #: Knows what tokens give.
    gate: Gate
    #: Wrong tokens so far.
    attempts: int
    #: Who is at the other end.
    client: str

    def find(self, tag: str) -> Reply | None:
        """The request with this tag that is under way."""

    def admit(self, grant: Grant) -> None:
        """The other side has authenticated."""

    def shows_certificate(self) -> bool:
        """Whether the other side is a process of the cluster by its certificate."""

    def after(self, seconds: float) -> Awaitable[None]:
        """Fires so many seconds later."""

    def quit(self, reply: Reply | None, farewell: bytes) -> None:
        """Read no more, let what is under way end, answer `reply`, send `farewell`, close."""


def common_verbs() -> dict[str, Verb]:
    """The verbs of every role, to be put beside a role's own."""
    return table(
        Verb("HELP", "[VERB]", "this list, or one verb's usage", _help, "1 HELP CANCEL", True),
        Verb("PING", "", "answers OK", _ping, "1 PING", True),
        Verb("CANCEL", "<tag>", "ends a request that is under way", _cancel, "2 CANCEL 1", True),
        Verb("AUTH", "<token>", "authenticates, where the greeting asks for it", _auth,
             "1 AUTH secret", True),
        Verb("CHALLENGE", "", "answers what PROVE has to be about", _challenge,
             "1 CHALLENGE", True),
        Verb("PROVE", "<token's id> <challenge> <proof> [nonce]",
             "authenticates without sending the token; over the nonce, the server proves itself",
             _prove, "2 PROVE chosen <challenge> <proof>", True),
        Verb("QUIT", "", "answers what is under way, then closes", _quit, "1 QUIT", True),
    )  # fmt: skip


def _session(reply: Reply) -> VerbSession:
    return reply.connection  # type: ignore[return-value]


def _ping(request: LineRequest, reply: Reply) -> None:
    parse_no_arguments(request)
    reply.ok()


def _help(request: LineRequest, reply: Reply) -> None:
    for line in help_on(_session(reply).verbs, parse_optional_word(request)):
        reply.info(line)
    reply.ok()


def _cancel(request: LineRequest, reply: Reply) -> None:
    found = _session(reply).find(parse_word(request, "the tag"))
    if found is not None and found is not reply:
        found.cancel()
    # Not an error: it ended while the CANCEL was on its way.
    reply.ok(cancelled=int(found is not None and found is not reply))


def _auth(request: LineRequest, reply: Reply) -> Awaitable[None] | None:
    token = parse_word(request, "the token")
    return _admit_or_refuse(_session(reply).gate.grant_of_token(token), reply)


def _challenge(request: LineRequest, reply: Reply) -> None:
    parse_no_arguments(request)
    reply.ok(nonce=_session(reply).gate.challenge())


def _prove(request: LineRequest, reply: Reply) -> Awaitable[None] | None:
    gate = _session(reply).gate
    arguments = parse_proof_arguments(request)
    if not gate.is_closed:
        return _admit_or_refuse(ANYBODY, reply)
    proved = gate.grant_of_proof(*arguments)
    if proved is None:
        return _admit_or_refuse(None, reply)
    grant, server_proof = proved
    return _admit_or_refuse(grant, reply, **({"proof": server_proof} if server_proof else {}))


def _admit_or_refuse(grant: Grant | None, reply: Reply, **fields: str) -> Awaitable[None] | None:
    session = _session(reply)
    # The last answer to a wrong one may still wait.
    if grant is not None and session.attempts < MAX_ATTEMPTS:
        session.gate.check_certificate(grant, session.shows_certificate)
        session.admit(grant)
        reply.ok(**fields)
        return None
    session.attempts += 1
    error = errors.Unauthorized(f"not the token; attempt {session.attempts} of {MAX_ATTEMPTS}")
    delay = session.gate.wrong.delay(session.client)
    if delay:
        return _refuse_later(delay, error, reply)
    if delay is None:
        session.attempts = MAX_ATTEMPTS
    _refuse(error, reply)
    return None


async def _refuse_later(delay: float, error: errors.Unauthorized, reply: Reply) -> None:
    session = _session(reply)
    try:
        await session.after(delay)
    finally:
        session.gate.wrong.answered(session.client)
    _refuse(error, reply)


def _refuse(error: errors.Unauthorized, reply: Reply) -> None:
    session = _session(reply)
    reply.error(error)
    if session.attempts >= MAX_ATTEMPTS:
        session.quit(None, format_error(error))


def _quit(request: LineRequest, reply: Reply) -> None:
    parse_no_arguments(request)
    _session(reply).quit(reply, b"quit goodbye")
