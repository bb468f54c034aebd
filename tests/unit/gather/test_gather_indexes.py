"""Joins over shipped rows have the indexes that they need."""

from __future__ import annotations

from gather_support import Cluster, exact_rows, union_of

from trough.gather import GatherSession, Limits

SCRIPT = (
    "CREATE TABLE item (n INTEGER, k INTEGER, kind TEXT COLLATE NOCASE, day INTEGER);"
    "CREATE TABLE sale (n INTEGER, kind TEXT)"
)
#: Nested loops over all rows would take a billion steps.
CORRELATED = (
    "SELECT kind, count(*) FROM item AS i WHERE day > 3 AND EXISTS (SELECT 1 FROM item AS o"
    " WHERE o.n = i.n AND o.k <> i.k) AND NOT EXISTS (SELECT 1 FROM sale AS s WHERE s.n = i.n"
    " AND s.kind = i.kind) GROUP BY kind ORDER BY kind COLLATE BINARY"
)
ALTERNATIVES = (
    "SELECT count(*) FROM item AS i, sale AS s WHERE (s.n = i.n AND i.day > 5) OR"
    " (s.n = i.n AND s.kind = 'a')"
)


def many() -> Cluster:
    """Two segments with 4,000 rows."""
    cluster = Cluster()
    for segment in range(2):
        items = [(row % 700, row, "aAbc"[row % 4], row % 7) for row in range(segment, 3000, 2)]
        sales = [(row * 3, "abx"[row % 3]) for row in range(segment, 500)]
        cluster.add(f"s{segment}", SCRIPT, {"item": items, "sale": sales})
    return cluster


def test_correlated_subqueries_and_alternatives_are_answered_by_indexes() -> None:
    """The answer is SQLite's, and the final step searches instead of scanning."""
    cluster = many()
    union = union_of(cluster, SCRIPT)
    for sql in (CORRELATED, ALTERNATIVES):
        expected = union.execute(sql).fetchall()
        gathering = GatherSession(sql, cluster.segments)
        assert exact_rows(cluster.answer(gathering), True) == exact_rows(expected, True)
        assert gathering.plan is not None
        assert any("(`n`)" in statement for statement in gathering.plan.indexes)


def test_an_index_that_may_not_fit_is_left_out() -> None:
    """The limit on the temporary database is on rows, and not on what helps to read them."""
    cluster = many()
    expected = union_of(cluster, SCRIPT).execute(ALTERNATIVES).fetchall()
    small = Limits(rows=10_000, bytes=150_000, kept_rows=1_000)
    assert cluster.gather(ALTERNATIVES, limits=small) == expected
