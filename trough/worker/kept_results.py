"""Keeps answers of segments, so that equal queries need not run again.

An entry is found by the statement, its parameters, the segment, and the *version* of the local
copy. The version is the number of its file, which no other file of this process ever has, and the
number of writes that were ever accepted for it. Both only grow. The version is taken before the
segment is read, and a copy that is being written has none. So an answer kept under a version was
read when all of its writes were on disk.

A change of the copy (a write, a promotion that is fetched, a revert, a restore, a move) gives it a
version under which no answer is kept. No later change brings an old version back. So nothing has
to be invalidated.

Bytes are bounded. The least recently used statement is removed first, with all of its entries. One
statement does not push out its own entries. Of a scan that is larger than the bound, the first
part stays and is of use the next time.

This module does not know how segments are asked, and which marks an answer carries.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from trough.worker.local_copies import LocalCopy, Version

#: Stands for the tag where a line begins. No line of the protocol has this byte.
TAG = b"\0"

#: Bytes of an entry beside its lines: objects, and places in dictionaries.
ENTRY = 250

#: Bytes of lines above which an answer is not kept.
LARGEST = 1 << 16


class KeptResult(NamedTuple):
    """An answer.

    :ivar lines: each begins with :data:`TAG`
    """

    version: Version
    rows: int
    lines: bytes


class KeptStatement:
    """What is kept of one statement with its parameters."""

    __slots__ = ("bytes", "entries", "fixed", "key")

    def __init__(self, key: Hashable, fixed: int) -> None:
        self.key = key
        self.entries: dict[str, KeptResult] = {}
        #: Bytes that it takes, and those of it that its text takes.
        self.bytes = self.fixed = fixed


class KeptResults:
    """See the module.

    :param most: bytes that may be kept; 0 to keep nothing
    :ivar bytes: that are kept
    :ivar found: answers that were found here since the start
    :ivar missed: those that were looked for in vain
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.bytes = 0
        self.found = self.missed = 0
        self._statements: OrderedDict[Hashable, KeptStatement] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(each.entries) for each in self._statements.values())

    def status(self) -> dict[str, int]:
        """Fields for the worker's status."""
        return {"bytes": self.bytes, "found": self.found, "missed": self.missed}

    @property
    def is_on(self) -> bool:
        """Whether anything is ever kept."""
        return self._most > 0

    def statement(self, key: Hashable, size: int) -> KeptStatement:
        """What is kept of a statement, which counts as used now.

        :param key: the text, and all that its answer depends on beside the segment
        :param size: bytes of the text and the parameters
        """
        found = self._statements.get(key)
        if found is None:
            return KeptStatement(key, size + ENTRY)
        self._statements.move_to_end(key)
        return found

    def find(
        self, statement: KeptStatement, copies: Sequence[LocalCopy]
    ) -> tuple[list[KeptResult], list[LocalCopy]]:
        """The answers of those copies that are kept; and the other copies."""
        found: list[KeptResult] = []
        others: list[LocalCopy] = []
        entries = statement.entries
        for copy in copies:
            entry = entries.get(copy.entry.segment)
            if entry is not None and entry.version == copy.version:
                found.append(entry)
            else:
                others.append(copy)
        self.found += len(found)
        self.missed += len(others)
        return found, others

    def keep(
        self,
        statement: KeptStatement,
        segment: str,
        version: Version,
        rows: int,
        lines: bytes,
        tag: str,
    ) -> None:
        """Keep an answer, if there is room.

        :param version: of the copy before it was read
        :param lines: as they were sent, each beginning with `tag`
        """
        if len(lines) <= LARGEST and TAG not in lines:
            self.put(statement, segment, KeptResult(version, rows, _without_tag(lines, tag)))

    def put(self, statement: KeptStatement, segment: str, entry: KeptResult) -> None:
        """Keep an entry, if there is room."""
        size = len(entry.lines) + ENTRY
        former = statement.entries.get(segment)
        if former is not None:
            size -= len(former.lines) + ENTRY
        known = self._statements.get(statement.key) is statement
        if not self._has_room(statement, size if known else size + statement.bytes):
            return
        if not known and not self._add(statement):
            return
        statement.entries[segment] = entry
        statement.bytes += size
        self.bytes += size

    def _add(self, statement: KeptStatement) -> bool:
        """Begin to keep something of a statement; not if it is kept under another object."""
        if statement.key in self._statements or statement.entries:
            return False
        self._statements[statement.key] = statement
        self.bytes += statement.bytes
        return True

    def _has_room(self, statement: KeptStatement, size: int) -> bool:
        """Make room by letting go of other statements."""
        while self.bytes + size > self._most:
            oldest = next(iter(self._statements.values()), None)
            if oldest is None or oldest is statement:
                return False
            del self._statements[oldest.key]
            self.bytes -= oldest.bytes
        return True


def _without_tag(lines: bytes, tag: str) -> bytes:
    skipped = len(tag.encode())
    return b"".join([b"%b%b\n" % (TAG, line[skipped:]) for line in lines.split(b"\n")[:-1]])
