"""Sends consecutive writes of a script as one.

A worker answers a write after its fsync. So a file of single INSERTs would need one fsync for
each. A batch shares one fsync. A refused batch changes nothing, and its statements then run one
by one. All statements before the wrong one take effect, and the wrong one is named, as without
batches.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable, Iterator

from trough import errors
from trough.shell.input.statements import Statement
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


def lines_as_they_come(file: int) -> Iterator[bytes]:
    """The lines of a pipe or file, and ``b""`` each time the next line is not there yet.

    :param file: a descriptor
    """
    rest: list[bytes] = []
    while True:
        if not select.select([file], [], [], 0)[0]:
            yield b""
        chunk = os.read(file, _CHUNK)
        *lines, last = chunk.split(b"\n")
        if lines:
            yield b"".join([*rest, lines[0], b"\n"])
            for line in lines[1:]:
                yield line + b"\n"
            rest = []
        if last:
            rest.append(last)
        if not chunk:
            yield b"".join(rest)
            return


def decoded(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """Lines of UTF-8 as text, without a byte order mark before them.

    :param lines: ``b""`` among them means that the next line is not there yet
    :param name: of their file, for errors
    :raises trough.errors.BadRequest: a line is not UTF-8; ``""`` comes before that
    """
    number = 0
    for line in lines:
        number += bool(line)
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            yield ""  # what comes before runs, as before any other mistake
            where = f"{name}:{number}: not UTF-8: byte {error.start + 1} of the line"
            raise errors.BadRequest(where) from error
