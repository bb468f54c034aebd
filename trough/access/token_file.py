"""The file of tokens: JSON, edited by ``trough-admin token`` and read by each server.

It has mode 0600, and is replaced as a whole, so a reader sees the old or the new content.
Everything in here blocks for the time that a small local file takes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trough import errors
from trough.access.rights import UNLIMITED, SegmentLimit, names_of, rights_named
from trough.util.atomic_files import in_our_words, replacing, write_all

VERSION = 1

#: Bytes and tokens of one file; it is read on the reactor's thread.
MAX_SIZE = 1 << 20
MAX_TOKENS = 1000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_ID = re.compile(r"[0-9a-f]{16}")
_STORED = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token as the file keeps it.

    :ivar name: several tokens may have it, while one replaces the other
    :ivar id: unique
    :ivar stored: hash of its key
    :ivar rights: bits
    :ivar segments: globs that it is limited to; empty: to none
    :ivar created: seconds since the epoch
    :ivar expires: likewise; None: never
    """

    name: str
    id: str
    stored: bytes
    rights: int
    segments: tuple[str, ...] = ()
    created: int = 0
    expires: int | None = None

    def __post_init__(self) -> None:
        """Check what can be said of any token.

        :raises trough.errors.BadRequest: a name or limit that cannot be
        """
        if not _NAME.fullmatch(self.name):
            raise errors.BadRequest(
                f"{self.name[:80]!a} cannot be a token's name",
                "1 to 64 letters, digits and . _ @ -, a letter or digit first",
            )
        if self.segments:
            SegmentLimit(self.segments)
            if self.rights & UNLIMITED:
                raise errors.BadRequest(
                    f"the token {self.name} has {', '.join(names_of(self.rights & UNLIMITED))}",
                    "such a right is not about segments, so it cannot be limited to some",
                )


def read_tokens(path: Path) -> list[AccessToken]:
    """The tokens of a file.

    :raises trough.errors.BadSettings: it cannot be read, or is no such file
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise errors.BadSettings(
            f"the token file {path} cannot be read: {error.strerror}",
            "trough-admin token add NAME --right read creates it",
        ) from error
    try:
        if len(content) > MAX_SIZE:
            raise ValueError(f"more than {MAX_SIZE} bytes")
        return _tokens(json.loads(content))
    except (ValueError, KeyError, TypeError, RecursionError, errors.BadRequest) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise errors.BadSettings(
            f"the token file {path} cannot be used: {reason}",
            "it is edited by trough-admin token alone",
        ) from error


def _tokens(document: Any) -> list[AccessToken]:
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValueError(f"no object with version {VERSION}")
    rows = document["tokens"]
    if not isinstance(rows, list) or len(rows) > MAX_TOKENS:
        raise ValueError(f"tokens is no list of at most {MAX_TOKENS}")
    tokens = [_token(row) for row in rows]
    if len({token.id for token in tokens}) < len(tokens):
        raise ValueError("two tokens have one id")
    return tokens


def _token(row: Any) -> AccessToken:
    if not isinstance(row, dict):
        raise ValueError("a token is no object")
    texts = {"name": row["name"], "id": row["id"], "stored": row["stored"]}
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"{', '.join(texts)} have to be texts")
    if not _ID.fullmatch(row["id"]) or not _STORED.fullmatch(row["stored"]):
        raise ValueError(f"id or stored of the token {row['name']:.80} is malformed")
    rights, segments = row["rights"], row.get("segments", [])
    if not all(isinstance(each, list) for each in (rights, segments)):
        raise ValueError("rights and segments have to be lists")
    if not all(isinstance(name, str) for name in (*rights, *segments)):
        raise ValueError("rights and segments have to be lists of texts")
    created, expires = row.get("created", 0), row.get("expires")
    if type(created) is not int or type(expires) not in (int, type(None)):
        raise ValueError("created and expires have to be whole seconds")
    stored = bytes.fromhex(row["stored"])
    return AccessToken(
        row["name"], row["id"], stored, rights_named(rights), tuple(segments), created, expires
    )


def write_tokens(path: Path, tokens: Sequence[AccessToken]) -> None:
    """Replace the file; nobody but its owner can read it.

    :raises trough.errors.Unavailable: it cannot be written
    """
    rows = [
        {
            "name": token.name,
            "id": token.id,
            "stored": token.stored.hex(),
            "rights": names_of(token.rights),
            "segments": list(token.segments),
            "created": token.created,
            "expires": token.expires,
        }
        for token in tokens
    ]
    text = json.dumps({"version": VERSION, "tokens": rows}, indent=1) + "\n"
    if len(rows) > MAX_TOKENS or len(text) > MAX_SIZE:
        raise errors.BadRequest(f"{len(rows)} tokens are too many", "remove old ones")
    with replacing(path) as file:
        os.fchmod(file.fileno(), 0o600)
        _keep_owner(path, file.fileno())
        write_all(file, text.encode())


def _keep_owner(path: Path, descriptor: int) -> None:
    """Root edits the file of a service's user, who has to be able to read it afterwards."""
    beside = path if path.exists() else path.parent
    owner = beside.stat()
    if os.geteuid() == 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


@contextlib.contextmanager
def editing(path: Path) -> Iterator[list[AccessToken]]:
    """The tokens of a file, to be changed in the block; it is written when the block ends.

    Others who edit it wait meanwhile. A file that is not there counts as empty.

    :raises trough.errors.BadSettings: it is no such file
    :raises trough.errors.Unavailable: it cannot be written
    """
    with in_our_words(path):
        lock = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Of the directory: the file is replaced by another one.
        fcntl.flock(lock, fcntl.LOCK_EX)
        tokens = read_tokens(path) if path.exists() else []
        yield tokens
        write_tokens(path, tokens)
    finally:
        os.close(lock)
