"""What a process takes tokens for."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from trough import errors
from trough.access.audit import FLUSH_SECONDS, AuditLog
from trough.access.gate import CHALLENGE_SECONDS, TICKET, TICKET_SECONDS, Gate
from trough.access.rights import EVERY_RIGHT, PEER, READ, WRITE
from trough.access.token_file import AccessToken, write_tokens
from trough.access.tokens import Credential, id_of, key_of, new_nonce, new_token, stored_of

ADDRESS = "w01.example:6440"
FIRST, SECOND, OWN = new_token(), new_token(), new_token()


def entry(token: str, rights: int = READ, name: str = "crawler", **more: object) -> AccessToken:
    return AccessToken(name, id_of(token), stored_of(key_of(token)), rights, **more)  # type: ignore[arg-type]


class World:
    """A gate with a file and clocks."""

    def __init__(self, tmp_path: Path, *tokens: AccessToken, **options: str) -> None:
        self.clock = Clock()
        self.today = 1000.0
        self.path = tmp_path / "tokens.json"
        write_tokens(self.path, tokens)
        self.gate = Gate(
            path=self.path,
            addresses=[ADDRESS],
            seconds=self.clock.seconds,
            now=lambda: self.today,
            **options,
        )

    def audit(self) -> Callable[[], list[tuple[object, ...]]]:
        """Have an audit log; what it says of tokens."""
        path = self.path.with_name("audit.log")
        path.touch()
        log = AuditLog(path, "w01", False, maybeDeferred, self.clock)
        log.startService()
        self.gate.audit = log

        def entries() -> list[tuple[object, ...]]:
            self.clock.advance(FLUSH_SECONDS)
            found = map(json.loads, path.read_text().splitlines())
            return [tuple(entry[key] for key in ("added", "changed", "removed")) for entry in found]

        return entries

    def look(self) -> None:
        """Look at the file, and raise what that raises."""
        failures: list[object] = []
        Deferred.fromCoroutine(self.gate.look()).addErrback(failures.append)
        for failure in failures:
            failure.raiseException()  # type: ignore[attr-defined]

    def rights(self, header: str) -> int:
        """Rights of what is shown, twice: the second answer is a remembered one."""
        found = [self.gate.grant_of_header(header.encode()) for _ in range(2)]
        assert found[0] is found[1]
        return found[0].rights if found[0] is not None else 0


def basic(user: str, token: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{token}'.encode()).decode()}"


def test_an_open_gate() -> None:
    """Without tokens everybody may do everything, whatever is shown."""
    gate = Gate()
    assert not gate.is_closed and gate.credential is None
    for header in (None, b"Bearer x", b"\xff"):
        grant = gate.grant_of_header(header)
        assert grant is not None and grant.rights == EVERY_RIGHT


def test_ways_to_show_a_token(tmp_path: Path) -> None:
    """Bearer, and Basic with any user; AUTH_TOKEN has every right beside the file's tokens."""
    world = World(tmp_path, entry(FIRST), token="a chosen: token")
    assert world.rights(f"Bearer {FIRST}") == READ
    assert world.rights(f"bearer  {FIRST}") == READ
    assert world.rights(basic("", FIRST)) == READ
    assert world.rights(basic("me", FIRST)) == READ
    assert world.rights(basic("me", "a chosen: token")) == EVERY_RIGHT
    assert world.rights("Bearer a chosen: token") == EVERY_RIGHT
    for wrong in (
        *(
            "",
            "Bearer",
            "Bearer ",
            f"Bearer {SECOND}",
            f"Bearer {FIRST}x",
            FIRST,
            f"Digest {FIRST}",
        ),
        *("Basic x", "Basic !!!", basic(FIRST, ""), f"{TICKET} x", f"Bearer {'x' * 10_000}"),
        f"Bearer {FIRST[:-1]}",
    ):
        assert world.rights(wrong) == 0, wrong
    assert world.gate.grant_of_header(None) is None
    assert world.gate.grant_of_header(b"Bearer \xff\x00") is None


