"""Tokens, what is kept of them, and how one is proved without being sent. Pure.

A generated token is ``trough_ID_SECRET``: an id of 64 random bits, and a secret of 256. The id is
kept in the clear and is the salt as well. Of the secret only a hash is kept. A slow hash
would protect passwords that people chose; nobody guesses 256 random bits, and a slow hash would
let strangers use up processor time. The hash is that of a key:

* ``key = HMAC-SHA256(salt, token)``, which only who has the token can compute;
* ``stored = SHA256(key)``, which is kept.

A *proof* is the key, hidden by ``HMAC-SHA256(stored, challenge and address)``, as in SCRAM
(RFC 5802). Who knows ``stored`` can check it and not make it. It is of no use at another
address, so a listener that a foreign row of the registry leads to can do nothing with it.

A *server proof* answers a proof: ``HMAC-SHA256(stored, nonce, challenge and address)``, over a
nonce of the client. Only a server that knows ``stored`` can make it. So the client sends no
request to a server before the server proof has arrived.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from trough import errors

_FORM = re.compile(r"trough_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")

#: What stands for the id of a token that was not generated here: that of AUTH_TOKEN.
CHOSEN = "chosen"

#: What a client sends as its nonce, for the server to prove itself over.
_CLIENT_NONCE = re.compile(r"[0-9a-f]{32,128}")

_CONTEXT = b"trough proof 1"
_SERVER_CONTEXT = b"trough server proof 1"


def new_token() -> str:
    """A token that nobody can guess."""
    return f"trough_{secrets.token_hex(8)}_{secrets.token_urlsafe(32)}"


def id_of(token: str) -> str:
    """The id of a token, which is no secret."""
    form = _FORM.fullmatch(token)
    return form[1] if form else CHOSEN


def key_of(token: str) -> bytes:
    """The key that proves a token."""
    return hmac.digest(id_of(token).encode(), token.encode("utf-8", "surrogateescape"), "sha256")


def stored_of(key: bytes) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key).digest()


def is_token(token: str, stored: bytes) -> bool:
    """Whether `stored` was kept of this token; takes equally long for each wrong one."""
    return hmac.compare_digest(stored_of(key_of(token)), stored)


def normal_address(address: str) -> str:
    """``host:port`` in its one spelling; of one that speaks TLS it is the same."""
    return address.lower().removeprefix("tls://")


def proof_of(key: bytes, nonce: str, address: str) -> str:
    """A proof for the server at `address`, ``host:port``, which sent the challenge `nonce`."""
    return _hidden(key, stored_of(key), nonce, address).hex()


def is_proof(proof: str, stored: bytes, nonce: str, address: str) -> bool:
    """Whether `proof` is one of the token of which `stored` was kept."""
    try:
        hidden = bytes.fromhex(proof)
    except ValueError:
        return False
    if len(hidden) != len(stored):
        return False
    key = _hidden(hidden, stored, nonce, address)
    return hmac.compare_digest(stored_of(key), stored)


def new_nonce() -> str:
    """A nonce of a client, which it uses once."""
    return secrets.token_hex(16)


def is_client_nonce(nonce: str) -> bool:
    """Whether `nonce` has the form of a client's nonce."""
    return _CLIENT_NONCE.fullmatch(nonce) is not None


def server_proof_of(stored: bytes, client_nonce: str, nonce: str, address: str) -> str:
    """A proof of the server at `address` that it knows `stored`.

    :param client_nonce: of the client that asks for this proof
    :param nonce: the server's challenge, about which the client's proof was
    """
    message = _message(_SERVER_CONTEXT, client_nonce, nonce, normal_address(address))
    return hmac.digest(stored, message, "sha256").hex()


def _hidden(key: bytes, stored: bytes, nonce: str, address: str) -> bytes:
    mask = hmac.digest(stored, _message(_CONTEXT, nonce, normal_address(address)), "sha256")
    return bytes(one ^ other for one, other in zip(key, mask, strict=True))


def _message(context: bytes, *words: str) -> bytes:
    return b"\0".join((context, *(word.encode() for word in words)))


@dataclass(frozen=True, slots=True)
class Credential:
    """A token as its owner uses it, without the token itself.

    :ivar id: of the token
    :ivar key: proves it
    :ivar insists: whether a server that asks for no token, and so proves nothing, is refused.
        Servers insist. A client of a server without tokens does not.
    """

    id: str
    key: bytes
    insists: bool = False

    @classmethod
    def of(cls, token: str, insists: bool = False) -> Credential:
        """The credential of a token."""
        return cls(id_of(token), key_of(token), insists)

    def proof(self, nonce: str, address: str) -> str:
        """See :func:`proof_of`."""
        return proof_of(self.key, nonce, address)

    def check_server(self, proof: object, client_nonce: str, nonce: str, address: str) -> None:
        """Check the server proof that a server answered to a proof of this token.

        :param proof: what the server sent; anything
        :raises trough.errors.Unavailable: it is none
        """
        right = server_proof_of(stored_of(self.key), client_nonce, nonce, address)
        if not hmac.compare_digest(str(proof).encode(), right.encode()):
            raise errors.Unavailable(
                f"{address} does not prove that it knows the token {self.id}",
                "another program listens there, or it runs another version of Trough",
            )

    def check_open(self, server: str) -> None:
        """Check that a server which asks for no token may be asked.

        :param server: names it in the error
        :raises trough.errors.Unavailable: it has to prove that it knows the token
        """
        if self.insists:
            raise errors.Unavailable(
                f"{server} asks for no token, so it cannot prove that it belongs to this cluster",
                "give it the same tokens, or set INSECURE here while tokens are introduced",
            )

    def __repr__(self) -> str:
        return f"Credential({self.id})"
