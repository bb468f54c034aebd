"""GATHER against SQLite, query by query: what people write, and what is nasty about it.

Beside the queries that Hypothesis makes up. Each is answered as SQLite answers it over one
database with all rows, or refused with a reason that is checked as well.
"""

from __future__ import annotations

from typing import Any

import pytest
from gather_support import Cluster

from trough import errors
from trough.gather import sqlite_helpers

CRAWLED = (
    "CREATE TABLE crawled (id INTEGER{key}, url TEXT, host TEXT COLLATE NOCASE, status INTEGER,"
    ' size, secs REAL, at TEXT, "count" INTEGER, "select" TEXT, "we ird" NUMERIC, body BLOB,'
    " js TEXT{more});"
)
SEEDS = "CREATE TABLE seeds (seed TEXT, prio INTEGER{more});"
VIEW = "CREATE VIEW bad AS SELECT host, status FROM crawled WHERE status >= 400;"
WHOLE = CRAWLED.format(key=" PRIMARY KEY", more="") + SEEDS.format(more="") + VIEW
LACKING = (
    "CREATE TABLE crawled (host TEXT COLLATE NOCASE, id INTEGER PRIMARY KEY, status INTEGER, url"
    ' TEXT, size, "count" INTEGER);' + SEEDS.format(more="")
)


def crawled(number: int) -> list[tuple[Any, ...]]:
    """Rows of one segment; no two rows of all segments have the same url."""
    rows: list[tuple[Any, ...]] = []
    for row in range(12):
        place = number * 12 + row
        rows.append(
            (
                row + 1,
                f"http://h{place % 5}.example/{place:03}?q=%{row}_x",
                ("H0.example", "h0.EXAMPLE", "h1.example", None, "é.example")[place % 5],
                (200, 404, None, 301, 200, -9998)[place % 6],
                (place * 7, f"{place}", None, place / 4, b"\x00x")[row % 5],
                None if row % 4 == 3 else place * 0.125,
                f"2026-0{1 + place % 9}-{1 + place % 28:02}T0{row % 10}:00:00Z",
                row % 3,
                ("a", "B", "", None)[place % 4],
                ("1", "1.0", "x", 10**15 + place, None)[place % 5],
                None if row % 2 else bytes([place, 0]),
                f'{{"k": {place}, "tags": ["t{place % 3}", null], "n": {{"x": "y"}}}}',
            )
        )
    return rows


SEED_ROWS = [("http://h0.example/", 1), ("http://h1.example/", None), ("x'y\"z", 2)]


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """Two segments that are alike, one without rows, one with one table, one that lacks
    columns, and one with nothing."""
    cluster = Cluster()
    cluster.add("s1", WHOLE, {"crawled": crawled(0), "seeds": SEED_ROWS})
    cluster.add("s2", WHOLE, {"crawled": crawled(1), "seeds": SEED_ROWS[:1]})
    cluster.add("s3", WHOLE, {})
    cluster.add("s4", SEEDS.format(more=""), {"seeds": [(None, 3)]})
    lacking = [(row[2], row[0], row[3], row[1], row[4], row[7]) for row in crawled(2)]
    cluster.add("s5", LACKING, {"crawled": lacking})
    cluster.add("s6", "", {})
    return cluster


def union_of(cluster: Cluster, with_segment: bool) -> Any:
    """One SQLite database with all rows."""
    more = ", _segment TEXT" if with_segment else ""
    connection = sqlite_helpers.connect()
    connection.executescript(CRAWLED.format(key="", more=more) + SEEDS.format(more=more) + VIEW)
    for segment, source in cluster.segments.items():
        for table in ("crawled", "seeds"):
            known = [row[1] for row in source.execute(f"PRAGMA table_info({table})")]
            if not known:
                continue
            names = ", ".join(f'"{name}"' for name in known)
            for row in source.execute(f"SELECT {names} FROM {table}").fetchall():
                values = (*row, segment) if with_segment else row
                columns = f"{names}, _segment" if with_segment else names
                marks = ", ".join("?" * len(values))
                connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)
    return connection


