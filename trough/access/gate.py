"""The gate of a process: which grant a client has that shows this.

It promises that a header or token is looked at in full once, and by one look into a dictionary
from then on; that a changed token file is in force within :data:`RELOAD_SECONDS`, also for
connections that are open; and that a token file which cannot be read changes nothing. It knows
neither HTTP's requests nor the line protocol's.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from twisted.logger import Logger

from trough import errors
from trough.access.audit import AuditLog
from trough.access.rights import ANYBODY, EVERY_RIGHT, PEER, Grant, SegmentLimit
from trough.access.timed_grants import TimedGrants
from trough.access.token_file import AccessToken, read_tokens
from trough.access.tokens import (
    Credential,
    id_of,
    is_client_nonce,
    is_proof,
    is_token,
    key_of,
    server_proof_of,
    stored_of,
)
from trough.access.wrong_tokens import WrongTokens
from trough.util.bounded_lru import BoundedLru

_log = Logger()

#: Seconds between two looks whether the token file was changed.
RELOAD_SECONDS = 1.0

#: Seconds that a challenge, a ticket, and a session of the web console is good for.
CHALLENGE_SECONDS, TICKET_SECONDS, SESSION_SECONDS = 60, 600, 12 * 3600

#: Headers whose grants are remembered, at most.
_REMEMBERED = 4096

#: Bytes of a header or token that is looked at.
_LONGEST = 2048

#: The scheme of ``Authorization`` by which servers show each other tickets.
TICKET = "Trough-Ticket"


class Gate:
    """Finds grants.

    :param token: one with all rights, which the settings name
    :param peer: one that servers show each other; None: `token`
    :param path: of the token file
    :param addresses: ``host:port`` of ports of this process, as they are published; see `serve`
    :param certificates: whether a token of servers has to come with a certificate of the cluster
    :param insists: whether this process asks only servers that prove that they know its token
    :param seconds: a clock that only counts
    :param now: the time of day, for tokens that expire
    :raises trough.errors.BadSettings: the token file cannot be used
    """

    def __init__(
        self,
        token: str | None = None,
        peer: str | None = None,
        path: Path | None = None,
        addresses: Iterable[str] = (),
        certificates: bool = False,
        *,
        insists: bool = True,
        seconds: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        #: Whether clients have to show anything.
        self.is_closed = token is not None or path is not None
        own = peer or token
        #: What this process shows to others, or None.
        self.credential = Credential.of(own, insists) if own else None
        self.wrong = WrongTokens(seconds)
        self._certificates = certificates
        self._path = path
        self._addresses = list(addresses)
        self._seconds = seconds
        self._now = now
        self._secret = secrets.token_bytes(32)
        self._stored: dict[str, bytes] = {}
        self._grants: dict[str, Grant] = {}
        self._expire: dict[str, int] = {}
        self._from_file: set[str] = set()
        self._known: BoundedLru[bytes, Grant] = BoundedLru(_REMEMBERED)
        self._tickets = TimedGrants(TICKET_SECONDS, _REMEMBERED, seconds)
        #: Of people who logged in to the web console.
        self.sessions = TimedGrants(SESSION_SECONDS, _REMEMBERED, seconds)
        self._version: object = None
        #: Where it is noted who changed what, or None.
        self.audit: AuditLog | None = None
        for name, rights, text in (("PEER_TOKEN", PEER, peer), ("AUTH_TOKEN", EVERY_RIGHT, token)):
            if text is not None:
                self._stored[id_of(text)] = stored_of(key_of(text))
                self._grants[id_of(text)] = Grant(name, rights)
        if path is not None:
            self._version = _version_of(path)
            self._take(read_tokens(path))

    def serve(self, address: str) -> None:
        """This process listens where others know it by this address, ``host:port``."""
        self._addresses.append(address)

    # -- what clients show -------------------------------------------------------------

    def grant_of_header(self, header: bytes | None) -> Grant | None:
        """What ``Authorization`` with this value gives; None: nothing."""
        if not self.is_closed:
            return ANYBODY
        if header is None:
            return None
        known = self._known.get(header)
        if known is None:
            known = self._grant_of_unknown(header)
        return known if known is not None and known.rights else None

    def grant_of_token(self, token: str) -> Grant | None:
        """What a token gives; None: it is none."""
        if not self.is_closed:
            return ANYBODY
        id = id_of(token[:_LONGEST])
        stored, grant = self._stored.get(id), self._grants.get(id)
        if stored is None or grant is None or not grant.rights or not is_token(token, stored):
            return None
        return grant

    def check_certificate(self, grant: Grant, shows: Callable[[], bool]) -> None:
        """Refuse a token that only servers have, where it comes from somebody else.

        :param shows: whether the connection has a certificate of the cluster
        :raises trough.errors.Unauthorized: it comes without one
        """
        if self._certificates and grant.rights == PEER and not shows():
            raise errors.Unauthorized(
                "the token of a server, without a certificate of this cluster",
                "TLS_PEER_CA is set here: it has to be where the token is used",
            )

    def _grant_of_unknown(self, header: bytes) -> Grant | None:
        if len(header) > _LONGEST:
            return None
        scheme, _, value = header.decode("latin-1").partition(" ")
        scheme, value = scheme.lower(), value.strip()
        if scheme == TICKET.lower():
            return self._tickets.get(value)
        if scheme == "basic":
            value = _password(value)
        elif scheme != "bearer":
            return None
        grant = self.grant_of_token(value)
        if grant is not None:
            self._known.put(header, grant)
        return grant

    # -- challenges and tickets --------------------------------------------------------

    def challenge(self) -> str:
        """A text that a proof has to be about; nothing is kept of it."""
        return self._signed(f"{int(self._seconds()) + CHALLENGE_SECONDS:x}.{secrets.token_hex(16)}")

    def _signed(self, text: str) -> str:
        return f"{text}.{hmac.digest(self._secret, text.encode(), 'sha256').hex()[:32]}"

    def grant_of_proof(
        self, id: str, nonce: str, proof: str, client_nonce: str = ""
    ) -> tuple[Grant, str] | None:
        """What the token gives of which this is a proof, for one of this process's addresses.

        :param client_nonce: the client's own nonce, or empty: it asks for no server proof
        :return: the grant, and the server proof, which is empty without a client's nonce
        """
        text = nonce.rpartition(".")[0]
        if not hmac.compare_digest(self._signed(text).encode(), nonce.encode()):
            return None
        if int(text.partition(".")[0], 16) < self._seconds():
            return None
        stored, grant = self._stored.get(id), self._grants.get(id)
        if stored is None or grant is None or not grant.rights:
            return None
        proved = [each for each in self._addresses if is_proof(proof, stored, nonce, each)]
        if not proved or (client_nonce and not is_client_nonce(client_nonce)):
            return None
        return grant, client_nonce and server_proof_of(stored, client_nonce, nonce, proved[0])

    def new_ticket(self, grant: Grant) -> str:
        """A text that stands for a grant at this process, for :data:`TICKET_SECONDS`."""
        return self._tickets.add(grant)

    # -- the file ----------------------------------------------------------------------

    async def look(self) -> None:
        """Read the token file again if it was changed, and take rights from expired tokens.

        :raises trough.errors.BadSettings: it cannot be used; all is as before
        """
        for id, expires in list(self._expire.items()):
            if expires <= self._now():
                self._revoke(id)
        if self._path is None or (version := _version_of(self._path)) == self._version:
            return
        tokens = read_tokens(self._path)
        self._version = version
        before = {id: self._summary(id) for id in self._from_file}
        self._take(tokens)
        self._tell(before)

    def _summary(self, id: str) -> tuple[str, object]:
        grant = self._grants[id]
        globs = grant.limit.globs if grant.limit is not None else ()
        return grant.name, (grant.rights, globs)

    def _tell(self, before: dict[str, tuple[str, object]]) -> None:
        after = {id: self._summary(id) for id in self._from_file}
        added = sorted(after[id][0] for id in after.keys() - before.keys())
        changed = sorted(after[id][0] for id in after if id in before and after[id] != before[id])
        removed = sorted(before[id][0] for id in before.keys() - after.keys())
        _log.info(
            "{path}: read again; added {added}, changed {changed}, removed {removed}",
            path=self._path,
            added=added,
            changed=changed,
            removed=removed,
        )
        if self.audit is not None and (added or changed or removed):
            self.audit.note("tokens", "ok", "", "", added=added, changed=changed, removed=removed)

    def _take(self, tokens: list[AccessToken]) -> None:
        wanted = {token.id: token for token in tokens if not self._has_expired(token)}
        for id in self._from_file - wanted.keys():
            self._revoke(id)
        # What was shown once may mean another token now.
        self._known.clear()
        for id, token in wanted.items():
            limit = SegmentLimit(token.segments) if token.segments else None
            grant = self._grants.setdefault(id, Grant(token.name, 0))
            grant.name, grant.rights, grant.limit = token.name, token.rights, limit
            self._stored[id] = token.stored
            self._from_file.add(id)
            self._expire.pop(id, None)
            if token.expires is not None:
                self._expire[id] = token.expires

    def _has_expired(self, token: AccessToken) -> bool:
        return token.expires is not None and token.expires <= self._now()

    def _revoke(self, id: str) -> None:
        grant = self._grants.pop(id)
        grant.rights = 0
        del self._stored[id]
        self._from_file.discard(id)
        self._expire.pop(id, None)


def wrong_token() -> errors.Unauthorized:
    """The refusal of what gives nothing."""
    return errors.Unauthorized("not a token of this server", "trough-admin token list names them")


def _password(value: str) -> str:
    try:
        text = base64.b64decode(value, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
    return text.partition(":")[2]


def _version_of(path: Path) -> object:
    """What changes with the file, or None while it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
