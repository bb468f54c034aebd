"""Sends consecutive writes of a script as one.

A worker answers a write after its fsync. So a file of single INSERTs would need one fsync for
each. A batch shares one fsync. A refused batch changes nothing, and its statements then run one
by one. All statements before the wrong one take effect, and the wrong one is named, as without
batches.
"""

from __future__ import annotations

import os
import select
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator

from trough import errors
from trough.shell.input.statements import Statement, lines_of
from trough.sql.kind import writes

#: Statements and characters in one write.
MAX_STATEMENTS = 2000
MAX_SIZE = 1 << 20

_CHUNK = 1 << 16


class Batch:
    """Consecutive writes.

    :param together: runs all of them at once, or none
    :param singly: runs one
    """

    def __init__(
        self, together: Callable[[list[Statement]], None], singly: Callable[[Statement], None]
    ) -> None:
        self._together = together
        self._singly = singly
        self._statements: list[Statement] = []
        self._size = 0

    def add(self, statement: Statement) -> None:
        """Add a statement. A full batch runs now. What is no write runs now, after the batch."""
        if not writes(statement.text):
            self.flush()
            self._singly(statement)
            return
        self._statements.append(statement)
        self._size += len(statement.text)
        if len(self._statements) >= MAX_STATEMENTS or self._size >= MAX_SIZE:
            self.flush()

    def flush(self) -> None:
        """Run what waits."""
        statements, self._statements, self._size = self._statements, [], 0
        if len(statements) > 1:
            try:
                self._together(statements)
            except errors.BadRequest:
                pass  # nothing happened; one by one shows which statement it is
            else:
                return
        for statement in statements:
            self._singly(statement)


def joined(statements: list[Statement]) -> str:
    """Statements as one text; one may end in a comment."""
    return "\n;\n".join(statement.text for statement in statements) + "\n;"


def lines_as_they_come(file: int) -> Iterator[str]:
    """The lines of a pipe or file, and ``""`` each time the next line is not there yet.

    :param file: a descriptor; its text is UTF-8, and invalid bytes show as U+FFFD
    """
    decoder = getincrementaldecoder("utf-8-sig")("replace")  # without a byte order mark
    rest: list[str] = []
    while True:
        if not select.select([file], [], [], 0)[0]:
            yield ""
        chunk = os.read(file, _CHUNK)
        *lines, last = lines_of(decoder.decode(chunk, not chunk)) or [""]
        if lines:
            yield "".join([*rest, lines[0]])
            yield from lines[1:]
            rest = []
        if last.endswith("\n"):
            yield "".join([*rest, last])
            rest = []
        elif last:
            rest.append(last)
        if not chunk:
            yield "".join(rest)
            return
