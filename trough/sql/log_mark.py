"""Where the WAL of a replicated segment stands in its log.

The *mark* is a small file beside a database. Its presence says that the segment's writes are
replicated. A process that opens the database to write it then leaves the WAL as it is; see
:func:`trough.sql.segment_files.open_for_writes`.

A position in the log counts bytes over all generations of the WAL, each of which has other
salts. SQLite begins a new generation with the first write after a checkpoint, and the mark cannot
be written in the same moment. So it is written *before* each checkpoint, and names both: the
generation that may end, by its salts, and where the next one would begin. Whatever a crash leaves,
the salts in the WAL tell which of the two it is.
"""

from __future__ import annotations

import json
import secrets
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trough import errors
from trough.util import atomic_files

#: What the name of the mark has behind the database's.
SUFFIX = "-log"

#: The salts of no generation.
NO_SALTS = bytes(8)


@dataclass(frozen=True, slots=True)
class Generation:
    """What one WAL holds.

    :ivar start: position of its first byte
    :ivar before: digest of the log up to there
    """

    start: int
    before: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """See the module's text.

    :ivar log: id of the log: 16 bytes, chosen at random when it was begun
    :ivar salts: of the generation that may have ended
    :ivar ending: that generation
    :ivar following: the generation of all other salts
    """

    log: bytes
    salts: bytes
    ending: Generation
    following: Generation

    def generation(self, salts: bytes) -> Generation:
        """The generation of a WAL with these salts."""
        return self.ending if salts == self.salts else self.following


def digest(log: bytes, salts: bytes, sums: bytes) -> bytes:
    """What names a log up to the frame with this cumulative checksum: 32 bytes."""
    return log + salts + sums


def begin() -> Mark:
    """The mark of a log that begins with what the database and its WAL hold now."""
    log = secrets.token_bytes(16)
    first = Generation(0, digest(log, NO_SALTS, bytes(8)))
    return Mark(log, NO_SALTS, first, first)


def path_of(database: Path | str) -> Path:
    """The path of a database's mark."""
    return Path(f"{database}{SUFFIX}")


def read(database: Path | str) -> Mark | None:
    """The mark of a database; None if there is none.

    :raises trough.errors.LogBroken: it is damaged
    """
    path = path_of(database)
    try:
        with atomic_files.in_our_words(path):
            data = path.read_bytes()
    except errors.Unavailable as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    return decode(data, path)[0]


def write(database: Path | str, mark: Mark) -> None:
    """Replace the mark; on disk on return."""
    path = path_of(database)
    with atomic_files.replacing(path) as file:
        atomic_files.write_all(file, encode(mark))


def note_broken(database: Path | str, reason: str) -> None:
    """Record in the mark that the log is broken; on disk on return.

    A flush that failed may leave in memory what the disk lacks. So a process that starts later may
    not take the log for whole.
    """
    try:
        mark = read(database) or begin()
    except errors.LogBroken:
        mark = begin()
    with atomic_files.replacing(path_of(database)) as file:
        atomic_files.write_all(file, encode(mark, broken=reason))


def is_broken(database: Path | str) -> bool:
    """Whether the mark of a database is damaged, or records that the log is broken."""
    path = path_of(database)
    try:
        return bool(decode(path.read_bytes(), path)[1].get("broken"))
    except FileNotFoundError:
        return False
    except (OSError, errors.LogBroken):
        return True


def encode(mark: Mark, **more: Any) -> bytes:
    """A mark, and more that JSON can hold, as the bytes of a file."""
    fields = {
        "log": mark.log.hex(),
        "salts": mark.salts.hex(),
        "ending": [mark.ending.start, mark.ending.before.hex()],
        "following": [mark.following.start, mark.following.before.hex()],
        **more,
    }
    text = json.dumps(fields, sort_keys=True).encode()
    return b"%s\n%08x\n" % (text, zlib.crc32(text))


def decode(data: bytes, path: Path | str) -> tuple[Mark, dict[str, Any]]:
    """The mark and all fields of a file at `path`.

    :raises trough.errors.LogBroken: it is damaged
    """
    text, _, crc = data.partition(b"\n")
    try:
        if int(crc, 16) != zlib.crc32(text):
            raise ValueError
        fields = json.loads(text)
        ending, following = (
            Generation(fields[name][0], bytes.fromhex(fields[name][1]))
            for name in ("ending", "following")
        )
        mark = Mark(bytes.fromhex(fields["log"]), bytes.fromhex(fields["salts"]), ending, following)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise errors.LogBroken(f"{path} is damaged", "the segment needs a base") from error
    return mark, fields
