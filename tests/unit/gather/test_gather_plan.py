"""What GATHER pushes down, what it ships, and what it refuses with which reason."""

from __future__ import annotations

import json
import pickle
import sys
from typing import Any

import pytest

from trough import errors
from trough.gather import GatherPlan, plan, read_schema, unite
from trough.gather.dialect import write
from trough.gather.normal_form import normal_form
from trough.gather.scopes import Unresolved
from trough.gather.segment_sql import SegmentQuery
from trough.gather.union_database import UnionDatabase

CRAWLED = (
    "CREATE TABLE crawled_url (id INTEGER PRIMARY KEY, url TEXT, host TEXT COLLATE NOCASE, "
    "status_code INTEGER, size BIGINT, seconds REAL)"
)
HOSTS = "CREATE TABLE hosts (host TEXT, owner TEXT)"
VIEW = "CREATE VIEW good AS SELECT * FROM crawled_url WHERE status_code = 200"


def schema(*texts: str) -> Any:
    """A segment's schema, from the texts that create it."""
    objects = []
    for text in texts:
        _, kind, name, *_ = text.replace("(", " ").replace("VIRTUAL ", "").split()
        objects.append([kind.lower(), name, text])
    return read_schema(json.dumps(objects))


ENDLESS = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r)"
UNION = unite([schema(CRAWLED, HOSTS, VIEW)])


def planned(sql: str, *parameters: Any, **options: Any) -> GatherPlan:
    return plan(sql, UNION, parameters=parameters, **options)


def asked(one: GatherPlan) -> SegmentQuery:
    """What a segment runs that has all tables and columns."""
    ask = one.ask(UNION, one.starts_exact)
    assert ask is not None and ask.sql.endswith(f"({ask.core})")
    return ask


def core(sql: str, **options: Any) -> str:
    """What a segment runs, behind the guard."""
    return asked(planned(sql, **options)).core


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT * FROM crawled_url", "plain"),
        ("SELECT url, size * 2 FROM crawled_url WHERE size > 3 LIMIT 5 OFFSET 2", "plain"),
        ("SELECT _segment, url FROM crawled_url", "plain"),
        ("SELECT url FROM crawled_url ORDER BY size DESC NULLS LAST LIMIT 3", "divided"),
        ("SELECT DISTINCT host FROM crawled_url", "divided"),
        ("SELECT host, avg(size) FROM crawled_url GROUP BY 1 HAVING count(*) > 2", "divided"),
        ("SELECT count(DISTINCT host) FROM crawled_url", "divided"),
        ("SELECT host, max(size), url FROM crawled_url GROUP BY host", "divided"),
        ("SELECT seedcrawledstatus(status_code) FROM crawled_url WHERE url REGEXP '^h'", "plain"),
        ("SELECT size * 2 AS x FROM crawled_url WHERE x > 3 OR x IS NULL", "plain"),
        ("SELECT value, count(*) FROM crawled_url, json_each(url) GROUP BY value", "divided"),
        ("SELECT 1 FROM crawled_url RIGHT JOIN json_each('[1, 2]')", "shipped"),
        ("SELECT value FROM json_each('[1, 2]')", "alone"),
        ("SELECT host, min(size), max(size), url FROM crawled_url GROUP BY host", "shipped"),
        ("SELECT group_concat(url, ' ' ORDER BY url) FROM crawled_url", "shipped"),
        ("SELECT rank() OVER (ORDER BY size) FROM crawled_url", "shipped"),
        ("SELECT c.url FROM crawled_url c JOIN hosts h ON h.host = c.host", "shipped"),
        ("SELECT url FROM crawled_url WHERE host IN (SELECT host FROM hosts)", "shipped"),
        ("SELECT host FROM crawled_url UNION SELECT host FROM hosts", "shipped"),
        ("WITH w AS (SELECT size FROM crawled_url) SELECT sum(size) FROM w", "shipped"),
        ("SELECT count(*) FROM good", "divided"),
        ("SELECT url FROM good WHERE size > 3", "plain"),
        ("SELECT count(*) FROM (SELECT size + 1 AS s FROM good) WHERE s < 9", "divided"),
        ("SELECT count(*) FROM (SELECT size FROM good LIMIT 3)", "shipped"),
        ("SELECT a.url FROM good a, good b", "shipped"),
        ("SELECT url FROM crawled_url WHERE random() > 0", "shipped"),
        ("SELECT url, datetime('now') FROM crawled_url", "shipped"),
        ("SELECT url FROM crawled_url WHERE size > length(_segment)", "shipped"),
        ("VALUES (1), (2)", "alone"),
        ("SELECT 1", "alone"),
    ],
)  # fmt: skip
def test_each_query_has_its_way(sql: str, kind: str) -> None:
    """A query is divided where that is exact, else shipped, and says why."""
    found = planned(sql)
    assert found.kind == kind
    assert (found.reason != "") == (kind == "shipped")
    assert any(line.startswith(kind) for line in found.explain())


