"""Segments without the text that a query asks for are not opened, and no answer shows that."""

import itertools
import random
import sqlite3
from contextlib import closing

import pytest
import pytest_twisted
from kept_worlds import kept_world
from waiting import until

from trough import errors
from trough.model import canonical_path
from trough.protocols.line import arguments
from trough.protocols.line.framing import LineRequest

ensure = pytest_twisted.ensureDeferred

COLUMNS = (
    "a TEXT, b, c TEXT COLLATE NOCASE, r TEXT COLLATE RTRIM, i INTEGER, x NUMERIC, "
    "g TEXT AS (upper(b))"
)
SCHEMA = f"CREATE TABLE t ({COLUMNS})"

#: Values that are easily taken for each other.
VALUES = (
    *("a", "A", "a ", " a", "1", "1.0", "01", "1e0", "", "é", "É", "a\0b", "a\0", "NULL", "b"),
    *(1, 1.0, 1.5, 0, -0.0, b"1", b"a", b"", None, 2**63 - 1, 9e18, "9223372036854775807"),
)
_number = itertools.count()


def put(world, segment, rows, schema=SCHEMA, more=()):
    """Put a canonical copy with these rows in the place of any other."""

    def fill(database):
        database.execute(schema)
        database.executemany("INSERT INTO t (a, b, c, r, i, x) VALUES (?,?,?,?,?,?)", rows)
        for statement in more:
            database.execute(statement)

    return world.put_filled(segment, fill)


def truth(world, segments, where, parameters=()):
    """By segment, how many rows SQLite finds in each file."""
    found = {}
    for segment in segments:
        with closing(sqlite3.connect(world.canonical / canonical_path(segment))) as database:
            sql = f"SELECT count(*) FROM t WHERE {where}"
            count = database.execute(sql, parameters).fetchone()[0]
        if count:
            found[segment] = count
    return found


async def counts(world, segments, where, parameters=()):
    """By segment, how many rows GATHER finds; never from a kept answer."""
    number = next(_number)  # another text each time
    sql = f"SELECT _segment, count(*) FROM t WHERE {where} AND {number}={number} GROUP BY 1"
    return dict(await world.gathered(segments, sql, parameters or None))


async def made(world):
    """Return once no filter is being made."""
    await until(lambda: not world.queries.filters.making, "filters to be made")


@ensure
async def test_only_segments_with_the_text_are_opened(tmp_path):
    """The second time; other conditions ask them all. EXPLAIN ANALYZE tells how many."""
    async with kept_world(tmp_path) as world:
        names = [f"s{number}" for number in range(30)]
        for name in names:
            await put(world, name, [(f"http://{name}/", name, name, name, 1, 1)] * 3)
        assert await counts(world, names, "a = 'http://s7/'") == {"s7": 3}
        await made(world)
        assert len(world.queries.filters) == 30
        pruned = world.queries.filters.pruned
        assert await counts(world, names, "'http://s7/' = a") == {"s7": 3}
        assert await counts(world, names, "(a IN (?, ?)) AND i > 0", ["http://s7/", "no"]) == {
            "s7": 3
        }
        # Less than one of a hundred is taken for one that may have it.
        assert world.queries.filters.pruned - pruned >= 50
        lines = await world.gathered(names, "EXPLAIN ANALYZE SELECT i FROM t WHERE a = 'no'")
        text = "\n".join(line for (line,) in lines)
        assert " pruned; " in text and "pruned: segments whose worker knows" in text
        pruned = world.queries.filters.pruned
        assert await counts(world, names, "(a = 'http://s7/' OR i = 2)") == {"s7": 3}
        assert await counts(world, names, "a <> 'http://s7/' AND b = 's8'") == {"s8": 3}
        assert world.queries.filters.pruned == pruned


