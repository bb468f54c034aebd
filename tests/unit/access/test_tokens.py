"""Tokens, and proofs of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trough import errors
from trough.access.tokens import (
    Credential,
    id_of,
    is_proof,
    is_token,
    key_of,
    new_nonce,
    new_token,
    server_proof_of,
    stored_of,
)

ADDRESS = "w01.example:6440"


@pytest.mark.parametrize("chosen", ["", "a token that somebody chose", "ü", "\udcff"])
def test_what_is_kept_knows_its_token(chosen: str) -> None:
    """A token is known by what is kept of it, which is not the token; no other one is."""
    token = chosen or new_token()
    stored = stored_of(key_of(token))
    assert is_token(token, stored)
    assert not is_token(token + "x", stored)
    assert token.encode("utf-8", "surrogateescape") not in stored


def test_generated_tokens_differ() -> None:
    """Each has an id of its own; a setting takes it, and so does a URL."""
    tokens = [new_token() for _ in range(100)]
    assert len({id_of(token) for token in tokens}) == 100
    assert all(8 <= len(token) <= 256 and token.replace("_", "").isascii() for token in tokens)
    assert id_of("chosen by a person") == id_of("trough_0_x") == "chosen"


def test_a_proof_is_for_one_challenge_at_one_address() -> None:
    """Any change makes it worthless, and it does not contain the key."""
    credential = Credential.of(new_token())
    stored = stored_of(credential.key)
    proof = credential.proof("nonce", ADDRESS)
    assert is_proof(proof, stored, "nonce", ADDRESS.upper())
    assert not is_proof(proof, stored, "nonse", ADDRESS)
    assert not is_proof(proof, stored, "nonce", "w02.example:6440")
    assert not is_proof(proof, stored_of(b"x" * 32), "nonce", ADDRESS)
    # What the file keeps is not enough to make one.
    assert not is_proof(Credential("x", stored).proof("nonce", ADDRESS), stored, "nonce", ADDRESS)
    assert credential.key.hex() not in proof
    assert credential.key.hex() not in repr(credential)


def test_a_server_proves_itself_for_one_nonce_challenge_and_address() -> None:
    """Any change makes the server's proof worthless, and the client's proof is none."""
    credential, own = Credential.of(new_token()), new_nonce()
    stored = stored_of(credential.key)
    proof = server_proof_of(stored, own, "challenge", ADDRESS.upper())
    credential.check_server(proof, own, "challenge", ADDRESS)
    for wrong in (
        (proof, new_nonce(), "challenge", ADDRESS),
        (proof, own, "other", ADDRESS),
        (proof, own, "challenge", "w02.example:6440"),
        (proof[:-1], own, "challenge", ADDRESS),
        ("", own, "challenge", ADDRESS),
        (None, own, "challenge", ADDRESS),
        (credential.proof("challenge", ADDRESS), own, "challenge", ADDRESS),
    ):
        with pytest.raises(errors.Unavailable):
            credential.check_server(*wrong)


@given(st.text(max_size=80))
def test_whatever_is_sent_as_a_proof(proof: str) -> None:
    """What is no proof is refused, and raises nothing."""
    assert not is_proof(proof, stored_of(b"x" * 32), "nonce", ADDRESS)