ANSWERED = [
    # aggregates, nested in expressions
    "SELECT count(*), count(size), count(secs), count(DISTINCT host) FROM crawled",
    "SELECT max(status) - min(status), sum(status) * 1.0 / count(status) FROM crawled",
    "SELECT abs(sum(status)) || '/' || round(avg(secs), 3) FROM crawled",
    "SELECT CASE WHEN count(*) > 30 THEN 'many' WHEN sum(1) IS NULL THEN 'x' END FROM crawled",
    "SELECT sum(CASE WHEN status = 200 THEN 1 ELSE 0 END), sum(status = 200) FROM crawled",
    "SELECT sum(size), total(size), avg(size), max(size), min(size) FROM crawled",
    'SELECT sum("we ird"), max("we ird"), min("we ird") FROM crawled',
    "SELECT count(*) FILTER (WHERE status = 404), sum(secs) FILTER (WHERE 0) FROM crawled",
    "SELECT coalesce(sum(secs), 0), ifnull(max(js), 'none') FROM crawled WHERE 0",
    "SELECT count(*), max(id), sum(id), total(id), avg(id) FROM crawled WHERE id > 1000",
    "SELECT max(1, 2), min('a', 'b'), max(NULL, 1)",
    'SELECT max(id, "count") AS m, count(*) FROM crawled GROUP BY m ORDER BY m',
    "SELECT max(max(id), max(status)), min(min(id), 5) FROM crawled",
    "SELECT sum(DISTINCT status), avg(DISTINCT id), count(DISTINCT lower(host)) FROM crawled",
    'SELECT count(DISTINCT size), count(DISTINCT "we ird"), total(DISTINCT id) FROM crawled',
    "SELECT count(), count(NULL), sum(NULL), max(NULL) FROM crawled",
    "SELECT count(*) FROM crawled HAVING sum(id) < 0",
    "SELECT max(id), 7 FROM crawled HAVING 0",
    # groups
    "SELECT host, count(*) FROM crawled GROUP BY host COLLATE BINARY ORDER BY host COLLATE BINARY",
    "SELECT lower(host) AS h, count(*) FROM crawled GROUP BY h ORDER BY h DESC NULLS FIRST",
    "SELECT upper(host), count(*) FROM crawled GROUP BY 1 ORDER BY 2, 1",
    "SELECT status / 100 AS class, count(*), min(url) FROM crawled GROUP BY class ORDER BY class",
    "SELECT status AS host, count(*) FROM crawled GROUP BY status ORDER BY 1",
    "SELECT substr(at, 1, 7) AS month, sum(secs) FROM crawled GROUP BY month ORDER BY month",
    "SELECT strftime('%Y-%m', at) m, count(*) n FROM crawled GROUP BY 1 HAVING n > 3 ORDER BY 1",
    "SELECT typeof(size), count(*), sum(size) FROM crawled GROUP BY typeof(size) ORDER BY 1",
    "SELECT size, count(*) FROM crawled GROUP BY size ORDER BY typeof(size), size",
    'SELECT "we ird", count(*) FROM crawled GROUP BY "we ird" ORDER BY 1 NULLS LAST',
    'SELECT status, "count", count(*) FROM crawled GROUP BY 1, "count" ORDER BY 1, 2',
    "SELECT status IS NULL, count(*) FROM crawled GROUP BY status IS NULL ORDER BY 1",
    "SELECT count(*) AS n FROM crawled GROUP BY status HAVING n > 5 ORDER BY n, min(url)",
    "SELECT status FROM crawled GROUP BY status HAVING max(secs) > 1 AND status > 0 ORDER BY 1",
    "SELECT DISTINCT count(*) FROM crawled GROUP BY host ORDER BY 1",
    "SELECT status, max(id) FROM crawled GROUP BY status ORDER BY max(id) DESC, status LIMIT 2",
    "SELECT count(*) FROM crawled GROUP BY NULL",
    "SELECT 0, count(*) FROM crawled GROUP BY 1",
    "SELECT 'a', 3, max(id) FROM crawled GROUP BY 1, 2",
    "SELECT -1, count(*) FROM crawled GROUP BY 1, likely(1)",
    "SELECT count(DISTINCT 0x10), sum(DISTINCT 7) FROM crawled GROUP BY host ORDER BY host",
    "SELECT 5, 2 COLLATE NOCASE, max(url) FROM crawled WHERE 0 GROUP BY 1, 2",
    "SELECT count(*) FROM crawled WHERE 0 GROUP BY status",
    "SELECT status, count(*) FROM crawled GROUP BY +status ORDER BY -status, status",
    "SELECT substr(url, 1, 9) u, max(secs), url FROM crawled GROUP BY u ORDER BY u",
    "SELECT url, min(secs) FROM crawled WHERE secs IS NOT NULL",
    "SELECT max(at), url, host FROM crawled WHERE at LIKE '2026-03%'",
    "SELECT count(*) FROM (SELECT DISTINCT host FROM crawled)",
    "SELECT n, count(*) FROM (SELECT count(*) n FROM crawled GROUP BY host) GROUP BY n ORDER BY n",
    # text
    "SELECT url FROM crawled WHERE url LIKE '%\\%1\\_x' ESCAPE '\\' ORDER BY url",
    "SELECT count(*) FROM crawled WHERE url GLOB 'http://h[01]*' AND host LIKE 'H0%'",
    "SELECT url FROM crawled WHERE host = 'H0.EXAMPLE' ORDER BY url",
    "SELECT url FROM crawled WHERE host COLLATE BINARY = 'H0.example' ORDER BY url",
    "SELECT DISTINCT host FROM crawled ORDER BY host COLLATE BINARY LIMIT 1",
    "SELECT host IN ('H0.EXAMPLE', 'x') AS known, count(*) FROM crawled GROUP BY known ORDER BY 1",
    "SELECT count(*) FROM crawled WHERE host BETWEEN 'H0' AND 'H1'",
    "SELECT printf('%05d|%-8s|%.2f', id, \"select\", secs) FROM crawled ORDER BY url LIMIT 5",
    "SELECT format('%s', max(url)), hex(max(body)), quote(min(js)) FROM crawled",
    "SELECT trim(\"select\") || x'41', instr(url, '?'), replace(url, 'http', 'x') FROM crawled"
    " ORDER BY url DESC LIMIT 3",
    "SELECT length(url), unicode(host), char(955) FROM crawled ORDER BY url LIMIT 3",
    "SELECT group_concat(host, '; ') FROM (SELECT DISTINCT host FROM crawled ORDER BY 1)",
    "SELECT group_concat(url, ' ' ORDER BY url DESC) FROM crawled WHERE id < 3",
    "SELECT status, group_concat(id, ',' ORDER BY url) FROM crawled GROUP BY 1 ORDER BY 1",
    "SELECT length(group_concat(url, ', ')), length(string_agg(url, '')) FROM crawled",
    # time
    "SELECT date(at), time(at), datetime(at, '+1 day', 'start of month') FROM crawled ORDER BY url",
    "SELECT strftime('%s', max(at)) - strftime('%s', min(at)) FROM crawled",
    "SELECT julianday(at) AS j FROM crawled ORDER BY j, url LIMIT 4",
    "SELECT date('2026-01-31', '+1 month'), unixepoch('2026-01-01')",
    "SELECT count(*) FROM crawled WHERE at < datetime('now')",
    "SELECT count(*) FROM crawled WHERE date(at) BETWEEN '2026-02-01' AND '2026-04-30'",
    # order, limit, distinct
    "SELECT url, secs FROM crawled ORDER BY secs NULLS LAST, url LIMIT 7 OFFSET 3",
    "SELECT url FROM crawled ORDER BY status DESC NULLS LAST, host COLLATE NOCASE, url LIMIT 9",
    "SELECT status FROM crawled ORDER BY status LIMIT 10 OFFSET 5",
    "SELECT status FROM crawled ORDER BY 1 DESC LIMIT 5, 10",
    "SELECT url FROM crawled ORDER BY length(url), substr(url, -6) DESC, url LIMIT 3",
    "SELECT size FROM crawled ORDER BY size, url LIMIT 20",
    'SELECT id AS "count" FROM crawled ORDER BY "count", url LIMIT 3',
    "SELECT -id AS id, url FROM crawled ORDER BY id, url LIMIT 3",
    "SELECT -id AS x FROM crawled ORDER BY abs(x), url LIMIT 3",
    'SELECT DISTINCT "count", status FROM crawled ORDER BY 2, 1 LIMIT 6 OFFSET 1',
    "SELECT DISTINCT host COLLATE BINARY FROM crawled ORDER BY 1",
    "SELECT DISTINCT size IS NULL, typeof(size) FROM crawled ORDER BY 2",
    "SELECT url FROM crawled ORDER BY url LIMIT 0",
    "SELECT url FROM crawled ORDER BY url LIMIT -1 OFFSET 30",
    "SELECT url FROM crawled ORDER BY url LIMIT 9223372036854775807 OFFSET 30",
    "SELECT count(*) FROM crawled GROUP BY host LIMIT 9223372036854775807 OFFSET 5",
    "SELECT 1 FROM crawled LIMIT 9223372036854775807 OFFSET 9223372036854775807",
    "SELECT url FROM crawled ORDER BY url LIMIT 2 + 1 OFFSET 1 * 2",
    "SELECT url FROM crawled ORDER BY random() LIMIT 0",
    "SELECT count(*) FROM (SELECT 1 FROM crawled ORDER BY random() LIMIT 5)",
    "SELECT count(*) FROM (SELECT url FROM crawled LIMIT 7 OFFSET 2)",
    # compounds, WITH, VALUES, subqueries
    "SELECT host FROM crawled UNION SELECT seed FROM seeds ORDER BY 1",
    "SELECT id FROM crawled UNION ALL SELECT prio FROM seeds ORDER BY 1 LIMIT 8",
    "SELECT status FROM crawled EXCEPT SELECT 200 ORDER BY 1",
    "SELECT id FROM crawled INTERSECT SELECT prio FROM seeds ORDER BY 1 DESC",
    "VALUES (1, 'a'), (2, NULL)",
    "SELECT * FROM (VALUES (1), (2)) JOIN (SELECT max(id) FROM crawled) ORDER BY 1",
    "WITH n(host, c) AS (SELECT host, count(*) FROM crawled GROUP BY 1)"
    " SELECT * FROM n WHERE c > 3 ORDER BY c, 1",
    "WITH RECURSIVE d(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM d WHERE x < 4)"
    " SELECT x, count(c.id) FROM d LEFT JOIN crawled c ON c.id = d.x GROUP BY x ORDER BY x",
    "WITH crawled AS (SELECT 1 AS id) SELECT count(*), max(id) FROM crawled",
    "WITH a AS MATERIALIZED (SELECT max(secs) m FROM crawled) SELECT url FROM crawled, a"
    " WHERE secs = m",
    "SELECT url FROM crawled WHERE secs = (SELECT max(secs) FROM crawled)",
    "SELECT seed, (SELECT count(*) FROM crawled WHERE url LIKE seed || '%') FROM seeds"
    " ORDER BY seed, prio",
    "SELECT count(*) FROM crawled WHERE status IN (SELECT prio * 200 FROM seeds)",
    "SELECT count(*) FROM crawled a WHERE EXISTS (SELECT 1 FROM crawled b WHERE b.id = a.id"
    " AND b.url > a.url)",
    "SELECT count(*) FROM crawled c JOIN seeds s ON c.url LIKE s.seed || '%' WHERE prio = 1",
    "SELECT count(*), count(s.seed) FROM crawled c LEFT JOIN seeds s ON c.id = s.prio",
    "SELECT count(*) FROM crawled a JOIN crawled b USING (id) WHERE a.url <> b.url",
    "SELECT count(*) FROM crawled NATURAL JOIN (SELECT 5 AS id)",
    "SELECT a.id, b.seed FROM crawled a, seeds b WHERE a.id = b.prio ORDER BY 1, 2, a.url",
    "SELECT count(*) FROM seeds s RIGHT JOIN crawled c ON s.prio = c.id",
    "SELECT * FROM seeds ORDER BY prio DESC, seed LIMIT 2",
    "SELECT * FROM crawled ORDER BY url LIMIT 3 OFFSET 30",
    "SELECT c.*, 1 FROM crawled c WHERE id = 5 ORDER BY url",
    "SELECT count(*), max(status) FROM bad",
    "SELECT host, count(*) FROM bad GROUP BY 1 ORDER BY 1, 2",
    # windows
    "SELECT url, row_number() OVER (ORDER BY url) FROM crawled ORDER BY url LIMIT 4",
    "SELECT status, sum(id) OVER (PARTITION BY status ORDER BY url) s FROM crawled ORDER BY 1, 2",
    "SELECT url, lag(url) OVER w, first_value(id) OVER w FROM crawled WINDOW w AS (ORDER BY url)"
    " ORDER BY url LIMIT 4",
    "SELECT url FROM (SELECT url, rank() OVER (PARTITION BY status ORDER BY secs DESC, url) r"
    " FROM crawled) WHERE r = 1 ORDER BY url",
    "SELECT status, count(*), rank() OVER (ORDER BY count(*) DESC, status) FROM crawled"
    " GROUP BY status ORDER BY 3",
    "SELECT url, sum(id) OVER (ORDER BY url ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM crawled"
    " ORDER BY url",
    # JSON
    "SELECT js ->> '$.k', js -> '$.tags', json_extract(js, '$.n.x') FROM crawled ORDER BY url",
    "SELECT json_extract(js, '$.tags[0]') t, count(*), sum(js ->> 'k') FROM crawled GROUP BY t"
    " ORDER BY t",
    "SELECT max(json_array_length(js, '$.tags')), count(json_type(js, '$.tags[1]')) FROM crawled",
    "SELECT json_group_array(id ORDER BY url) FROM crawled WHERE id < 3",
    "SELECT json_object('n', count(*), 'm', max(id)) FROM crawled",
    "SELECT json_array(max(json_array(id)), min(DISTINCT js -> '$.tags')) FROM crawled",
    "SELECT json_object('s', (json_array(status))), count(*) FROM crawled"
    " GROUP BY json_array(status) ORDER BY 1",
    "SELECT max(js -> '$.n'), coalesce(min(json_array(id)), 'none') FROM crawled",
    "SELECT subtype(max(json(js))), json_array(count(json(js)), sum(js ->> 'k')) FROM crawled",
    "SELECT value, count(*) FROM crawled, json_each(crawled.js, '$.tags') GROUP BY 1 ORDER BY 1",
    "SELECT count(*) FROM crawled WHERE json_valid(js) AND js ->> '$.k' % 2 = 0",
    # names
    'SELECT "select", count(*) FROM crawled GROUP BY "select" ORDER BY 1',
    'SELECT [we ird], `count`, crawled."select" FROM crawled ORDER BY url LIMIT 4',
    'SELECT max("count"), count("count"), "count" + 1 FROM crawled WHERE "count" = 2',
    'SELECT "count" FROM crawled WHERE "count" = 1 AND "nothing" = \'nothing\'',
    "SELECT CRAWLED.ID, Url FROM Crawled WHERE ID = 3 ORDER BY URL",
    "SELECT 'it''s', \"we ird\" AS 'a b', count(*) \"n \"\" m\" FROM crawled GROUP BY 2 ORDER BY 2",
    "SELECT c.id FROM main.crawled AS c WHERE c.id < 2 ORDER BY c.url",
    # IN over texts makes a text of an aggregate on its left, for the rest of that SELECT
    "SELECT n, typeof(n) FROM (SELECT status, count(*) AS n FROM crawled GROUP BY status)"
    " WHERE n IN (SELECT CAST(id AS TEXT) FROM crawled) ORDER BY n",
    "WITH v AS (SELECT status, count(*) AS n FROM crawled GROUP BY status)"
    " SELECT n = 12, n IN (6, 7, 8) FROM v WHERE n IN (SELECT CAST(id AS TEXT) FROM crawled)",
    "SELECT typeof(m) FROM (SELECT max(id) AS m FROM crawled GROUP BY status) q"
    " WHERE (m) COLLATE NOCASE IN (SELECT CAST(id AS TEXT) FROM crawled)",
    "SELECT typeof(count(*)) FROM crawled GROUP BY status"
    " HAVING count(*) IN (SELECT CAST(id AS TEXT) FROM crawled)",
    "SELECT max(id) IN (SELECT CAST(id AS TEXT) FROM crawled), typeof(max(id)) FROM crawled",
    "SELECT typeof(s), s IN (SELECT CAST(status AS TEXT) FROM crawled), typeof(s) FROM"
    " (SELECT +status AS s FROM crawled GROUP BY 1) WHERE s IN (SELECT CAST(status AS TEXT) FROM"
    " crawled)",
    "SELECT (SELECT max(id) FROM crawled) IN (SELECT CAST(id AS TEXT) FROM crawled) FROM seeds",
    "SELECT n, typeof(n) FROM (SELECT count(*) AS n FROM crawled GROUP BY host)"
    " WHERE n NOT IN (SELECT CAST(id AS TEXT) || 'x' FROM crawled) ORDER BY n",
    "SELECT n, typeof(n), typeof(k) FROM (SELECT count(*) AS n, max(id) AS k FROM crawled GROUP BY"
    " host) WHERE (n, k) IN (SELECT CAST(status AS TEXT), CAST(id AS TEXT) FROM crawled) OR 1",
    # SQLite makes a number of these terms, and that is a place in GROUP BY
    "SELECT host, count(DISTINCT 0 AND status), count(*) FROM crawled GROUP BY host",
    "SELECT count(DISTINCT (0 AND status) IS NULL), count(*), count(DISTINCT status AND 0) FROM"
    " crawled",
    "SELECT status, count(*), sum(DISTINCT (0 AND id) COLLATE NOCASE), count(DISTINCT id BETWEEN 1"
    " AND 0 AND 0) FROM crawled GROUP BY status",
    "SELECT count(DISTINCT NOT (0 AND id)), count(DISTINCT 1 OR id), min(id), host IS NULL FROM"
    " crawled GROUP BY host IS NULL ORDER BY 3",
    "SELECT count(DISTINCT -(0 AND id)), count(DISTINCT (0 AND id) NOT NULL), count(*) FROM"
    " crawled",
    "SELECT host, count(DISTINCT +(id = 1 AND 0)), max(id) FROM crawled GROUP BY host",
    # operators, types, NULL
    "SELECT count(*) FROM crawled WHERE NOT (status = 200 OR status IS NULL) AND secs IS NOT 0",
    "SELECT count(*) FROM crawled WHERE status IS DISTINCT FROM 200",
    "SELECT count(*) FROM crawled WHERE size = '7' OR size = 7 OR size > x'00'",
    'SELECT count(*) FROM crawled WHERE "we ird" = 1 AND "we ird" = \'1.0\'',
    "SELECT sum(id) % 7, sum(id) / 0, sum(id) << 2, ~max(id), -min(id) FROM crawled",
    "SELECT id BETWEEN 2 AND 4 < 1, count(*) FROM crawled GROUP BY 1 ORDER BY 1",
    "SELECT CAST(max(url) AS INTEGER), CAST(sum(id) AS TEXT) || 'x', typeof(avg(id)) FROM crawled",
    "SELECT (status, id) > (200, 5), count(*) FROM crawled GROUP BY 1 ORDER BY 1",
    "SELECT iif(status > 300, 'bad', 'ok') s, count(*) FROM crawled GROUP BY s ORDER BY s",
    "SELECT status, sum(secs) > 10 AS much FROM crawled GROUP BY status HAVING much ORDER BY 1",
    "SELECT count(*) FROM crawled WHERE host IS NULL OR host NOT IN ('h1.example', NULL)",
    "SELECT count(*) FROM crawled WHERE body = x'0000' OR hex(body) LIKE '0_00'",
    "SELECT 9223372036854775807 + 0, max(id) + 9223372036854775807 FROM crawled",
    "SELECT 0x10, 1e3, .5, 1_000 FROM crawled LIMIT 1",
    "SELECT max(secs) = 4.375, sum(secs) = total(secs), avg(secs) FROM crawled",
    "SELECT -- a comment; with a semicolon\n count(*) /* and ' another */ FROM crawled;",
    # sums, and what is compared how
    "SELECT host, min(secs), max(secs) FROM crawled GROUP BY host ORDER BY 1,2",
    "SELECT host, count(*) FROM crawled GROUP BY host HAVING host = 'H0.EXAMPLE'",
    "SELECT id AS status, count(*) FROM crawled GROUP BY status ORDER BY 1",
    "SELECT id AS status FROM crawled WHERE status = 200 ORDER BY status, url LIMIT 4",
    "SELECT id+0 AS status, max(url) FROM crawled GROUP BY crawled.status ORDER BY 2",
    "SELECT -max(id) AS id FROM crawled GROUP BY status ORDER BY id, max(url)",
    "SELECT status, count(*) c FROM crawled GROUP BY status ORDER BY c*-1, status",
    "SELECT sum(9223372036854775807 * (id % 2 * 2 - 1)) FROM crawled WHERE id < 3",
    "SELECT avg(9223372036854775807) FROM crawled",
    "SELECT sum(1e308) FROM crawled",
    "SELECT sum(0.1), avg(0.1), total(0.1) FROM crawled",
    "SELECT 7 / avg(id), 100 - avg(id) * 2, avg(id) || 'x', 9 % avg(id), -avg(id) FROM crawled",
    "SELECT host FROM crawled GROUP BY host HAVING 30 / avg(id) > 4 ORDER BY 6 / avg(id), host",
    "SELECT sum(id * 1e15 + 0.3) FROM crawled",
    "SELECT sum(1e999), avg(-1e999), max(1e999) FROM crawled",
    "SELECT sum(CASE WHEN id=1 THEN 1e999 WHEN id=2 THEN -1e999 END) FROM crawled",
    "SELECT sum(js), sum(url), sum(body), avg(url) FROM crawled",
    "SELECT sum('12abc'), sum(x'3132'), avg(' 7 ') FROM crawled",
    "SELECT max(size), typeof(max(size)) FROM crawled GROUP BY status ORDER BY status",
    "SELECT 5 IN (SELECT id FROM crawled)",
    "SELECT a.url FROM crawled a LEFT JOIN crawled b ON a.url < b.url WHERE b.url IS NULL",
    "SELECT count(*) FROM crawled NOT INDEXED",
    "SELECT status, avg(count(*)) OVER () FROM crawled GROUP BY status ORDER BY status",
    "SELECT key, count(*) FROM crawled c, json_each(c.js) GROUP BY key ORDER BY 1",
    "SELECT url FROM crawled WHERE (status, id) IN (VALUES (404, 2)) ORDER BY 1",
    "SELECT max(host) = 'h1.EXAMPLE' FROM crawled",
    "SELECT lower(max(host)) = max(host) FROM crawled",
    "SELECT host || '' = 'H0.example', count(*) FROM crawled GROUP BY 1 ORDER BY 1",
    "SELECT CAST(host AS TEXT) = 'H0.EXAMPLE', count(*) FROM crawled GROUP BY 1 ORDER BY 1",
    "SELECT \"we ird\" = '1', count(*) FROM crawled GROUP BY 1 ORDER BY 1",
    "SELECT max(status) = '404', min(size) > '5', count(*) = '36' FROM crawled",
    "SELECT status = '404' s, count(*) FROM crawled GROUP BY status HAVING status = '404'",
    "SELECT status || '' FROM crawled GROUP BY status HAVING max(id) > '9' ORDER BY 1",
    "SELECT status FROM crawled GROUP BY 1 HAVING status IN ('404', '200') ORDER BY 1",
    'SELECT sum(id) AS "sum(id)", count(*) AS count FROM crawled WHERE count = 1',
    "SELECT DISTINCT status FROM crawled WHERE host LIKE 'h%' ORDER BY status + 0 LIMIT 3",
    "SELECT ALL status FROM crawled ORDER BY url LIMIT 3",
    "SELECT id FROM crawled LIMIT (SELECT 0)",
    "SELECT nullif(max(status), 404), coalesce(NULL, min(secs)) FROM crawled",
    "SELECT CASE max(host) WHEN 'H1.EXAMPLE' THEN 1 ELSE 0 END FROM crawled",
    "SELECT count(*) FROM crawled WHERE at IS NOT NULL ISNULL",
    "SELECT string_agg(status, '-' ORDER BY url) FROM crawled",
    "SELECT count(*) * 100.0 / (SELECT count(*) FROM crawled) FROM crawled WHERE status = 200",
    "SELECT x.h, y.n FROM (SELECT DISTINCT lower(host) h FROM crawled) x JOIN (SELECT"
    " lower(host) h, count(*) n FROM crawled GROUP BY 1) y USING (h) ORDER BY 1",
    # segments
    "SELECT url AS _segment FROM crawled ORDER BY 1 LIMIT 2",
    "SELECT _segment AS host, count(*) FROM crawled GROUP BY host ORDER BY 1",
    "SELECT _segment s, max(id) FROM crawled GROUP BY s HAVING s > 's1' ORDER BY s",
    "SELECT upper(_segment), count(*) FROM crawled GROUP BY _segment ORDER BY 1",
    'SELECT _SEGMENT, "_segment", crawled._segment FROM crawled ORDER BY url LIMIT 1',
    "SELECT * FROM crawled WHERE _segment = 's9'",
    "SELECT count(*) FROM crawled WHERE _segment = 's9'",
    "SELECT _segment, count(*) FROM crawled GROUP BY _segment ORDER BY 1",
    "SELECT _segment, max(url), id FROM crawled GROUP BY 1 ORDER BY 1 DESC",
    "SELECT count(DISTINCT _segment) FROM crawled",
    "SELECT _segment, url FROM crawled WHERE id = 1 ORDER BY _segment",
    "SELECT count(*) FROM crawled WHERE _segment IN ('s1', 's5') AND status = 200",
    "SELECT count(*) FROM crawled WHERE _segment = 's6' OR _segment LIKE 's2'",
    "SELECT count(*) FROM crawled a JOIN seeds b ON a._segment = b._segment",
    "SELECT _segment || '/' || host h, count(*) FROM crawled GROUP BY h ORDER BY h",
    "SELECT max(_segment), min(_segment) FROM seeds",
]

