"""MATCH in GATHER: each segment searches in its own index."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gather_support import Cluster, exact_rows

from trough import errors
from trough.gather import sqlite_helpers
from trough.gather.schema import read_schema

INDEX = "CREATE VIRTUAL TABLE f USING fts5(url UNINDEXED, body, tokenize='porter');"
TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, host TEXT);"
VIEW = "CREATE VIEW fv AS SELECT url FROM f WHERE f MATCH 'crawl';"
ROWS: dict[str, list[tuple[Any, ...]]] = {
    "a": [("u1", "crawled pages of trees"), ("u2", "a tree"), ("u3", "nothing here")],
    "b": [("u4", "tree tree tree"), ("u5", "crawling")],
}


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """Two segments with an index, one without it, one with nothing."""
    cluster = Cluster()
    hosts = {"a": [(1, "h1"), (2, "h2")], "b": [(1, "h3"), (2, "h4")]}
    for name, rows in ROWS.items():
        cluster.add(name, INDEX + TABLE + VIEW, {"f": rows, "t": hosts[name]})
    cluster.add("n", TABLE, {"t": [(1, "h9")]})
    cluster.add("e", "", {})
    return cluster


@pytest.fixture(scope="module")
def union(cluster: Cluster) -> Any:
    """One index with all rows."""
    union = sqlite_helpers.connect()
    union.executescript(INDEX + TABLE.replace(" PRIMARY KEY", "") + VIEW)
    union.executemany(
        "INSERT INTO f VALUES (?, ?)", [row for rows in ROWS.values() for row in rows]
    )
    for segment in ("a", "b", "n"):
        hosts = cluster.segments[segment].execute("SELECT id, host FROM t").fetchall()
        union.executemany("INSERT INTO t VALUES (?, ?)", hosts)
    return union


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT url FROM f WHERE f MATCH 'tree'", None),
        ("SELECT * FROM f WHERE body MATCH ?", ["tree OR crawl"]),
        ("SELECT x.url FROM f x WHERE f MATCH :q AND url <> 'u2'", {"q": "tree"}),
        ("SELECT url, highlight(f, 1, '<', '>') FROM f WHERE f MATCH 'tree'", None),
        ("SELECT snippet(f, 1, '[', ']', '..', 2) FROM f WHERE f MATCH 'tree'", None),
        ("SELECT count(*), max(url) FROM f WHERE f MATCH 'tree NOT page'", None),
        ("SELECT substr(url, 1, 1), count(*) FROM f WHERE f MATCH 'tree' GROUP BY 1", None),
        ("SELECT DISTINCT upper(url) FROM f WHERE f MATCH 'tree' ORDER BY 1 LIMIT 2", None),
        ("SELECT count(*) FROM f", None),
        ("SELECT url FROM fv", None),
        ("SELECT count(*) FROM fv WHERE url > 'u1'", None),
        ("SELECT url FROM f WHERE f MATCH 'tree' UNION SELECT host FROM t", None),
        ("SELECT host FROM t WHERE 'u4' IN (SELECT url FROM f WHERE f MATCH 'tree')", None),
        ("WITH m AS (SELECT url FROM f WHERE f MATCH 'tree') SELECT count(*) FROM m, t", None),
        ("SELECT url, row_number() OVER (ORDER BY url) FROM (SELECT url FROM f)", None),
        ("SELECT (SELECT count(*) FROM f WHERE f MATCH 'tree') * 100 / count(*) FROM f", None),
    ],
)
def test_segments_search_in_their_own_index(
    cluster: Cluster, union: Any, sql: str, parameters: Any
) -> None:
    """The rows are those of one index with all rows."""
    expected = [tuple(row) for row in union.execute(sql, parameters or ())]
    assert exact_rows(cluster.gather(sql, parameters), False) == exact_rows(expected, False)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT url FROM f WHERE f MATCH 'tree' ORDER BY rank LIMIT 1", [("u4",)]),
        (
            "SELECT _segment, url, bm25(f) < 0 FROM f WHERE f MATCH 'tree' ORDER BY url",
            [("a", "u1", 1), ("a", "u2", 1), ("b", "u4", 1)],
        ),
        (
            "SELECT url, host FROM f JOIN t ON t.id = f.rowid WHERE f MATCH 'tree' ORDER BY url",
            [("u1", "h1"), ("u2", "h2"), ("u4", "h3")],
        ),
        (
            "SELECT host, url FROM t LEFT JOIN f ON f.rowid = t.id AND f MATCH 'page' ORDER BY 1",
            [("h1", "u1"), ("h2", None), ("h3", None), ("h4", None), ("h9", None)],
        ),
        (
            "SELECT host, (SELECT count(*) FROM f WHERE f MATCH 'tree') FROM t ORDER BY host",
            [("h1", 2), ("h2", 2), ("h3", 1), ("h4", 1), ("h9", 0)],
        ),
    ],
)
def test_within_segments_an_index_is_a_table(
    cluster: Cluster, sql: str, expected: list[tuple[Any, ...]]
) -> None:
    """It joins tables of the same segment, and has ranks and rowids."""
    assert cluster.gather(sql, within=True) == expected


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT url FROM f WHERE f MATCH 'tree' ORDER BY rank", "rank and bm25.. of f count"),
        ("SELECT bm25(f) FROM f WHERE f MATCH 'tree'", "rank and bm25.. of f count"),
        ("SELECT rank FROM (SELECT rank FROM f WHERE f MATCH 'x')", "rank and bm25.. of f count"),
        ("SELECT f FROM f", "f.f is the full-text index itself"),
        ("SELECT url FROM f WHERE f = 'tree'", "f.f is the full-text index itself"),
        ("SELECT url FROM f('tree')", "f is no function: f MATCH"),
        ("SELECT url FROM f JOIN t ON host = url WHERE f MATCH 'tree'", "f is a full-text index"),
        ("SELECT host FROM t WHERE EXISTS (SELECT 1 FROM f WHERE f MATCH host)", "full-text index"),
        ("SELECT rowid FROM f", "no rowid of their own: f.rowid"),
        ("SELECT c0 FROM f_content", "a full-text index keeps its content in table f_content"),
        ("SELECT count(*) FROM t, f_data", "a full-text index keeps its content in table f_data"),
        ("SELECT url FROM f WHERE f MATCH 'a' OR url = 'u5'", "unable to use function MATCH"),
        ("SELECT url FROM f WHERE f MATCH '\"'", "unterminated string"),
        ("SELECT * FROM pragma_data_version", "GATHER only reads tables"),
    ],
)
def test_what_no_segment_can_answer_is_refused(cluster: Cluster, sql: str, reason: str) -> None:
    """With the reason."""
    with pytest.raises(errors.BadRequest, match=reason):
        cluster.gather(sql)


def test_segments_that_define_an_index_differently_are_refused() -> None:
    """The same words would match other rows."""
    cluster = Cluster()
    cluster.add("a", INDEX, {"f": ROWS["a"]})
    cluster.add("b", INDEX.replace("porter", "ascii"), {"f": ROWS["b"]})
    with pytest.raises(errors.BadSql, match="define this full-text index differently"):
        cluster.gather("SELECT url FROM f WHERE f MATCH 'tree'")


def test_a_conflict_of_another_table_does_not_matter() -> None:
    """A column that segments declare differently is output beside an index."""
    cluster = Cluster()
    cluster.add("a", INDEX + "CREATE TABLE m (k TEXT);", {"f": ROWS["a"], "m": [("1",)]})
    cluster.add("b", INDEX + "CREATE TABLE m (k INTEGER);", {"f": ROWS["b"], "m": [(2,)]})
    sql = "SELECT k, url FROM m, f WHERE f MATCH 'crawl' ORDER BY url"
    assert cluster.gather(sql, within=True) == [("1", "u1"), (2, "u5")]
    with pytest.raises(errors.BadSql, match="column k of table m is TEXT"):
        cluster.gather(sql.replace("WHERE", "WHERE k = 1 AND"), within=True)


def test_a_rowid_of_a_table_that_a_segment_lacks() -> None:
    """It has no rows there, and so no rowids."""
    cluster = Cluster()
    cluster.add("a", TABLE + "CREATE TABLE u (x);", {"t": [(1, "h1")], "u": [(7,)]})
    cluster.add("b", TABLE, {"t": [(1, "h2")]})
    sql = "SELECT host, x FROM t LEFT JOIN u ON u.rowid = t.id ORDER BY host"
    assert cluster.gather(sql, within=True) == [("h1", 7), ("h2", None)]


def test_an_index_that_does_not_work_here_is_refused_with_sqlites_reason() -> None:
    """An option or a tokenizer that a segment's writer had, and this SQLite has not."""
    text = "CREATE VIRTUAL TABLE f USING fts5(a, tokenize='nope')"
    schema = read_schema(json.dumps([["table", "f", text]]))
    assert schema.unusable == {"f": "its definition does not work here: no such tokenizer: nope"}
