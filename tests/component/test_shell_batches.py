"""Writes of a script, sent together."""

from __future__ import annotations

import os
import threading

import pytest

from trough import errors
from trough.shell.input.batches import MAX_STATEMENTS, Batch, decoded, joined, lines_as_they_come
from trough.shell.input.statements import Statement


class Carried:
    """Keeps what a batch carries out; refuses what holds ``wrong``."""

    def __init__(self, error=errors.BadSql) -> None:
        self.done = []
        self.batch = Batch(self.together, self.singly)
        self._error = error

    def together(self, statements):
        if "wrong" in joined(statements):
            raise self._error("wrong")
        self.done.append([s.text for s in statements])

    def singly(self, statement):
        if "wrong" in statement.text:
            raise self._error("wrong")
        self.done.append(statement.text)


def test_writes_in_a_row_are_one():
    """What reads, and commands, come in their place between them."""
    carried = Carried()
    for text in ("INSERT a", "with a as (select 1) delete from b", "SELECT 1", "DELETE b"):
        carried.batch.add(Statement(text))
    assert carried.done == [["INSERT a", "with a as (select 1) delete from b"], "SELECT 1"]
    carried.batch.flush()
    carried.batch.flush()
    assert carried.done[2:] == ["DELETE b"]


def test_a_wrong_one_is_found():
    """What comes before it is carried out, and nothing after it."""
    carried = Carried()
    for text in ("INSERT 1", "INSERT 2", "INSERT wrong", "INSERT 3"):
        carried.batch.add(Statement(text))
    with pytest.raises(errors.BadSql):
        carried.batch.flush()
    assert carried.done == ["INSERT 1", "INSERT 2"]


def test_what_may_have_happened_is_not_done_again():
    """Only a refusal, which changed nothing, is followed by single statements."""
    carried = Carried(errors.OutcomeUnknown)
    carried.batch.add(Statement("INSERT 1"))
    carried.batch.add(Statement("INSERT wrong"))
    with pytest.raises(errors.OutcomeUnknown):
        carried.batch.flush()
    assert carried.done == []


def test_a_batch_has_a_bound():
    """A file of any length goes out in parts."""
    carried = Carried()
    for _ in range(MAX_STATEMENTS + 1):
        carried.batch.add(Statement("INSERT 1"))
    assert [len(batch) for batch in carried.done] == [MAX_STATEMENTS]
    carried = Carried()
    for _ in range(3):
        carried.batch.add(Statement("INSERT " + "x" * 600_000))
    assert [len(batch) for batch in carried.done] == [2]


def test_a_comment_at_the_end_ends_nothing_else():
    """Joined statements stay the statements they were."""
    assert joined([Statement("a -- b"), Statement("c")]) == "a -- b\n;\nc\n;"


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_lines_of_a_pipe(size):
    """Whatever the pieces in which they come; an empty one says that none is there yet."""
    data = ("SELECT 'é日';\n\n  b\r\n" + "x" * 100 + "\nlast ").encode() + b"\xff"
    reading, writing = os.pipe()

    def write():
        for start in range(0, len(data), size):
            os.write(writing, data[start : start + size])
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    lines = [line for line in lines_as_they_come(reading) if line]
    thread.join()
    os.close(reading)
    assert lines == data.splitlines(keepends=True)


def test_a_pipe_with_nothing_in_it_says_so():
    """So that what waits can be carried out."""
    reading, writing = os.pipe()
    os.write(writing, b"a\nb")
    lines = lines_as_they_come(reading)
    assert [next(lines), next(lines)] == [b"a\n", b""]
    os.close(writing)
    assert list(lines) == [b"b"]
    os.close(reading)


def test_a_line_that_is_not_utf8_is_named_and_not_repaired():
    """What comes before it runs; a byte order mark is no part of the first line."""
    lines = decoded([b"", b"\xef\xbb\xbfa\n", b"", b"b\n", b"c \xff\n", b"d\n"], "stdin")
    assert [next(lines) for _ in range(5)] == ["", "a\n", "", "b\n", ""]
    with pytest.raises(errors.BadRequest, match="stdin:3: not UTF-8: byte 3 of the line"):
        next(lines)
