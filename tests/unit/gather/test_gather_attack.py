"""Queries written against the planner's seams, over segments that have little in common.

Tables in different order and kind (WITHOUT ROWID, generated columns), names in quotes, of
other scripts and of keywords, views over views, and columns whose declarations differ.
"""

from __future__ import annotations

from typing import Any

import pytest
from gather_support import Cluster, exact_rows, union_of

VIEWS = """
CREATE VIEW v AS SELECT id, name, "group" AS g, flag FROM t WHERE flag IS NOT NULL;
CREATE VIEW vv AS SELECT g, name AS id, id AS name FROM v WHERE name <> 'zz';
CREATE VIEW vg AS SELECT "group" AS g, count(*) AS n, max(id) AS m FROM t GROUP BY "group";
"""
GENERATED = """
CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, "Größe" REAL, big INTEGER, data BLOB,
    "group" TEXT, flag INT, gen INT AS (id * 2), st TEXT AS (name || '!') STORED);
"""
KEYED = """
CREATE TABLE t (name TEXT, id INTEGER NOT NULL, "group" TEXT, flag INT, big INTEGER,
    "Größe" REAL, extra TEXT COLLATE NOCASE, PRIMARY KEY (id, name)) WITHOUT ROWID;
"""
U = "CREATE TABLE u (tid INT, tag TEXT COLLATE NOCASE, w NUMERIC);"
ORDER = 'CREATE TABLE "order" ("select" INT, "from" TEXT);'
J = "CREATE TABLE j (doc TEXT);"
ONE = "CREATE TABLE one (p INT, q TEXT);"
WHOLE = (
    'CREATE TABLE t (id INTEGER, name TEXT, "Größe" REAL, big INTEGER, data BLOB, "group" TEXT,'
    " flag INT, gen INT, st TEXT, extra TEXT COLLATE NOCASE);"
    f"{U}{ORDER}{J}{ONE}{VIEWS}"
)


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """Five segments: generated columns, no rowids, other tables, no rows, nothing."""
    cluster = Cluster()
    others: list[tuple[Any, ...]] = [(1, "A", 10), (3, None, 20), (4, "p", 0.5)]
    texts = [('{"a":[1,2,{"b":null}],"c":"x"}',), ("[3,4]",)]
    rows: dict[str, list[Any]] = {"u": others, '"order"': [(1, "x"), (2, None)], "j": texts}
    cluster.add("a1", GENERATED + U + ORDER + J + VIEWS, rows)
    cluster.segments["a1"].executemany(
        'INSERT INTO t (id, name, "Größe", big, data, "group", flag) VALUES (?, ?, ?, ?, ?, ?, ?)',
        [
            (1, "Ann", 1.5, 2**62, b"\x00\x01", "g1", 1),
            (2, "bob", -2.25, 5, b"", "g2", 0),
            (3, None, None, -(2**62), None, "G1", None),
            (4, "ANN", 0.0, 7, b"abc", None, 2),
        ],
    )
    keyed = [
        ("Zoe", 1, "g1", 1, 2**62 + 1, 3.5, "Ex"),
        ("bob", 5, "g2", 0, None, 1e6, "eX"),
        ("é", 6, "", None, 0, -0.5, None),
    ]
    others = [(1, "p", 1), (1, "P", "2"), (2, "q", 3.5), (None, "p", None), (7, "z", "abc")]
    rows = {"t": keyed, "u": others, "j": [('{"a":5}',), (None,)], "one": [(1, "Ann"), (6, "é")]}
    cluster.add("b2", KEYED + U + J + ONE + VIEWS, rows)
    cluster.add("c3", U + ORDER, {"u": [(5, "é", None)], '"order"': [(3, "y")]})
    cluster.add("d4", GENERATED + U + ORDER + VIEWS, {})
    cluster.add("e5", "", {})
    return cluster


@pytest.fixture(scope="module")
def union(cluster: Cluster) -> Any:
    """One database with all rows, in which generated columns have their values."""
    union = union_of(cluster, WHOLE)
    union.execute("DELETE FROM t")
    for segment in ("a1", "b2"):
        rows = cluster.segments[segment].execute("SELECT * FROM t")
        names = ", ".join(f'"{item[0]}"' for item in rows.description)
        marks = ", ".join("?" * len(rows.description))
        union.executemany(f"INSERT INTO t ({names}) VALUES ({marks})", rows.fetchall())
    return union


