"""What GATHER refuses names something else to ask, and that is answered."""

from __future__ import annotations

import pytest
from gather_support import Cluster

from trough import errors

SCRIPT = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, k TEXT); CREATE TABLE u (k TEXT, n INTEGER);"
    "CREATE VIEW v AS SELECT k, n FROM u; CREATE VIRTUAL TABLE f USING fts5(body)"
)


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """Two segments."""
    cluster = Cluster()
    for segment in ("a", "b"):
        rows = {"t": [(1, "x"), (2, "y")], "u": [("x", 1)], "f": [("red tree",), ("tree",)]}
        cluster.add(segment, SCRIPT, rows)
    return cluster


@pytest.mark.parametrize(
    ("refused", "hint", "instead"),
    [
        ("SELECT rowid FROM t", "INTEGER PRIMARY KEY", "SELECT id FROM t"),
        (
            "SELECT name FROM sqlite_schema",
            "WITHIN SEGMENTS may read pragma_table_list",
            "WITHIN SELECT name FROM pragma_table_list WHERE type = 'table'",
        ),
        (
            "SELECT name FROM pragma_table_info('t')",
            "WITHIN SEGMENTS may read pragma_table_info",
            "WITHIN SELECT name FROM pragma_table_info('t')",
        ),
        ("SELECT changes() FROM t", "leave it out", "SELECT 1 FROM t"),
        (
            "SELECT *, length(_segment) FROM t",
            "name the columns",
            "SELECT id, k, length(_segment) FROM t",
        ),
        (
            "SELECT v.k FROM v JOIN t USING (k) WHERE t._segment = 'a'",
            "name the columns, and join on them",
            "SELECT u.k FROM u JOIN t ON t.k = u.k WHERE t._segment = 'a'",
        ),
        (
            "SELECT bm25(f) FROM f WHERE f MATCH 'tree'",
            "WITHIN SEGMENTS",
            "WITHIN SELECT bm25(f) FROM f WHERE f MATCH 'tree'",
        ),
        (
            "SELECT count(*) FROM f, t WHERE f MATCH 'tree'",
            "search in a subquery",
            "SELECT count(*) FROM (SELECT body FROM f WHERE f MATCH 'tree'), t",
        ),
        (
            "WITHIN SELECT t.k FROM t LEFT JOIN u USING (k) WHERE random() > 0",
            "without WITHIN SEGMENTS",
            "SELECT t.k FROM t LEFT JOIN u USING (k) WHERE random() > 0",
        ),
        (
            "WITHIN SELECT u._segment FROM t LEFT JOIN u ON t.k = u.k",
            "without WITHIN SEGMENTS",
            "SELECT u._segment FROM t LEFT JOIN u ON t.k = u.k",
        ),
        (
            "WITHIN SELECT u.n FROM u, (t JOIN v ON t.k = v.k)",
            "write (SELECT",
            "WITHIN SELECT u.n FROM u, (SELECT t.k FROM t JOIN v ON t.k = v.k)",
        ),
    ],
)
def test_what_a_refusal_proposes_is_answered(
    cluster: Cluster, refused: str, hint: str, instead: str
) -> None:
    """The hint names it."""
    with pytest.raises(errors.BadRequest) as caught:
        ask(cluster, refused)
    assert hint in f"{caught.value.message} {caught.value.hint}"
    ask(cluster, instead)


def test_nothing_is_proposed_that_is_refused_as_well(cluster: Cluster) -> None:
    """A pragma is read within segments alone."""
    with pytest.raises(errors.BadSql) as caught:
        ask(cluster, "WITHIN SELECT name FROM pragma_table_info('t') WHERE random() > 0")
    assert caught.value.hint == "ask its segments one by one, without GATHER"


def ask(cluster: Cluster, sql: str) -> None:
    within = sql.startswith("WITHIN ")
    cluster.gather(sql.removeprefix("WITHIN "), within=within)
