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
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

_FORM = re.compile(r"trough_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")

#: What stands for the id of a token that was not generated here: that of AUTH_TOKEN.
CHOSEN = "chosen"

_CONTEXT = b"trough proof 1"


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


def _hidden(key: bytes, stored: bytes, nonce: str, address: str) -> bytes:
    message = b"\0".join((_CONTEXT, nonce.encode(), normal_address(address).encode()))
    mask = hmac.digest(stored, message, "sha256")
    return bytes(one ^ other for one, other in zip(key, mask, strict=True))


@dataclass(frozen=True, slots=True)
class Credential:
    """A token as its owner uses it, without the token itself.

    :ivar id: of the token
    :ivar key: proves it
    """

    id: str
    key: bytes

    @classmethod
    def of(cls, token: str) -> Credential:
        """The credential of a token."""
        return cls(id_of(token), key_of(token))

    def proof(self, nonce: str, address: str) -> str:
        """See :func:`proof_of`."""
        return proof_of(self.key, nonce, address)

    def __repr__(self) -> str:
        return f"Credential({self.id})"