#: Over empty tables these fail; over the union they do not.
FAILS_WITHOUT_ROWS: list[tuple[str, Any]] = [
    ("SELECT id FROM t ORDER BY id, name LIMIT (SELECT max(p) FROM one)", None),
    ("SELECT id FROM t ORDER BY 1, name LIMIT (SELECT max(p) FROM one) OFFSET 1 -- end", None),
    ("SELECT id FROM t ORDER BY 1 LIMIT ? + (SELECT min(p) FROM one) OFFSET ?", [1, 2]),
    ("SELECT id FROM t ORDER BY 1 LIMIT (SELECT min(p) FROM one) + :n;", {"n": 2}),
    ("SELECT flag, count(*) FROM t GROUP BY 1 ORDER BY 2, 1 LIMIT (SELECT max(tid) FROM u)", None),
    ("SELECT id FROM t UNION SELECT tid FROM u ORDER BY 1 LIMIT (SELECT max(p) FROM one)", None),
    ("SELECT json_extract(coalesce(max(doc), 'bad'), '$.a') FROM j WHERE doc LIKE '{%'", None),
    ("SELECT json(coalesce((SELECT max(doc) FROM j), 'bad')), count(*) FROM u;", None),
]


@pytest.mark.parametrize(("sql", "parameters"), FAILS_WITHOUT_ROWS)
def test_what_fails_without_rows_is_answered(
    cluster: Cluster, union: Any, sql: str, parameters: Any
) -> None:
    """It is compiled over empty tables, and not judged by what it computes there."""
    expected = [tuple(row) for row in union.execute(sql, parameters or ())]
    assert exact_rows(cluster.gather(sql, parameters), True) == exact_rows(expected, True)