@pytest.mark.parametrize(
    ("sql", "error", "reason"),
    [
        ("", errors.BadSql, "there is none"),
        ("-- nothing", errors.BadSql, "there is none"),
        ("SELEC 1", errors.BadSql, "syntax error"),
        ("SELECT 1; SELECT 2", errors.BadSql, "one statement"),
        ("SELECT missing FROM crawled_url", errors.BadSql, "no such column: missing"),
        ("SELECT 1 FROM nowhere", errors.BadSql, "no such table: nowhere"),
        ("SELECT nowhere(1) FROM hosts", errors.BadSql, "no such function"),
        ("DELETE FROM hosts", errors.ForbiddenSql, "only reads"),
        ("WITH w AS (SELECT 1) INSERT INTO hosts SELECT 1, 2", errors.ForbiddenSql, "only"),
        ("ATTACH '/tmp/x' AS x", errors.ForbiddenSql, "only reads"),
        ("PRAGMA user_version", errors.ForbiddenSql, "only reads"),
        ("SELECT * FROM pragma_table_info('hosts')", errors.ForbiddenSql, "only reads"),
        ("SELECT load_extension('x')", errors.ForbiddenSql, "only reads"),
        ("SELECT trough_sum(1, 2, 3, 4, 5, 6, 7, 8, 9)", errors.BadSql, "no such function"),
        ("EXPLAIN SELECT 1", errors.BadSql, "EXPLAIN GATHER"),
        ("SELECT rowid FROM hosts", errors.BadSql, "rowid"),
        ("SELECT name FROM sqlite_schema", errors.BadSql, "sqlite_master"),
        ("SELECT *, length(_segment) FROM hosts", errors.BadSql, "_segment together with *"),
        ("SELECT _segment FROM good", errors.BadSql, "_segment"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused(sql: str, error: type, reason: str) -> None:
    """What SQLite would not take, what does more than read, and what no union has."""
    with pytest.raises(error, match=reason):
        planned(sql)


def test_what_runs_long_without_tables_is_planned_at_once() -> None:
    """How long it may run is for the deadline to say."""
    found = planned(f"{ENDLESS} SELECT count(*) AS n, max(x) FROM r")
    assert (found.kind, found.names) == ("alone", ("n", "max(x)"))


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT url FROM crawled_url WHERE random() > 0", "chance"),
        ("SELECT u.url FROM crawled_url u LEFT JOIN hosts h ON h._segment = 'x'", "_segment"),
        ("SELECT h._segment FROM crawled_url u LEFT JOIN hosts h ON h.host = u.host", "NULL"),
        ("SELECT (SELECT h._segment FROM hosts h) FROM crawled_url", "_segment"),
    ],
)
def test_within_segments_refuses_what_it_cannot_divide(sql: str, reason: str) -> None:
    """With the reason, and with what can be done instead."""
    with pytest.raises(
        errors.BadSql, match=f"cannot be divided within segments: .*{reason}"
    ) as caught:
        planned(sql, within=True)
    assert "without WITHIN SEGMENTS" in caught.value.hint


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT (SELECT count(crawled_url.size)) FROM crawled_url",
        "SELECT (SELECT count(1) FILTER (WHERE crawled_url.size) FROM hosts) FROM crawled_url",
        "SELECT (SELECT sum(1) FILTER (WHERE size > 5) FROM hosts) FROM crawled_url",
    ],
)
def test_an_aggregate_of_the_select_around_it_is_not_divided(sql: str) -> None:
    """SQLite takes its columns, in FILTER as well, to find the SELECT that it belongs to."""
    assert planned(sql).kind == "shipped"
    with pytest.raises(errors.BadSql, match="belongs to the SELECT around it"):
        planned(sql, within=True)