REFUSED = {
    "SELECT rowid FROM crawled": "rowid",
    "SELECT _rowid_, oid FROM seeds": "rowid",
    "SELECT url FROM crawled ORDER BY rowid": "rowid",
    "SELECT hots FROM crawled": "no such column: hots",
    "SELECT 1 FROM crawled HAVING count(*) > 5": "HAVING clause on a non-aggregate query",
    "SELECT * FROM nowhere": "no such table: nowhere",
    "SELECT count(* FROM crawled": "syntax error",
    "SELECT 1; SELECT 2": "one statement",
    "DELETE FROM crawled": "only reads",
    "SELECT name FROM sqlite_master": "each segment's own",
    "PRAGMA table_info(crawled)": "reads",
    "ATTACH 'x' AS y": "reads",
    "SELECT load_extension('x')": "load_extension",
    "SELECT max(count(*)) FROM crawled": "misuse of aggregate",
    "SELECT count(*) FROM crawled WHERE count(*) > 1": "misuse of aggregate",
    "SELECT url FROM crawled ORDER BY 3": "ORDER BY term out of range",
    "SELECT *, _segment FROM crawled JOIN seeds": "_segment",
    "SELECT regexp_like(url, 'x') FROM crawled": "no such function",
    "EXPLAIN SELECT 1": "EXPLAIN",
    "": "none",
    "SELECT count(*) FROM crawled WHERE json(_segment) IS NULL": "malformed JSON",
}


def told(rows: list[tuple[Any, ...]], sql: str) -> list[str]:
    """Rows, comparable by value and type; in their order where the query says one."""
    shown = [repr(tuple(row)) for row in rows]
    return shown if "ORDER BY" in sql else sorted(shown)


@pytest.mark.parametrize("sql", ANSWERED)
def test_the_answer_is_sqlites(cluster: Cluster, sql: str) -> None:
    """Value by value, type by type."""
    expected = union_of(cluster, "_segment" in sql.lower()).execute(sql).fetchall()
    assert told(cluster.gather(sql, now=1_800_000_000.0), sql) == told(expected, sql)


@pytest.mark.parametrize("sql", REFUSED)
def test_what_has_no_answer_is_refused_with_the_reason(cluster: Cluster, sql: str) -> None:
    """Nothing is answered by guessing."""
    with pytest.raises(errors.BadRequest) as refusal:
        cluster.gather(sql)
    assert REFUSED[sql] in str(refusal.value)
