"""Rows of several segments that become one row: nothing may be lost, and nothing guessed."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from trough import errors
from trough.sql.row_merging import RowMerger, check_rules

Row = tuple[Any, ...]


def merged(rules: str, *answers: list[Row]) -> list[Row]:
    """All of the answers, which can be merged; the schema's column is left out."""
    merger = RowMerger(rules)
    for answer in answers:
        assert merger.add([(*row, None) for row in answer])
    return [row[:-1] for row in merger.take()]


def test_counts_and_sums_are_added_up_by_their_keys() -> None:
    """NULL adds nothing, and is the sum of nothing."""
    answers = [[("a", 1, None), ("b", 2, 7)], [("b", 3, None)], [("a", 4, None), (None, 5, -1)]]
    assert merged("kss", *answers) == [("a", 5, None), ("b", 5, 7), (None, 5, -1)]


def test_least_and_greatest_integers_are_found() -> None:
    """Among integers and NULL."""
    assert merged("klg", [("a", 5, 5), ("b", None, 1)], [("a", 3, 9), ("b", 2, None)]) == [
        ("a", 3, 9),
        ("b", 2, 1),
    ]


@pytest.mark.parametrize("end", [None, ""], ids=repr)
def test_the_schema_s_column_is_null_or_empty_where_there_are_rows(end: object) -> None:
    """With anything else in it an answer stays as it is."""
    merger = RowMerger("ks")
    assert merger.add([("a", 1, end)]) and merger.add([("a", 2, end)])
    assert not merger.add([("a", 3, "[]")]) and not merger.add([("a", 3, end), ("b", 3, 0)])
    assert merger.take() == [("a", 3, end)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1,), (1.0,)),
        ((1,), ("1",)),
        ((b"1",), ("1",)),
        ((0.0,), (-0.0,)),
        ((2.5,), (2.5,)),
        (("a",), ("A",)),
        ((None,), ("",)),
    ],
    ids=repr,
)
def test_keys_that_only_sqlite_can_compare_stay_apart(one: Row, other: Row) -> None:
    """Which of them are equal depends on affinity and collation."""
    assert Counter(map(repr, merged("k", [one], [other]))) == Counter(map(repr, [one, other]))


@pytest.mark.parametrize("value", [1.5, "5", b"5"], ids=repr)
def test_extremes_that_only_sqlite_can_compare_stay_apart(value: object) -> None:
    """A collation decides about texts, and an integer may equal a real."""
    rows = merged("kl", [("a", 5)], [("a", value)], [("a", 3)])
    assert sorted(rows, key=repr) == sorted([("a", 3), ("a", value)], key=repr)


@pytest.mark.parametrize(
    "row",
    [
        ("a", 1.0, None),
        ("a", "1", None),
        ("a", 2**50, None),
        ("a", -(2**50), None),
        ("a", 1, "[]"),
    ],
    ids=repr,
)
def test_what_is_not_for_the_rules_is_not_taken(row: Row) -> None:
    """A sum that is no integer has to be seen, and so has a schema. None of the answer is taken."""
    merger = RowMerger("ks")
    assert not merger.add([("a", 1, None), row])
    assert merger.take() == []


def test_rows_of_several_rules_begin_with_the_rules_number() -> None:
    """One rule may leave rows as they are."""
    rows = merged("s,-,k", [(0, 5), (1, 5), (2, 5)], [(0, 6), (1, 5), (2, 5)])
    assert rows == [(0, 11), (1, 5), (1, 5), (2, 5)]
    assert not RowMerger("s,k").add([(2, 5, None)])
    assert not RowMerger("s,k").add([("0", 5, None)])


def test_the_order_of_segments_means_nothing() -> None:
    """Random answers in random order give the same rows."""
    rng = random.Random(8)
    keys: list[Any] = ["a", "b", 1, 2, None, b"a", 1.5]
    answers = [
        [(rng.choice(keys), rng.randrange(9), rng.choice([None, 5, 6])) for _ in range(5)]
        for _ in range(40)
    ]
    expected = Counter(map(repr, merged("ksg", *answers)))
    assert len(merged("ksg", *answers)) < 60
    for _ in range(10):
        rng.shuffle(answers)
        assert Counter(map(repr, merged("ksg", *answers))) == expected


@pytest.mark.parametrize("text", ["", "kx", "k,", "k-", "k" * 3_000, ",".join("k" * 3_000)])
def test_other_texts_are_no_rules(text: str) -> None:
    """They come from a client."""
    with pytest.raises(errors.BadRequest, match="merge="):
        check_rules(text)
    assert check_rules("kslg,-") == "kslg,-"
