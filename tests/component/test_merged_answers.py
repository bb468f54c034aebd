"""Segments that answer together: each of them counts once, whatever happens meanwhile."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing

import pytest
import pytest_twisted
from executor_pools import answer, ask, kill, pids, running_pool
from segments_on_disk import damage, make_segment
from waiting import until

from trough.executors.pool.pool import Target
from trough.gather import plan, read_schema, unite
from trough.gather.schema import SCHEMA_VALUE

ensure = pytest_twisted.ensureDeferred

COUNTS = "SELECT 'k', count(*), NULL FROM crawled_url"
#: The same; but a segment of more than 50 rows takes some tenths of a second.
LONG = (
    "SELECT 'k', count(*) + 0 * CASE WHEN count(*) > 50 THEN (WITH RECURSIVE n(i) AS (SELECT 1 "
    "UNION ALL SELECT i + 1 FROM n WHERE i < 700000) SELECT max(i) FROM n) ELSE 0 END, NULL "
    "FROM crawled_url"
)


@pytest.fixture(name="targets")
def _targets(tmp_path):
    return [
        Target(f"s{n}", make_segment(tmp_path / f"{n}.sqlite", n % 5), 1, False) for n in range(60)
    ]


def read(text):
    """How many rows the answer counts, which segments answered, how often, and which failed."""
    answered, failed, total, lines = Counter(), [], 0, 0
    for line in text.splitlines():
        _, word, ids, *rest = line.split(" ", 3)
        if word == "MERGED":
            answered.update(ids.split(","))
            lines += 1
        elif word == "DONE":
            answered[ids] += 1
        elif word == "FAIL":
            failed.append(ids)
        if word in ("MERGED", "ROWS"):
            total += sum(row[1] for row in json.loads(rest[0][rest[0].index("[") :]))
    return total, answered, failed, lines


@ensure
async def test_segments_answer_together_and_fail_for_themselves(targets, tmp_path):
    """A damaged one, and a missing one, are no part of the others' answer."""
    damage(targets[4].path, 0, 1)
    missing = Target("missing", str(tmp_path / "missing.sqlite"), 1, False)
    async with running_pool() as pool:
        text, outcome = await answer(pool, [*targets, missing], COUNTS, merge="ks")
    total, answered, failed, lines = read(text)
    assert total == sum(n % 5 for n in range(60)) - 4
    assert answered == Counter(each.segment for each in targets if each.segment != "s4")
    assert sorted(failed) == ["missing", "s4"] and sorted(outcome.corrupt) == ["missing", "s4"]
    assert (outcome.segments, outcome.failed, outcome.rows) == (61, 2, 59)
    assert 1 <= lines < 20


