"""The file of tokens."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from trough import errors
from trough.access.rights import PEER, READ, WRITE
from trough.access.token_file import MAX_SIZE, AccessToken, editing, read_tokens, write_tokens

TOKEN = AccessToken("crawler", "0" * 16, b"s" * 32, READ | WRITE, ("ait-*",), 5, 9)
OTHER = AccessToken("peer", "1" * 16, b"t" * 32, PEER)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """All of it, by its owner alone, whatever mode the file had."""
    path = tmp_path / "tokens.json"
    path.touch(0o644)
    write_tokens(path, [TOKEN, OTHER])
    assert read_tokens(path) == [TOKEN, OTHER]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_editing(tmp_path: Path) -> None:
    """A file that is not there is empty; an error leaves the file as it is."""
    path = tmp_path / "tokens.json"
    with editing(path) as tokens:
        tokens.append(TOKEN)
    with pytest.raises(errors.NotFound), editing(path) as tokens:
        tokens.clear()
        raise errors.NotFound("changed my mind")
    assert read_tokens(path) == [TOKEN]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "a b"}, "cannot be a token's name"),
        ({"name": 5}, "have to be texts"),
        ({"id": "5"}, "malformed"),
        ({"stored": "x"}, "malformed"),
        ({"rights": ["root"]}, "no right 'root'"),
        ({"rights": "read"}, "have to be lists"),
        ({"rights": [1]}, "lists of texts"),
        ({"rights": ["peer"]}, "cannot be limited"),
        ({"segments": [""]}, "no pattern"),
        ({"expires": True}, "whole seconds"),
        ({"expires": "soon"}, "whole seconds"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    """The error names the file and what is wrong in it."""
    path = tmp_path / "tokens.json"
    write_tokens(path, [TOKEN])
    document = json.loads(path.read_text())
    document["tokens"][0] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(errors.BadSettings, match=reason) as refused:
        read_tokens(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 2, "tokens": []}', '{"version": 1}', "[" * 100_000, "\0",
     '{"version": 1, "tokens": [5]}', '{"version": 1, "tokens": [{}]}', " " * (MAX_SIZE + 1)],
)  # fmt: skip
def test_what_is_no_token_file(tmp_path: Path, text: str) -> None:
    """Whatever is in it, one line says that it cannot be used."""
    path = tmp_path / "tokens.json"
    path.write_text(text)
    with pytest.raises(errors.BadSettings, match="cannot be used"):
        read_tokens(path)


def test_two_tokens_with_one_id(tmp_path: Path) -> None:
    """Nobody could say which of them is meant."""
    path = tmp_path / "tokens.json"
    write_tokens(path, [TOKEN, TOKEN])
    with pytest.raises(errors.BadSettings, match="two tokens have one id"):
        read_tokens(path)