def test_a_changed_file_is_in_force_for_those_who_are_here(tmp_path: Path) -> None:
    """A grant that a connection keeps loses what its token loses."""
    world = World(tmp_path, entry(FIRST, READ | WRITE), peer=OWN)
    audit = world.audit()
    kept = world.gate.grant_of_token(FIRST)
    assert kept is not None
    world.look()
    assert audit() == []
    write_tokens(world.path, [entry(FIRST, READ, segments=("a",)), entry(SECOND, name="new")])
    world.look()
    assert (kept.rights, "a" in (kept.limit or ())) == (READ, True)
    assert world.rights(f"Bearer {SECOND}") == READ
    write_tokens(world.path, [entry(SECOND, name="new")])
    world.look()
    assert kept.rights == world.rights(f"Bearer {FIRST}") == 0
    assert world.gate.grant_of_token(FIRST) is None
    assert audit() == [(["new"], ["crawler"], []), ([], [], ["crawler"])]
    assert world.rights(f"Bearer {OWN}") == PEER


def test_a_file_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    """What was in force stays so until there is a good file again."""
    world = World(tmp_path, entry(FIRST), token="a chosen token")
    world.path.write_text("{")
    with pytest.raises(errors.BadSettings):
        world.look()
    assert world.rights(f"Bearer {FIRST}") == READ
    world.path.unlink()
    with pytest.raises(errors.BadSettings):
        world.look()
    assert world.rights(f"Bearer {FIRST}") == READ
    write_tokens(world.path, [])
    world.look()
    assert world.rights(f"Bearer {FIRST}") == 0


def test_a_token_that_expires(tmp_path: Path) -> None:
    """It is none from that second on, without a change of the file."""
    world = World(tmp_path, entry(FIRST, expires=1001), entry(SECOND, expires=999), peer=OWN)
    assert world.rights(f"Bearer {FIRST}") == READ
    assert world.rights(f"Bearer {SECOND}") == 0
    world.today = 1001
    world.look()
    assert world.rights(f"Bearer {FIRST}") == 0


def test_a_missing_file_is_an_error_at_the_start(tmp_path: Path) -> None:
    """No server runs without the tokens that it was to have."""
    with pytest.raises(errors.BadSettings, match="trough-admin token add"):
        Gate(path=tmp_path / "nowhere")


def test_proofs_and_tickets(tmp_path: Path) -> None:
    """A proof for this address, within its time, gives the rights of its token; so does a
    ticket, until it expires or the token is gone."""
    world = World(tmp_path, entry(FIRST), peer=OWN)
    gate, credential = world.gate, Credential.of(FIRST)
    assert gate.credential == Credential.of(OWN, insists=True)
    nonce = gate.challenge()
    proof = credential.proof(nonce, ADDRESS)
    proved = gate.grant_of_proof(credential.id, nonce, proof)
    assert proved is not None and proved[1] == ""
    grant = proved[0]
    assert grant.rights == READ
    own = new_nonce()
    proved = gate.grant_of_proof(credential.id, nonce, proof, own)
    assert proved is not None
    credential.check_server(proved[1], own, nonce, ADDRESS)
    for wrong_nonce in ("short", own + "g", "\0" * 32, own * 5):
        assert gate.grant_of_proof(credential.id, nonce, proof, wrong_nonce) is None
    for wrong in (
        (credential.id, gate.challenge(), proof),
        (credential.id, nonce + "0", proof),
        (credential.id, "", proof),
        (credential.id, "é.x.y", proof),
        ("nobody", nonce, proof),
        (id_of(OWN), nonce, proof),
        (credential.id, nonce, credential.proof(nonce, "rogue.example:6440")),
        (credential.id, nonce, ""),
    ):
        assert gate.grant_of_proof(*wrong) is None
    header = f"{TICKET} {gate.new_ticket(grant)}"
    assert world.rights(header) == READ
    world.clock.advance(CHALLENGE_SECONDS + 1)
    assert gate.grant_of_proof(credential.id, nonce, proof) is None
    world.clock.advance(TICKET_SECONDS)
    assert world.rights(header) == 0
    last = f"{TICKET} {gate.new_ticket(grant)}"
    write_tokens(world.path, [])
    world.look()
    assert world.rights(last) == 0


def test_what_one_process_signed_is_nothing_to_another() -> None:
    """A challenge is for the process that made it."""
    one, other = (Gate("a chosen token", addresses=[ADDRESS]) for _ in range(2))
    nonce = one.challenge()
    assert one.credential is not None
    proof = one.credential.proof(nonce, ADDRESS)
    assert one.grant_of_proof("chosen", nonce, proof) is not None
    assert other.grant_of_proof("chosen", nonce, proof) is None
