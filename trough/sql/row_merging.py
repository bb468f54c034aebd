"""Rows of several segments that become one row, where that loses nothing.

A GATHER adds up counts, sums, least and greatest values, and unites distinct values. An executor
can begin with that for the segments that it asks. What it sends then has the size of one segment's
answer, and so has all that follows. It is exact, for it does only what is the same in any order:
it adds integers, compares integers, and drops a row that is equal in type and bytes to another one.
Whatever is left is done at the end, by SQLite.

A rule has a letter for each column: ``k`` for a column by which rows are told apart, ``s`` for a
sum of integers, ``l`` and ``g`` for the least and the greatest value. The rule ``-`` leaves rows as
they are. With several rules, a row's first column is the number of its rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from trough import errors
from trough.sql.json_rows import END

#: Sums of one segment are smaller. So the sum of 2,000 of them is one of SQLite's integers.
_MOST = 2**50

#: Leaves rows as they are.
APART = "-"

_RULE = re.compile("-|[kslg]+")

#: A rule is as long as an answer has columns, at most.
_MOST_LETTERS = 2_000

_EXTREMES: dict[str, Callable[[int, int], int]] = {"l": min, "g": max}

#: Types of values that are compared here.
_WHOLE = frozenset({int, type(None)})

#: What rows of data have in the column of the schema.
_NO_SCHEMA = frozenset({None, END})

Row = Sequence[Any]


def check_rules(text: str) -> str:
    """`text`, if it can be the rules of a :class:`RowMerger`.

    :raises trough.errors.BadRequest: it cannot
    """
    rules = text.split(",")
    if len(rules) > _MOST_LETTERS or any(len(rule) > _MOST_LETTERS for rule in rules):
        raise errors.BadRequest("merge= has more rules than an answer can have columns")
    if not all(map(_RULE.fullmatch, rules)):
        raise errors.BadRequest(
            "merge= has a rule that is none",
            "a rule is - or a letter for each column; the letters are k, s, l and g",
        )
    return text


class RowMerger:
    """Takes the rows of one segment after the other. See the module.

    The last column of each row is a schema in place of rows (see
    :mod:`trough.gather.segment_sql`), and NULL or an empty string in a row of data. An answer with
    a schema is not taken.

    :param rules: with a comma between each two
    """

    def __init__(self, rules: str) -> None:
        texts = rules.split(",")
        self._several = len(texts) > 1
        self._rules = [_Rule(text, int(self._several)) for text in texts]

    @property
    def count(self) -> int:
        """Rows that there are now."""
        return sum(rule.count for rule in self._rules)

    def add(self, rows: Sequence[Row]) -> bool:
        """Take the rows of a segment, all or none; of 2,000 segments at most until :meth:`take`.

        :return: whether they were taken
        """
        if not rows:
            return True
        if not _NO_SCHEMA.issuperset([row[-1] for row in rows]):
            return False
        if not self._several:
            parts = {0: rows}
        else:
            parts = {}
            for row in rows:
                parts.setdefault(row[0], []).append(row)  # type: ignore[attr-defined]
        numbers = range(len(self._rules))
        if not all(
            number in numbers and self._rules[number].allows(parts[number]) for number in parts
        ):
            return False
        for number, part in parts.items():
            self._rules[number].add(part)
        return True

    def take(self) -> list[tuple[Any, ...]]:
        """All rows, in an order that means nothing; there are none afterwards."""
        return [tuple(row) for rule in self._rules for row in rule.take()]


class _Rule:
    """One rule, and the rows that it is about.

    :param first: number of columns before those that the letters are about
    """

    def __init__(self, letters: str, first: int) -> None:
        self._merges = letters != APART
        places = [*enumerate(letters, first)]
        self._keys = [at for at, letter in places if letter == "k"]
        self._sums = [at for at, letter in places if letter == "s"]
        self._extremes = [(at, _EXTREMES[letter]) for at, letter in places if letter in _EXTREMES]
        # Rows that others are merged with, by their keys; and those that are left as they are.
        self._groups: dict[Any, Any] = {}
        self._others: list[Row] = []

    @property
    def count(self) -> int:
        return len(self._groups) + len(self._others)

    def allows(self, rows: Sequence[Row]) -> bool:
        """Whether all that is a sum is NULL, or an integer that is not too large."""
        for at in self._sums:
            numbers = [row[at] for row in rows if row[at] is not None]
            if not {int}.issuperset(map(type, numbers)):
                return False
            if numbers and not -_MOST < min(numbers) <= max(numbers) < _MOST:
                return False
        return True

    def add(self, rows: Sequence[Row]) -> None:
        if self._merges:
            rows = self._plain(rows)
        else:
            self._others += rows
            rows = ()
        if not rows:
            return
        columns = [[row[at] for row in rows] for at in self._keys]
        keys = (
            columns[0]
            if len(columns) == 1
            else zip(*columns, strict=True)
            if columns
            else [()] * len(rows)
        )
        if not (self._sums or self._extremes):
            self._groups.update(zip(keys, rows, strict=True))
            return
        groups, sums, extremes = self._groups, self._sums, self._extremes
        for key, row in zip(keys, rows, strict=True):
            found = groups.get(key)
            if found is None:
                groups[key] = list(row)
                continue
            for at in sums:
                number = row[at]
                if number is not None:
                    found[at] = number if found[at] is None else found[at] + number
            for at, extreme in extremes:
                if row[at] is not None:
                    found[at] = row[at] if found[at] is None else extreme(found[at], row[at])

    def _plain(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Those rows that may be merged. The others are put aside."""
        # 1 and 1.0 are one key to Python, and 0.0 and -0.0.
        odd = any(float in map(type, [row[at] for row in rows]) for at in self._keys)
        # How other values than integers compare is SQLite's to say.
        odd |= any(
            not _WHOLE.issuperset(map(type, [r[at] for r in rows])) for at, _ in self._extremes
        )
        if not odd:
            return rows
        plain = []
        for row in rows:
            whole = _WHOLE.issuperset(type(row[at]) for at, _ in self._extremes)
            if whole and float not in [type(row[at]) for at in self._keys]:
                plain.append(row)
            else:
                self._others.append(row)
        return plain

    def take(self) -> list[Row]:
        rows = [*self._groups.values(), *self._others]
        self._groups, self._others = {}, []
        return rows
