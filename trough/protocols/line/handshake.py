"""How a client begins a connection: greeting, challenge and proofs, without any I/O.

The caller sends what :func:`handshake` yields, and passes it the next reply. The address may be
that of a foreign listener. So the token itself is never sent, and a caller with a token sends no
request before the handshake has ended well: the server has proved then that it knows the token,
too. Only ``CHALLENGE``, which contains nothing, does not wait for the greeting. That saves a round
trip.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from trough import errors
from trough.model import line_host_and_port
from trough.protocols.line.framing import FINAL
from trough.protocols.line.messages import (
    Greeting,
    format_request,
    format_word,
    parse_error,
    parse_fields,
    parse_greeting,
)
from trough.tls import TlsFiles

if TYPE_CHECKING:
    from trough.access.tokens import Credential

#: Tag, word and rest of a line.
ReplyLine = tuple[bytes, bytes, bytes]

#: The tag of what is sent here; requests of clients have others.
_TAG = b"0"


def server_address(address: str, tls: TlsFiles) -> tuple[str, int, bool]:
    """Host and port of a server, and whether it speaks TLS.

    :param address: ``host:port`` or ``tls://host:port``
    :raises trough.errors.Unavailable: it cannot be one, or may not be asked without TLS
    """
    try:
        host, port, encrypted = line_host_and_port(address)
    except ValueError as error:
        raise errors.Unavailable(f"{address}: cannot connect: {error}") from error
    if tls.insists and not encrypted:
        raise errors.Unavailable(
            f"{address} speaks no TLS, which the settings of this process ask for"
        )
    return host, port, encrypted


def handshake(
    token: str | Credential | None, address: str
) -> Generator[bytes, ReplyLine, Greeting]:
    """Yield what has to be sent next, perhaps nothing; take the reply to it.

    :param token: to prove where the server asks for it; a text does not insist on a proof of
        servers that ask for none
    :param address: of the server, as it publishes it
    :return: the greeting, once requests are taken
    :raises trough.errors.FramingLost: it is another protocol, or another version
    :raises trough.errors.Unauthorized: the token is missing or wrong
    :raises trough.errors.Unavailable: the server does not prove that it knows the token
    """
    challenge = b"" if token is None else format_request(_TAG, b"CHALLENGE")
    greeting = parse_greeting((yield challenge))
    if greeting.auth == "none":
        if token is not None and not isinstance(token, str):
            token.check_open(address)
        if challenge:
            yield from _last_line()  # so that nothing unexpected comes later
        return greeting
    if token is None:
        raise errors.Unauthorized(f"{greeting.node} wants a token", "none is configured")
    from trough.access.tokens import Credential, new_nonce  # whose hashes take long to import

    credential = Credential.of(token) if isinstance(token, str) else token
    nonce = str((yield from _answer()).get("nonce", ""))
    own, proof = new_nonce(), credential.proof(nonce, address)
    words = (credential.id, nonce, proof, own)
    prove = format_request(_TAG, b"PROVE", *(format_word(word.encode()) for word in words))
    answer = yield from _answer(prove)
    credential.check_server(answer.get("proof"), own, nonce, address)
    return greeting


def _answer(request: bytes = b"") -> Generator[bytes, ReplyLine, dict[str, int | str]]:
    """Send a request, or nothing, and return the fields of the next answer."""
    _, word, rest = yield from _last_line(request)
    if word != b"OK":
        raise parse_error(rest)
    return parse_fields(rest.decode("utf-8", "replace"))


def _last_line(request: bytes = b"") -> Generator[bytes, ReplyLine, ReplyLine]:
    """Send a request, or nothing, and return the last line of the next answer."""
    reply = yield request
    while reply[0] != _TAG or reply[1] not in FINAL:
        reply = yield b""
    return reply