@ensure
async def test_a_changed_segment_is_asked_again(tmp_path):
    """A new copy, also with the same time and size, a write, and another shape."""
    async with kept_world(tmp_path) as world:
        await put(world, "s", [("old", 1, "x", "x", 1, 1)])
        assert await counts(world, ["s"], "a = 'new'") == {}
        await made(world)
        pruned = world.queries.filters.pruned
        assert await counts(world, ["s"], "a = 'new'") == {}
        assert world.queries.filters.pruned == pruned + 1
        await put(world, "s", [("new", 1, "x", "x", 1, 1)])
        assert await counts(world, ["s"], "a = 'new'") == {"s": 1}
        await made(world)
        assert await counts(world, ["s"], "a = 'later'") == {}
        await world.controller.provision("s", "default")
        await world.written("s", "INSERT INTO t (a) VALUES ('later')")
        assert await counts(world, ["s"], "a = 'later'") == {"s": 1}
        await put(world, "u", [], "CREATE TABLE t (q, a TEXT COLLATE NOCASE, b, c, r, i, x)")
        assert await world.gathered(["u"], "SELECT count(*) FROM t WHERE a = 'X'") == [(0,)]
        await made(world)
        shape = "CREATE TABLE t (a COLLATE NOCASE, b, c, r, i, x)"
        await put(world, "u", [("x", 1, "x", "x", 1, 1)], shape)
        assert await world.gathered(["u"], "SELECT count(*) FROM t WHERE a = 'X'") == [(1,)]


@ensure
async def test_values_that_look_alike_are_found_where_sqlite_finds_them(tmp_path):
    """Each text in each column of segments with one value each."""
    async with kept_world(tmp_path) as world:
        names = [f"v{number:02}" for number in range(len(VALUES))]
        for name, value in zip(names, VALUES, strict=True):
            await put(world, name, [[value] * 6])
        for column in "abcrix":
            await counts(world, names, f"{column} = 'nothing'")
            await made(world)
            for text in VALUES:
                if isinstance(text, str):
                    where = f"{column} = ?"
                    right = truth(world, names, where, [text])
                    assert await counts(world, names, where, [text]) == right, (where, text)
        assert world.queries.filters.pruned > 500


def condition(dice):
    """A condition with what stands for its places."""
    column = dice.choice([*"abcrixg"])
    values = [dice.choice(VALUES) for _ in range(dice.randint(1, 3))]
    texts, bound = [], []
    for value in values:
        if dice.random() < 0.5 or isinstance(value, float) or "\0" in str(value):
            texts.append("?")
            bound.append(value)
        elif isinstance(value, bytes):
            texts.append(f"X'{value.hex()}'")
        elif isinstance(value, str):
            texts.append(f"'{value}'")
        else:
            texts.append("NULL" if value is None else str(value))
    name = dice.choice((column, column.upper(), f"t.{column}", f"({column})", f'"{column}"'))
    kind = dice.random()
    if kind < 0.3:
        return f"{name} IN ({', '.join(texts)})", bound
    right, bound = texts[0], bound[: texts[0] == "?"]
    if kind < 0.4:
        return f"{name} IS {right}", bound
    if kind < 0.5:
        name = dice.choice((f"+{column}", f"{column} COLLATE NOCASE", f"CAST({column} AS TEXT)"))
    if kind < 0.6:
        right = f"{right} COLLATE {dice.choice(('NOCASE', 'BINARY', 'RTRIM'))}"
    left_first = dice.random() < 0.7
    comparison = dice.choice(("=", "=", "<", "<=", ">", ">="))
    return f"{name} {comparison} {right}" if left_first else f"{right} {comparison} {name}", bound


