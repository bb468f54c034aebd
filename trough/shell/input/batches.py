"""Writes of a script that follow one another, sent as one.

A write is answered after its fsync, so a file of single INSERTs would take a disk's time
for each. Together they share it. Only if the batch is refused, which changes nothing, are
its statements run one by one: then all before the wrong one are carried out, and the wrong
one is named, as if there were no batches.
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

    :param together: carries out all of them at once, or nothing
    :param singly: carries out one
    """

    def __init__(
        self, together: Callable[[list[Statement]], None], singly: Callable[[Statement], None]
    ) -> None:
        self._together = together
        self._singly = singly
        self._statements: list[Statement] = []
        self._size = 0

    def add(self, statement: Statement) -> None:
        """A further statement; what is no write, or too much, is carried out now."""
        if not writes(statement.text):
            self.flush()
            self._singly(statement)
            return
        self._statements.append(statement)
        self._size += len(statement.text)
        if len(self._statements) >= MAX_STATEMENTS or self._size >= MAX_SIZE:
            self.flush()

    def flush(self) -> None:
        """Carry out what waits."""
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
    """The lines of a pipe or file, and ``""`` whenever the next one has to be waited for.

    :param file: a descriptor; UTF-8, of which what is none shows as U+FFFD
    """
    decoder = getincrementaldecoder("utf-8")("replace")
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
