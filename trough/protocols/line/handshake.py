"""How a client begins a connection: greeting, challenge and proof, without any I/O.

The caller sends what :func:`handshake` yields, and passes it the next reply. It promises that the
token itself is never sent, since the address may be that of a foreign listener.
"""

from __future__ import annotations

from collections.abc import Generator

from trough import errors
from trough.protocols.line.messages import (
    Greeting,
    format_request,
    format_word,
    parse_error,
    parse_fields,
    parse_greeting,
)

#: Tag, word and rest of a line.
ReplyLine = tuple[bytes, bytes, bytes]

_TAG = b"0"


def handshake(token: str | None, address: str) -> Generator[bytes, ReplyLine, Greeting]:
    """Yield what has to be sent next, perhaps nothing; take the reply to it.

    :param token: to prove where the server asks for it
    :param address: of the server, as it publishes it
    :return: the greeting, once requests are taken
    :raises trough.errors.FramingLost: it is another protocol, or another version
    :raises trough.errors.Unauthorized: the token is missing or wrong
    """
    greeting = parse_greeting((yield b""))
    if greeting.auth == "none":
        return greeting
    if token is None:
        raise errors.Unauthorized(f"{greeting.node} wants a token", "none is configured")
    from trough.access.tokens import Credential  # whose hashes take long to import

    credential = Credential.of(token)
    challenge = _checked((yield format_request(_TAG, b"CHALLENGE")))
    nonce = str(parse_fields(challenge.decode("utf-8", "replace")).get("nonce", ""))
    words = (credential.id, nonce, credential.proof(nonce, address))
    request = format_request(_TAG, b"PROVE", *(format_word(word.encode()) for word in words))
    _checked((yield request))
    return greeting


def _checked(reply: ReplyLine) -> bytes:
    """The rest of an answer of one line."""
    if reply[1] != b"OK":
        raise parse_error(reply[2])
    return reply[2]