ANSWERED = [
    "SELECT id, name, st, gen FROM t",
    "SELECT sum(gen), max(st), count(st) FROM t",
    "SELECT gen FROM t WHERE gen > 2",
    "SELECT st IS NULL, count(*) FROM t GROUP BY st IS NULL",
    'SELECT "GRÖßE" FROM t',
    """SELECT sum("Größe") AS 'Größe' FROM t""",
    'SELECT "select" + 1 AS "from" FROM "order" ORDER BY "from"',
    """SELECT count(*) AS 'count' FROM "order" GROUP BY 'count'""",
    "SELECT count(DISTINCT extra), count(DISTINCT extra COLLATE BINARY) FROM t",
    "SELECT DISTINCT tag COLLATE BINARY FROM u",
    "SELECT count(*) FROM (SELECT DISTINCT tag FROM u)",
    "SELECT w = '2', w = 2, w < 'abc', w IN ('2', 3.5) FROM u",
    "SELECT name COLLATE NOCASE AS nn, count(*) FROM t GROUP BY nn HAVING lower(nn) = 'ann'",
    "SELECT lower(name), count(*) FROM t GROUP BY name COLLATE NOCASE",
    "SELECT lower(name) AS name, count(*) FROM t GROUP BY (name)",
    "SELECT flag AS id, count(*) FROM t GROUP BY id ORDER BY id",
    "SELECT flag x, count(*) c FROM t GROUP BY 1 HAVING c > 1 AND x IS NOT NULL",
    "SELECT id, name FROM t WHERE name IS NOT NULL ORDER BY -id, name DESC",
    'SELECT id FROM t ORDER BY 1 LIMIT (SELECT count(*) FROM "order")',
    "SELECT id FROM t ORDER BY 1 LIMIT (SELECT max(p) FROM one) OFFSET (SELECT min(p) FROM one)",
    'SELECT min("Größe"), name, flag FROM t',
    'SELECT max("Größe"), "group" FROM t GROUP BY flag',
    "SELECT min(id) AS name, max(big), count(*) FROM t GROUP BY t.name",
    "SELECT string_agg(name, '-' ORDER BY id DESC, name) FROM t WHERE name IS NOT NULL",
    'SELECT "group", group_concat(id ORDER BY id) FROM t GROUP BY "group"',
    "SELECT group_concat(name ORDER BY name) FILTER (WHERE flag = 1) FROM t",
    "SELECT count(*) FILTER (WHERE flag), count(*) FILTER (WHERE flag IS NULL) FROM t",
    "SELECT count(DISTINCT flag) FILTER (WHERE id > 1), sum(DISTINCT flag) FROM t",
    "SELECT id, name, row_number() OVER (ORDER BY id, name) FROM t",
    "SELECT id, lag(id) OVER (ORDER BY id, name) FROM t",
    "SELECT ntile(2) OVER (ORDER BY id, name), id FROM t",
    "SELECT atom FROM j, json_tree(doc, '$.a') WHERE atom IS NOT NULL",
    "SELECT id FROM t WHERE (id, name) IN (SELECT p, q FROM one)",
    "SELECT id FROM t WHERE (id, name) = (SELECT 1, 'Ann')",
    "SELECT id IN (SELECT tid FROM u) FROM t",
    "SELECT id NOT IN (SELECT tid FROM u WHERE tid IS NOT NULL) FROM t",
    "SELECT count(*) FROM t WHERE id NOT IN (SELECT tid FROM u)",
    "SELECT id FROM t WHERE id NOT IN ()",
    "WITH c AS (SELECT tid FROM u) SELECT id FROM t WHERE id IN c",
    "WITH t AS (SELECT 7 AS id) SELECT id FROM t",
    "SELECT count(*) FROM u NATURAL JOIN one",
    "SELECT count(*) FROM t NATURAL JOIN v",
    "SELECT tid, u2.tag FROM u JOIN u AS u2 USING (tid)",
    "SELECT u.tid, t.id FROM u RIGHT JOIN t ON t.id = u.tid",
    "SELECT count(*) FROM t LEFT JOIN one ON one.p = t.id WHERE one.p IS NULL",
    "SELECT id FROM vv WHERE name > 1",
    "SELECT g FROM vg WHERE n > 1",
    'SELECT TRUE, FALSE, "true" FROM t',
    "SELECT id FROM t WHERE true AND NOT false",
    "SELECT name FROM t WHERE name NOT LIKE '%o%' AND name NOT GLOB '*b'",
    r"SELECT name FROM t WHERE st LIKE '%n\!' ESCAPE '\'",
    "SELECT (SELECT count(*) FROM u WHERE u.tid = t.id), id FROM t",
    "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.tid = t.id AND lower(tag) = 'p')",
    "SELECT (SELECT max(id) FROM t) - id FROM t",
    "SELECT id * 1.0 / (SELECT sum(id) FROM t) FROM t",
    "SELECT flag, count(*) * 100 / (SELECT count(*) FROM t) FROM t GROUP BY flag",
    "SELECT id FROM t AS x WHERE id = (SELECT max(id) FROM t AS y WHERE y.flag = x.flag)",
    "SELECT (SELECT x.flag FROM (SELECT 1)) AS f, count(*) FROM t AS x GROUP BY f",
    "SELECT (SELECT count(x.id) FROM one) FROM t AS x",
    "SELECT max((SELECT count(*) FROM u WHERE tid = t.id)) FROM t",
    '''SELECT 'nope', "nope", count(*) FROM t GROUP BY "nope"''',
    "SELECT id FROM t WHERE name LIKE 'a' ESCAPE (SELECT 'x' FROM one LIMIT 1)",
    "SELECT DISTINCT flag FROM t LIMIT (SELECT count(*) FROM t)",
    "SELECT flag, count(*) FROM t GROUP BY flag ORDER BY 2, 1 LIMIT (SELECT max(tid) FROM u)",
    "SELECT flag AS name, name AS flag FROM t ORDER BY name, flag",
    "SELECT id AS a FROM t WHERE a IN (SELECT tid FROM u WHERE tid = a)",
    "SELECT id AS w FROM t GROUP BY w HAVING w > 2",
    "SELECT max(id) AS id FROM t GROUP BY flag HAVING id > 3",
    "SELECT max(id) AS id FROM t GROUP BY flag ORDER BY id + 0",
    "SELECT count(*) AS c FROM t HAVING c > 1",
    "SELECT flag, count(*) AS c FROM t GROUP BY flag HAVING count(*) = c",
    "SELECT flag, (SELECT count(*) FROM u WHERE tid = max(t.id)) FROM t GROUP BY flag",
    "SELECT flag, (SELECT max(t.id) FROM u LIMIT 1) FROM t GROUP BY flag",
    "SELECT flag, count(*) FROM (SELECT * FROM t ORDER BY id LIMIT 4) GROUP BY flag",
    "SELECT * FROM (SELECT id FROM t WHERE id > 1 LIMIT 100) WHERE id < 5",
    "SELECT count(*), sum(id) FROM (SELECT id FROM t UNION SELECT tid FROM u)",
    "SELECT id, count(*) FROM (SELECT id FROM t UNION ALL SELECT tid FROM u) GROUP BY id",
    'SELECT x.id AS "x.id", "x.id" FROM t x',
    'SELECT "x.id" FROM (SELECT x.id AS "x.id" FROM t x)',
    'SELECT `group`, [group], "group", "GROUP" FROM t',
    """SELECT group_concat("select", "from") FROM "order" WHERE "from" = 'x'""",
    '''SELECT 'id', "id" FROM t ORDER BY 'id', "id"''',
    'SELECT flag, count(*) FROM t GROUP BY "flag"',
    "SELECT DISTINCT flag FROM t ORDER BY flag COLLATE NOCASE",
    """SELECT DISTINCT flag, "group" COLLATE NOCASE IN ('g1') FROM t""",
    "SELECT tid, sum(w), avg(w), total(w) FROM u GROUP BY tid",
    "SELECT avg(id), sum(id) / count(*), sum(id) * 1.0 / count(id) FROM t",
    'SELECT sum("Größe"), avg("Größe"), total("Größe") FROM t',
    "SELECT sum(name), avg(name), total(name) FROM t",
    "SELECT count(*) + count(*), -count(*), NOT count(*) FROM t",
    "SELECT NOT count(*) IS 7 FROM t",
    "SELECT (count(*)), ((max(id))), ((1)) FROM t GROUP BY ((flag))",
    "SELECT count(*) BETWEEN 1 AND 10, count(*) IN (7, 8), count(*) LIKE '7' FROM t",
    "SELECT NOT flag IS NULL, NOT flag = 1, -flag IS 1, - flag NOTNULL FROM t",
    "SELECT NOT name LIKE 'A%' AND NOT name GLOB 'b*' OR NOT 1 FROM t",
    "SELECT id BETWEEN 1 AND 3 AND flag, id NOT BETWEEN 2 AND 4 = 1 FROM t",
    "SELECT id IN (1, 2) + 1, id IN (1,2) IS TRUE, id NOT IN (1) NOT IN (1) FROM t",
    "SELECT id IN (1) IN (1), 1 IN (id IN (1)) FROM t",
    "SELECT name COLLATE NOCASE || '' = 'ANN' FROM t",
    "SELECT (name COLLATE NOCASE) IN ('ann'), name IN ('ann' COLLATE NOCASE) FROM t",
    "SELECT max(tag) = 'Z', min(tag) IN ('A') FROM u",
    "SELECT tag FROM u GROUP BY tag HAVING tag = 'Q'",
    "SELECT count(*) FROM u GROUP BY tag HAVING max(tag) = 'P'",
    "SELECT t = 'P' FROM (SELECT DISTINCT tag AS t FROM u)",
    "SELECT t = 'P' FROM (SELECT max(tag) AS t FROM u WHERE tag = 'p')",
    "SELECT id FROM t WHERE name IN (SELECT tag FROM u)",
    "SELECT tag IN (SELECT name FROM t) FROM u",
    "SELECT tid FROM u WHERE tag IN (SELECT 'P' UNION SELECT 'z')",
    "SELECT count(*) FROM t WHERE CAST(id AS TEXT) IN (SELECT tid FROM u)",
    "SELECT count(*) FROM t WHERE id IN (SELECT CAST(tid AS TEXT) FROM u)",
    "SELECT count(*) FROM t WHERE +id IN (SELECT CAST(tid AS TEXT) FROM u)",
    "SELECT (SELECT id FROM t WHERE id = 6) = '6', (SELECT max(id) FROM t) = '6'",
    "SELECT id = '6' FROM (SELECT max(id) AS id FROM t)",
    "SELECT c = '7' FROM (SELECT count(*) AS c FROM t)",
    "SELECT s = '6' FROM (SELECT id AS s, count(*) FROM t GROUP BY id)",
    "SELECT f = '1' FROM (SELECT flag + 0 AS f FROM t)",
    "SELECT f < 'a' FROM (SELECT id AS f FROM t UNION SELECT name FROM t)",
    "WITH a AS (SELECT 1 AS x), b AS (SELECT x + count(*) AS y FROM a, t) SELECT * FROM b",
    "WITH one AS (SELECT 2 AS p) SELECT p, id FROM one, t WHERE id = p",
    "WITH one(p) AS (SELECT 2) SELECT id FROM t WHERE id IN (SELECT p FROM one)",
    "WITH one(p) AS (SELECT 2) SELECT p FROM main.one",
    "SELECT id FROM t WHERE id IN (WITH one(p) AS (SELECT 2) SELECT p FROM one)",
    "SELECT (WITH t AS (SELECT 5 AS id) SELECT id FROM t), count(*) FROM t",
    "SELECT count(*) FROM t AS u, u AS t WHERE u.id = t.tid",
    "SELECT id FROM (t JOIN u ON id = tid)",
    "SELECT t.id, q.z FROM t, (SELECT max(tid) AS z FROM u) AS q WHERE t.id <= q.z",
    "SELECT id, p FROM t LEFT JOIN one ON id = p AND name = q",
    "SELECT count(*) FROM v a JOIN v b USING (id)",
    "SELECT g, n FROM vg NATURAL JOIN (SELECT g FROM v)",
    'SELECT (SELECT n FROM vg WHERE vg.g = t."group") FROM t',
    'SELECT id FROM t WHERE ("group", 1) IN (SELECT g, n FROM vg)',
    "SELECT flag FROM t WHERE (SELECT 1) GROUP BY flag",
    "SELECT id FROM t WHERE (SELECT flag)",
    "SELECT id FROM t WHERE (SELECT flag FROM (SELECT 1) WHERE id > 1)",
    "SELECT (SELECT id FROM t AS i WHERE i.id = o.id LIMIT 1) FROM t AS o",
    "SELECT id, sum(id) OVER (PARTITION BY flag) FROM t",
    "SELECT id, count(*) OVER (ORDER BY id RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM t",
    'SELECT max(id) OVER (), min(name) OVER (PARTITION BY "group" COLLATE NOCASE) FROM t',
    "SELECT percent_rank() OVER (ORDER BY id), cume_dist() OVER (ORDER BY id) FROM t",
    "SELECT flag, max(id), sum(max(id)) OVER (ORDER BY flag) FROM t GROUP BY flag",
    "SELECT lag(id, 1, -1) OVER (ORDER BY id, name) + lead(id) OVER (ORDER BY id, name) FROM t",
    'SELECT "current_date" FROM one',
    """SELECT printf('%d-%s-%q-%.3f-%c', id, name, st, "Größe", name) FROM t""",
    "SELECT id FROM t NOT INDEXED WHERE flag",
    "SELECT value FROM json_each((SELECT doc FROM j WHERE doc LIKE '[%'))",
    "SELECT jsonb(doc), json(jsonb(doc)) FROM j WHERE doc IS NOT NULL",
    "SELECT typeof(x) FROM (SELECT max(id) AS x FROM t UNION ALL SELECT avg(id) FROM t)",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM t WHERE id = 5)",
    "SELECT count(*) FROM (SELECT * FROM t, u)",
    'SELECT "id:1" FROM (SELECT * FROM t a, t b WHERE a.id = 6 AND b.id = 5)',
]


@pytest.mark.parametrize("sql", ANSWERED)
def test_the_answer_is_that_of_the_union(cluster: Cluster, union: Any, sql: str) -> None:
    """None of these is refused."""
    expected = [tuple(row) for row in union.execute(sql)]
    assert exact_rows(cluster.gather(sql), False) == exact_rows(expected, False)