@ensure
async def test_what_is_not_for_the_rules_comes_alone(targets):
    """A sum that is no integer, a schema in place of rows, and many rows."""
    async with running_pool() as pool:
        for text in (
            "SELECT 'k', count(*) + iif(count(*) = 4, 0.5, 0), NULL FROM crawled_url",
            "SELECT 'k', count(*), CASE WHEN count(*) = 4 THEN '[]' END FROM crawled_url",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000) "
            "SELECT i, count(*), NULL FROM n, (SELECT count(*) AS c FROM crawled_url) "
            "WHERE c = 4 OR i = 1 GROUP BY 1",
        ):
            lines, outcome = await answer(pool, targets, text, merge="ks")
            _, answered, failed, merged = read(lines)
            assert answered == Counter(each.segment for each in targets) and not failed
            alone = [line.split()[2] for line in lines.splitlines() if " DONE " in line]
            assert sorted(alone) == sorted(f"s{n}" for n in range(60) if n % 5 == 4)
            assert merged and outcome.failed == 0


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM crawled_url",
        "SELECT count(DISTINCT url) FROM crawled_url",
        "SELECT status_code, sum(id), max(id) FROM crawled_url GROUP BY 1",
        "SELECT 1, count(*) FROM crawled_url UNION ALL SELECT 2, max(id) FROM crawled_url",
        "WITH g AS (SELECT url, count(*) AS n FROM crawled_url GROUP BY url) SELECT max(n) FROM g",
        "SELECT url, count(*) / (SELECT count(*) FROM crawled_url) FROM crawled_url GROUP BY 1",
    ],
)
@ensure
async def test_segments_answer_a_gather_together(targets, sql):
    """The text that a plan sends is one whose rows are merged."""
    with closing(sqlite3.connect(targets[0].path)) as connection:
        (told,) = connection.execute(f"SELECT ({SCHEMA_VALUE})").fetchone()
    schema = unite([read_schema(told)])
    made = plan(sql, schema)
    asked = made.ask(schema)
    rules = made.merge_rules(asked)
    async with running_pool() as pool:
        text, outcome = await answer(pool, targets, asked.sql, made.parameters, merge=rules)
    answered, words = Counter(), Counter()
    for line in text.splitlines():
        _, word, ids, *_ = line.split(" ", 3)
        words[word] += 1
        answered.update(ids.split(","))
    assert words.keys() == {"MERGED"} and words["MERGED"] < 20 and not outcome.failed
    assert answered == Counter(each.segment for each in targets)


@ensure
async def test_each_answer_can_be_kept(targets):
    """As the lines that the segment would have sent by itself."""
    kept = {}
    async with running_pool() as pool:
        await answer(
            pool,
            targets,
            COUNTS,
            merge="ks",
            keeper=lambda target, rows, lines: kept.update({target.segment: (rows, lines)}),
        )
        alone, _ = await answer(pool, targets[3:4], COUNTS)
    assert kept.keys() == {each.segment for each in targets}
    rows, lines = kept["s3"]
    assert (rows, lines.decode()) == (1, alone)


@ensure
async def test_what_dies_with_an_executor_counts_once(targets):
    """What it had not sent is asked again."""
    async with running_pool() as pool:
        await answer(pool, targets, COUNTS, merge="ks")
        for pid in pids(pool):
            asking = ask(pool, targets, COUNTS, merge="ks")
            kill(pid)
            outcome = await asking.outcome
            total, answered, failed, _ = read(asking.text)
            assert answered == Counter(each.segment for each in targets) and not failed
            assert total == sum(n % 5 for n in range(60)) and outcome.failed == 0
            await until(lambda: len(pids(pool)) == 2, "the executor is there again")


@ensure
async def test_what_is_asked_elsewhere_counts_once(targets, tmp_path):
    """An executor that one segment holds up has answers of others that it did not send. They are
    asked elsewhere, and it sends them all the same."""
    slow = [
        Target(f"slow{n}", make_segment(tmp_path / f"slow{n}.sqlite", 60), 1, False)
        for n in range(3)
    ]
    some = [*targets[:20], slow[0], *targets[20:40], slow[1], *targets[40:], slow[2]]
    async with running_pool(executors=2, max_executors=4) as pool:
        await answer(pool, some, COUNTS, merge="ks")
        text, outcome = await answer(pool, some, LONG, merge="ks")
    total, answered, failed, _ = read(text)
    assert answered == Counter(each.segment for each in some) and not failed
    assert total == sum(n % 5 for n in range(60)) + 3 * 60 and outcome.failed == 0


@ensure
async def test_large_values_come_in_several_answers(targets):
    """The front has an answer as a whole, so its bytes have a bound, too."""
    large = "SELECT printf('%.*c', 60000, 'y') || random(), count(*), NULL FROM crawled_url"
    async with running_pool() as pool:
        text, _ = await answer(pool, targets, large, merge="ks")
    total, answered, failed, _ = read(text)
    assert (total, len(answered), failed) == (sum(n % 5 for n in range(60)), 60, [])
    assert max(map(len, text.splitlines())) < 1_200_000