def test_rows_of_several_segments_may_become_one() -> None:
    """But not where a row has to keep its segment, or is passed on as it arrives."""
    for sql, rules in (
        ("SELECT count(*) FROM crawled_url", "s"),
        ("SELECT host, sum(size), min(url), max(url) FROM crawled_url GROUP BY 1", "kslg"),
        ("SELECT count(DISTINCT host) FROM crawled_url", "k"),
        ("SELECT DISTINCT host, size FROM crawled_url ORDER BY 1", "kk"),
        ("SELECT url, max(size) FROM crawled_url", "-"),
        ("SELECT url FROM crawled_url ORDER BY size", "-"),
        ("SELECT median(size) FROM crawled_url", "-"),
        ("SELECT count(*) FROM crawled_url UNION ALL SELECT max(size) FROM crawled_url", "g,s"),
        ("SELECT count(*), max(_segment) FROM crawled_url", ""),
        ("SELECT url FROM crawled_url", ""),
    ):
        plan = planned(sql)
        asked = plan.ask(plan.schema)
        assert asked is not None
        assert plan.merge_rules(asked) == rules, sql


def test_a_segment_gets_filter_projection_and_group() -> None:
    """What segments compute is what the query says of rows, and no more columns."""
    text = core("SELECT host, count(*) n FROM crawled_url WHERE size > 9 GROUP BY host ORDER BY n")
    assert text == (
        'SELECT "crawled_url"."host", count(*) FROM "main"."crawled_url" AS "crawled_url" '
        'WHERE ("crawled_url"."size" > 9) GROUP BY ("crawled_url"."host")'
    )


def test_groups_of_which_nothing_is_computed_are_not_sorted() -> None:
    """DISTINCT keeps what it has seen; GROUP BY would sort all rows."""
    for sql in (
        "SELECT count(DISTINCT host) FROM crawled_url",
        "SELECT host FROM crawled_url GROUP BY host",
    ):
        text = core(sql)
        assert text == (
            'SELECT DISTINCT "crawled_url"."host" FROM "main"."crawled_url" AS "crawled_url"'
        )
    assert "GROUP BY" in core("SELECT host, count(*) FROM crawled_url GROUP BY host")


def test_rows_are_counted_without_reading_them() -> None:
    """SQLite takes the number from the pages of the table, unless there is a condition."""
    text = core("SELECT count(*) FROM crawled_url")
    assert text == 'SELECT count(*) FROM "main"."crawled_url" AS "crawled_url"'
    inner = "SELECT count(*) FROM (SELECT size AS s FROM crawled_url WHERE url = 'a')"
    assert core(inner).endswith(" HAVING count(*) > 0")
    # Of a segment without rows its name must not count.
    asked = "SELECT count(*), max(_segment) FROM crawled_url"
    assert core(asked).endswith(" HAVING count(*) > 0")


def test_a_segment_sends_no_more_than_the_first_rows() -> None:
    """LIMIT and OFFSET are added up for each segment."""
    text = core("SELECT url FROM crawled_url ORDER BY size DESC LIMIT 10 OFFSET 5")
    assert text.endswith("ORDER BY 2 DESC NULLS LAST LIMIT 15")
    assert core("SELECT url FROM hosts, crawled_url LIMIT 3", within=True).endswith("LIMIT 3")


def test_conditions_on_the_segment_choose_segments() -> None:
    """What WHERE asks of the segment's name alone is not asked of its rows."""
    found = planned(
        "SELECT url FROM crawled_url WHERE _segment LIKE 'a%' AND size > 1 AND size < 9"
    )
    assert found.condition == "(\"_segment\" LIKE 'a%')"
    assert "_segment" not in asked(found).sql


