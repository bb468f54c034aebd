"""A follower's state of its copy of a log: one small file, replaced as a whole."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from trough.replication.disk import Disk, store
from trough.replication.follower import Follower
from trough.sql import log_mark
from trough.sql.log_mark import Mark

_NOTHING = log_mark.Generation(0, b"")
#: The mark of an empty copy.
EMPTY = Mark(b"", log_mark.NO_SALTS, _NOTHING, _NOTHING)

_NAME = "state"
_HINT = "closed"
_HINT_FORM = struct.Struct("!QQII")


@dataclass(frozen=True, slots=True)
class ShadowState:
    """The stored state.

    :ivar follower: the epochs
    :ivar mark: where the WAL stands in the log
    :ivar number: of the files of the copy; 0 while there is none
    :ivar page_size: of the database, in bytes
    :ivar lost: why the copy is lost, or empty
    :ivar taking: path that the database is moved to, or empty
    :ivar adopting: path that the database comes from, or empty
    """

    follower: Follower = field(default_factory=Follower)
    mark: Mark = EMPTY
    number: int = 0
    page_size: int = 0
    lost: str = ""
    taking: str = ""
    adopting: str = ""


def load(disk: Disk, directory: Path) -> ShadowState:
    """The state in a directory.

    :raises trough.errors.LogBroken: the state is damaged
    """
    path = directory / _NAME
    data = disk.load(path)
    if data is None:
        return ShadowState()
    mark, fields = log_mark.decode(data, path)
    return ShadowState(
        Follower(fields["promised"], fields["joined"]),
        mark,
        fields["number"],
        fields["page_size"],
        fields["lost"],
        fields["taking"],
        fields["adopting"],
    )


def save(disk: Disk, directory: Path, state: ShadowState) -> None:
    """Replace the state; on disk on return. Raises OSError."""
    data = log_mark.encode(
        state.mark,
        promised=state.follower.promised,
        joined=state.follower.joined,
        number=state.number,
        page_size=state.page_size,
        lost=state.lost,
        taking=state.taking,
        adopting=state.adopting,
    )
    store(disk, directory / _NAME, data)


def names(state: ShadowState) -> set[str]:
    """The files that belong to a state."""
    if not state.number:
        return {_NAME}
    return {_NAME, _HINT, f"database.{state.number}", f"log.{state.number}"}


def load_hint(disk: Disk, directory: Path, state: ShadowState) -> tuple[int, int]:
    """The values of :func:`save_hint`; values that fit no WAL if there are none."""
    data = disk.load(directory / _HINT) or b""
    if len(data) == _HINT_FORM.size:
        number, offset, crc, check = _HINT_FORM.unpack(data)
        if number == state.number and check == zlib.crc32(data[:-4]):
            return offset, crc
    return -1, 0


def save_hint(disk: Disk, directory: Path, state: ShadowState, offset: int, crc: int) -> None:
    """Store the end and the CRC of a WAL that is being closed.

    The hint is not flushed. It only saves the check of each frame, and is compared with the WAL.
    Raises OSError.
    """
    data = _HINT_FORM.pack(state.number, offset, crc, 0)[:-4]
    file = disk.open(directory / _HINT, create=True)
    try:
        file.write(0, data + zlib.crc32(data).to_bytes(4, "big"))
    finally:
        file.close()