@ensure
async def test_filters_exclude_only_what_is_absent(tmp_path):
    """Whatever the types and collations, and however alike the values."""
    dice = random.Random(8)
    async with kept_world(tmp_path) as world:
        names = [f"s{number:02}" for number in range(24)]
        for number, name in enumerate(names):
            rows = [
                [dice.choice(VALUES) for _ in range(6)] for _ in range(dice.choice((0, 1, 3, 8)))
            ]
            more = ["ALTER TABLE t ADD COLUMN z TEXT"] if number % 5 == 4 else []
            await put(world, name, rows, more=more)
        for asked in (*(f"{column} = 'nothing'" for column in "abcg"), "i > 7", "a < 'a'", "b < 0"):
            for _ in range(2):
                await counts(world, names, asked)
                await made(world)
        pruned = world.queries.filters.pruned
        for _ in range(80):
            terms = [condition(dice) for _ in range(dice.choice((1, 1, 2)))]
            where = dice.choice((" AND ", " AND ", " OR ")).join(term for term, _ in terms)
            bound = [value for _, values in terms for value in values]
            right = truth(world, names, f"({where})", bound)
            assert await counts(world, names, f"({where})", bound) == right, (where, bound)
            await made(world)
        assert world.queries.filters.pruned - pruned > 50


@ensure
async def test_only_segments_in_the_range_are_opened(tmp_path):
    """The second time, through a view as well; a changed segment is asked again."""
    async with kept_world(tmp_path) as world:
        names = [f"s{number:02}" for number in range(30)]
        view = "CREATE VIEW w AS SELECT i AS day, a FROM t WHERE x > 0"
        for number, name in enumerate(names):
            await put(world, name, [("x", 1, "x", "x", number, 1)] * 3, more=[view])
        assert await counts(world, names, "i >= 28") == {"s28": 3, "s29": 3}
        await made(world)
        pruned = world.queries.filters.pruned
        assert await counts(world, names, "i BETWEEN ? AND 3.5", [2]) == {"s02": 3, "s03": 3}
        assert world.queries.filters.pruned == pruned + 28
        # A segment's view may be another one, so these filters are others.
        assert await world.gathered(names, "SELECT count(*) FROM w WHERE day > 27") == [(6,)]
        await made(world)
        pruned = world.queries.filters.pruned
        assert await world.gathered(names, "SELECT count(*) FROM w WHERE day > 26") == [(9,)]
        # 26 itself is not excluded.
        assert world.queries.filters.pruned == pruned + 26
        await world.controller.provision("s01", "default")
        await world.written("s01", "UPDATE t SET i = 100")
        await put(world, "s02", [("x", 1, "x", "x", 50, 1)])
        assert await counts(world, names, "i > 29") == {"s01": 3, "s02": 1}


@ensure
async def test_a_worker_of_an_earlier_version_is_asked_without_tests(tmp_path, monkeypatch):
    """It answers as it always did."""
    async with kept_world(tmp_path) as world:
        await put(world, "s", [("x", 1, "x", "x", 1, 1)])
        options = tuple(each for each in arguments._QUERY_OPTIONS if each != "tests")
        monkeypatch.setattr(arguments, "_QUERY_OPTIONS", options)
        assert await counts(world, ["s"], "a = 'x'") == {"s": 1}
        assert not world.queries.filters.making and len(world.queries.filters) == 0


@pytest.mark.parametrize(
    "tests",
    [
        *("1", "[1]", "[[1,[2]]]", '[["x",[-1]]]', '[["x",["1"]]]', '[["x"', '[["x",[1.5]]]'),
        *('[["x",[],1]]', '[["x",[],[[1]]]]', '[["x",[],[[1,-1]]]]', '[["x",[],[["1",null]]]]'),
        *(f'[["x",[],[["{"0" * 65}",null]]]]', f'[["x",[],[["{"G" * 66}",null]]]]'),
        '[["x",[],[],1]]',
    ],
)
def test_other_tests_than_tests_are_refused(tests):
    """With what they should be."""
    request = LineRequest("1", "QUERY", f"s keep=yes tests={tests} SELECT 1".encode(), ())
    with pytest.raises(errors.BadRequest, match="tests are"):
        arguments.parse_query_arguments(request)