def test_shipping_takes_what_is_read_and_passes() -> None:
    """Only columns that the text reads travel, and rows that may matter."""
    text = core(
        "SELECT c.url, h.owner FROM crawled_url c JOIN hosts h ON h.host = c.host "
        "WHERE c.size > 100 AND h.owner <> c.url AND (h.owner = 'x' OR h.owner IS NULL)"
    )
    arms = text.split(" UNION ALL ")
    assert arms[0] == (
        'SELECT 0, `url`, `host`, `size` FROM "main"."crawled_url" AS "c" WHERE ("c"."size" > 100)'
    )
    assert arms[1].endswith(
        """FROM "main"."hosts" AS "h" WHERE (("h"."owner" = 'x') OR ("h"."owner" IS NULL))"""
    )


def test_rows_that_an_outer_join_needs_are_shipped() -> None:
    """A condition behind LEFT JOIN sees rows of NULLs, which no segment has."""
    text = core("SELECT 1 FROM crawled_url c LEFT JOIN hosts h ON 1 WHERE h.owner IS NULL")
    assert "WHERE" not in text


def test_now_is_one_moment_for_all_segments() -> None:
    """'now' and its like are the moment of the question, written into the text."""
    moment = 1_700_000_000.25
    text = core(
        "SELECT datetime('now', '-1 day'), date(), strftime('%s'), CURRENT_TIMESTAMP "
        "FROM crawled_url WHERE url < datetime('now')",
        now=moment,
    )
    assert "now" not in text and "CURRENT" not in text
    assert text.count("'2023-11-14 22:13:20.250'") == 4
    assert "'2023-11-14 22:13:20'" in text


def test_parameters_travel_by_name() -> None:
    """Each of SQLite's ways to write a parameter becomes a name, with its value."""
    found = planned("SELECT url FROM hosts h, crawled_url WHERE size > ? AND owner = ?1", 5)
    assert found.parameters == {"trough_1": 5}
    named = plan("SELECT url FROM crawled_url WHERE url = :u AND size = @s OR size = $t", UNION,
                 parameters={"u": "x", "s": b"y", "t": None, "unused": 1})  # fmt: skip
    assert named.parameters == {"u": "x", "s": b"y", "t": None}
    assert ":u" in asked(named).sql and ":s" in asked(named).sql


@pytest.mark.parametrize(
    ("sql", "parameters", "reason"),
    [
        ("SELECT ?", [], "no value for the parameter ?"),
        ("SELECT :a", [1], "no value for the parameter :a"),
        ("SELECT ?", {"a": 1}, "no value for the parameter ?"),
        ("SELECT 1", [1], "1 value for 0 parameters"),
        ("SELECT ?, ?", [1, 2, 3], "3 values for 2 parameters"),
        ("SELECT ?", [object()], "no type of SQLite"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(sql: str, parameters: Any, reason: str) -> None:
    """A parameter without a value, or a value that nobody asks for."""
    with pytest.raises(errors.BadRequest, match=reason.replace("?", r"\?")):
        plan(sql, UNION, parameters=parameters)


def test_question_marks_in_texts_are_no_parameters() -> None:
    """Strings, names and comments keep theirs."""
    found = planned("SELECT '?', \"url\" -- ?\n FROM crawled_url /* :a */ WHERE url = ?", "x")
    assert found.parameters == {"trough_1": "x"}


@pytest.mark.parametrize(
    "expression",
    [
        "size BETWEEN 0 AND id < 1",
        "url || host -> '$.x'",
        "- id IS NOT NULL",
        "NOT id = size IS NULL",
        "1_000 + id",
        "+host = 'A'",
        "url LIKE 'a%' ESCAPE '!' || 'x'",
        "CAST(url AS NUMERIC) + CAST(size AS VARCHAR(3))",
        "id << 1 + size & 3 | 4",
        "~id -> '$'",
    ],
)
def test_texts_that_are_read_in_another_way_are_not_divided(expression: str) -> None:
    """A tree is trusted only if SQLite compiles it like the text, operator by operator;
    so what a segment runs contains the text's own meaning, or the rows are shipped."""
    catalogue = UnionDatabase(UNION)
    sql = f"SELECT {expression}, count(*) FROM crawled_url GROUP BY {expression}"
    try:
        text = write(normal_form(sql, catalogue, {}).tree)
    except Unresolved:
        text = None
    if text is not None:
        assert catalogue.program(text, {}) == catalogue.program(sql, {})
    assert planned(sql).kind == ("shipped" if text is None else "divided")


def test_segments_that_disagree_about_a_column_are_told() -> None:
    """How a union compares is not known where its parts compare in two ways."""
    other = schema("CREATE TABLE hosts (host TEXT COLLATE RTRIM, owner TEXT)")
    union = unite([schema(CRAWLED, HOSTS), other])
    assert plan("SELECT owner FROM hosts", union).kind == "plain"
    with pytest.raises(
        errors.BadSql, match=r"column host of table hosts .* COLLATE BINARY .* COLLATE RTRIM"
    ):
        plan("SELECT owner FROM hosts WHERE host = 'x'", union)


def test_types_that_compare_alike_agree() -> None:
    """INT, BIGINT and NUMERIC are told apart by no query."""
    other = schema("CREATE TABLE hosts (host VARCHAR(9), owner CHARACTER(3))")
    union = unite([schema(HOSTS), other])
    assert not union.conflicts


def test_a_virtual_table_is_refused_by_name() -> None:
    """The content of an R-tree does not lie in rows."""
    union = unite([schema("CREATE VIRTUAL TABLE pages USING rtree(id, low, high)")])
    with pytest.raises(errors.BadSql, match="table pages cannot be gathered: it is a virtual"):
        plan("SELECT * FROM pages", union)


def test_a_view_that_is_a_table_elsewhere_is_refused() -> None:
    """A union of the two would mean nothing."""
    union = unite([schema(CRAWLED, VIEW), schema("CREATE TABLE good (url TEXT)")])
    with pytest.raises(errors.BadSql, match="table good cannot be gathered: segments define"):
        plan("SELECT url FROM good", union)


def test_a_schema_cannot_do_anything_here() -> None:
    """A segment's text that is no table creates nothing, and is told when it is asked for."""
    text = "CREATE TABLE bad AS SELECT load_extension('x')"
    union = unite([schema(text)])
    with pytest.raises(errors.BadSql, match="table bad cannot be gathered"):
        plan("SELECT * FROM bad", union)


def test_a_long_statement_is_planned_in_proportion() -> None:
    """Ten times the terms take the same steps ten times, and not a hundred times."""

    def steps(count: int) -> int:
        total = 0

        def count_call(*_: Any) -> None:
            nonlocal total
            total += 1

        sql = f"SELECT {' + '.join(['sum(size)'] * count)} FROM crawled_url"
        sys.setprofile(count_call)
        try:
            assert planned(sql).kind == "divided"
        finally:
            sys.setprofile(None)
        return total

    assert steps(600) < 12 * steps(60)


def test_a_statement_without_end_is_refused() -> None:
    """By its length, or by how deep it is nested, with what may be done."""
    with pytest.raises(errors.BadSql, match="1,000,011 characters, and GATHER takes 1,000,000"):
        planned(f"SELECT '{'x' * 1_000_000}', 1"[:1_000_011])
    with pytest.raises(errors.BadSql, match=r"(?i)recursion|depth"):
        planned(f"SELECT {'1 + (' * 2000}1{')' * 2000} FROM crawled_url")
    listed = ", ".join(map(str, range(60_000)))
    found = planned(f"SELECT count(*) FROM crawled_url WHERE size IN ({listed})")
    assert found.kind == "shipped" and "could not be read" in found.reason


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT host, sum(size) FROM good GROUP BY 1",
        "SELECT count(*) FROM crawled_url UNION ALL SELECT count(*) FROM hosts",
        "SELECT h.owner FROM hosts h JOIN crawled_url c ON c.host = h.host",
    ],
)
def test_a_plan_can_be_sent_to_another_process(sql: str) -> None:
    """And asks there what it asks here."""
    found = planned(sql)
    other = pickle.loads(pickle.dumps(found))
    assert other.shape == found.shape
    assert other.ask(UNION, True) == found.ask(UNION, True)
