"""One query on one segment: small answers, large ones in pieces, and what is kept."""

import base64
import json
import re
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segments_on_disk import damage, make_segment
from test_sql_sandbox import Query, rest

from trough import errors
from trough.sql import queries, sqlite
from trough.sql.handles import Handles
from trough.sql.queries import Framing
from trough.sql.reading import Reader


class Asked:
    """A reader, and what it answers."""

    def __init__(self, kept=8, tick=None):
        self.engine = sqlite.Engine(tick)
        self.opened = []
        self.handles = Handles(self._open, kept)
        self.reader = Reader(self.engine, self.handles)

    def _open(self, path, writable):
        self.opened.append(path)
        return self.engine.open_reader(path, writable)

    def begin(self, path, query, generation=1, writable=False, segment="s"):
        return self.reader.begin(query, segment, str(path), generation, writable)

    def rows(self, path, query, **more):
        """All rows, from the lines or objects that they came as."""
        answer = self.begin(path, query, **more)
        text = b"".join([answer.first, *rest(answer)]).decode()
        if query.framing is Framing.OBJECTS:
            assert text.endswith("]\n")
            return [tuple(each.values()) for each in json.loads(text)]
        lines = text.splitlines()
        assert lines[0].startswith("t COLS s [")
        assert lines[-1].startswith("t DONE s ")
        found = []
        for line in lines[1:-1]:
            assert line.startswith("t ROWS s ")
            found += map(tuple, json.loads(line[9:]))
        assert int(lines[-1].split()[-1]) == len(found) == answer.count
        return found


def query(text, framing=Framing.LINES, parameters=None, limit=0):
    """For a reader."""
    made = Query(text, parameters, limit)
    made.framing = framing
    return made


@pytest.fixture(scope="module")
def segments(tmp_path_factory):
    """A small and a large segment."""
    folder = tmp_path_factory.mktemp("segments")
    small, large = folder / "small.sqlite", folder / "large.sqlite"
    make_segment(small, 20)
    make_segment(large, 20_000)
    return small, large


@pytest.mark.parametrize("framing", Framing)
@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM crawled_url WHERE id < {n}",
        "SELECT id, url FROM crawled_url WHERE id < {n} ORDER BY url DESC",
        "SELECT id, url, CAST(url AS BLOB) AS b FROM crawled_url WHERE id < {n}",
        "SELECT id, NULL AS n, -9e999 AS i FROM crawled_url WHERE id < {n}",
    ],
)
@pytest.mark.parametrize("number", [0, 1, 7, 8, 9, 127, 128, 129, 20_000])
def test_rows_are_those_of_sqlite_however_many_there_are(segments, framing, text, number):
    """Around each number at which another way is taken; the second time as the first."""
    _, large = segments
    asked = Asked()
    text = text.format(n=number)
    with sqlite3.connect(large) as connection:
        expected = connection.execute(text).fetchall()
    expected = [tuple(map(_on_the_wire, row)) for row in expected]
    for _ in range(2):
        assert asked.rows(large, query(text, framing)) == expected


def _on_the_wire(value):
    if isinstance(value, bytes):
        return {"blob": base64.b64encode(value).decode()}
    return value


def test_a_large_answer_comes_in_pieces_of_bounded_size(segments):
    """None is much larger than it has to be, and only the last are small."""
    _, large = segments
    answer = Asked().begin(large, query("SELECT * FROM crawled_url"))
    pieces = [answer.first, *rest(answer)]
    assert len(pieces) > 5
    assert max(map(len, pieces)) < 4 * queries.PIECE


def test_few_large_rows_come_one_by_one(tmp_path):
    """A piece is never much larger than its largest row."""
    path = tmp_path / "s.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t(a)")
        connection.executemany("INSERT INTO t VALUES(?)", (("x" * 1_000_000,) for _ in range(40)))
    answer = Asked().begin(path, query("SELECT a FROM t"))
    pieces = [answer.first, *rest(answer)]
    assert max(map(len, pieces)) < 9_000_000
    assert sum(map(len, pieces)) > 40_000_000


@pytest.mark.parametrize("framing", Framing)
@pytest.mark.parametrize(("limit", "number"), [(5, 5), (5, 6), (100, 101), (300, 300), (300, 301)])
def test_more_rows_than_the_limit_are_an_error(segments, framing, limit, number):
    """As many as the limit are none."""
    _, large = segments
    asked = Asked()
    text = query(f"SELECT id FROM crawled_url LIMIT {number}", framing, limit=limit)
    for _ in range(2):
        if number <= limit:
            assert len(asked.rows(large, text)) == number
        else:
            with pytest.raises(errors.LimitExceeded, match=f"more than {limit} rows"):
                asked.rows(large, text)


@pytest.mark.parametrize("framing", Framing)
@pytest.mark.parametrize("number", [3, 5_000])
@pytest.mark.parametrize("place", [0, 2, 2_500])
def test_broken_utf8_is_replaced_wherever_it_is(tmp_path, framing, number, place):
    """In the first row, in the sample, and far behind it, in small and large answers."""
    path = tmp_path / "s.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t(a)")
        connection.executemany("INSERT INTO t VALUES(?)", ((f"r{n}",) for n in range(number)))
        connection.execute("UPDATE t SET a = CAST(x'61ff62' AS TEXT) WHERE rowid = ?", [place + 1])
    expected = [(f"r{n}" if n != place else "a\ufffdb",) for n in range(number)]
    asked = Asked()
    for _ in range(2):
        assert asked.rows(path, query("SELECT a FROM t", framing)) == expected
        assert asked.rows(path, query("SELECT +a AS b FROM t", framing)) == expected


def test_a_text_in_utf16_is_text_all_the_same(tmp_path):
    """SQLite converts it on both ways."""
    path = tmp_path / "s.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA encoding='UTF-16le'")
        connection.execute("CREATE TABLE t(a)")
        connection.executemany(
            "INSERT INTO t VALUES(?)", ((f"é\U0001f600{n}",) for n in range(900))
        )
    assert Asked().rows(path, query("SELECT a FROM t"))[-1] == ("é\U0001f600899",)


def test_connections_are_kept_and_the_oldest_closed(segments, tmp_path):
    """Opened again only when others were used meanwhile."""
    small, _ = segments
    asked = Asked(kept=2)
    text = query("SELECT 1")
    for segment in ("a", "b", "a", "b", "c", "b", "a"):
        asked.begin(small, text, segment=segment)
    assert len(asked.opened) == 4
    assert len(asked.handles) == 2


def test_another_generation_is_another_file(tmp_path):
    """A replaced file is opened again, and the old one forgotten."""
    asked = Asked()
    text = query("SELECT count(*) FROM crawled_url")
    path = tmp_path / "s.sqlite"
    make_segment(path, 3)
    assert asked.rows(path, text) == [(3,)]
    make_segment(tmp_path / "new.sqlite", 5)
    (tmp_path / "new.sqlite").replace(path)
    assert asked.rows(path, text) == [(3,)]
    assert asked.rows(path, text, generation=2) == [(5,)]


def test_a_suspended_query_has_its_connection_for_itself(segments):
    """Another one gets another connection, and the first goes on where it was."""
    _, large = segments
    asked = Asked()
    text = query("SELECT id FROM crawled_url")
    first, second = asked.begin(large, text), asked.begin(large, text)
    assert len(asked.opened) == 2
    assert asked.rows(large, query("SELECT 1")) == [(1,)]
    whole = [
        sorted(re.findall(rb"\[(\d+)\]", b"".join([answer.first, *rest(answer)])))
        for answer in (first, second)
    ]
    assert whole[0] == whole[1]
    assert len(whole[0]) == 20_000
    assert len(asked.handles) == 1


def test_a_closed_query_gives_its_connection_back(segments):
    """It is used by the next one."""
    _, large = segments
    asked = Asked()
    text = query("SELECT id FROM crawled_url")
    for _ in range(5):
        asked.begin(large, text).close()
    assert len(asked.opened) == 1
    assert len(asked.rows(large, text)) == 20_000


def test_forgetting_waits_for_what_is_suspended(segments):
    """Told once, when nothing is open any more."""
    _, large = segments
    asked = Asked()
    released = []
    assert asked.handles.forget("s")
    answer = asked.begin(large, query("SELECT id FROM crawled_url"))
    assert not asked.handles.forget("s", lambda: released.append(len(asked.handles)))
    assert released == []
    answer.close()
    assert released == [0]


def test_a_segment_that_is_written_shows_the_last_commit(tmp_path):
    """Also while an older query on it rests, which goes on with what it began with."""
    path = make_segment(tmp_path / "s.sqlite", 20_000)
    asked = Asked()
    with sqlite3.connect(path, isolation_level=None) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        old = asked.begin(path, query("SELECT id FROM crawled_url"), writable=True)
        writer.execute("DELETE FROM crawled_url WHERE id > 4")
        count = query("SELECT count(*) FROM crawled_url")
        assert asked.rows(path, count, writable=True) == [(5,)]
        writer.execute("ALTER TABLE crawled_url ADD COLUMN more DEFAULT 7")
        names = asked.begin(path, query("SELECT * FROM crawled_url"), writable=True).first
        assert b'"more"' in names
        assert sum(piece.count(b",") for piece in rest(old)) > 10_000
    writer.close()


def test_a_tick_interrupts_a_query_with_its_reason(segments):
    """While it looks for its first row, and between two pieces; the connection stays good."""
    _, large = segments
    asked = Asked(tick=lambda: int(asked.engine.stopped is not None))
    endless = query(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    )
    asked.engine.stopped = errors.DeadlineExceeded("too late")
    with pytest.raises(errors.DeadlineExceeded, match="too late"):
        asked.begin(large, endless)
    answer = asked.begin(large, query("SELECT a.id FROM crawled_url a, crawled_url b"))
    asked.engine.stopped = errors.Cancelled("enough")
    with pytest.raises(errors.Cancelled, match="enough"):
        list(rest(answer))
    assert asked.rows(large, query("SELECT 1")) == [(1,)]


@pytest.mark.parametrize("pages", [(0, 1), (1, None)])
@pytest.mark.parametrize("text", ["SELECT * FROM crawled_url", "SELECT count(*) FROM crawled_url"])
def test_a_damaged_file_is_told_apart(tmp_path, pages, text):
    """Whatever of it is damaged, and although nothing else is wrong."""
    path = make_segment(tmp_path / "s.sqlite", 20_000)
    damage(path, *pages)
    with pytest.raises(errors.CorruptSegment, match=r"s\.sqlite is damaged"):
        Asked().rows(path, query(text))


def test_damage_far_behind_is_told_in_the_midst_of_an_answer(tmp_path):
    """Its first pieces are out; then comes the error."""
    path = make_segment(tmp_path / "s.sqlite", 50_000)
    damage(path, 300, 330)
    answer = Asked().begin(path, query("SELECT * FROM crawled_url NOT INDEXED"))
    with pytest.raises(errors.CorruptSegment):
        list(rest(answer))
    assert answer.count > 100


def test_a_missing_file_counts_as_damaged(tmp_path):
    """It is fetched again then, and not made by looking for it."""
    path = tmp_path / "nowhere.sqlite"
    for writable in (False, True):
        with pytest.raises(errors.CorruptSegment, match=r"nowhere\.sqlite"):
            Asked().begin(path, query("SELECT 1"), writable=writable)
    assert not path.exists()


@pytest.mark.parametrize("name", ["a b", "a?b", "a#b", "a%41", "ü", "a'b", "a=b~c@d"])
def test_a_path_is_a_path_and_no_uri(tmp_path, name):
    """Whatever characters it has."""
    path = tmp_path / name
    make_segment(path, 3)
    assert len(Asked().rows(path, query("SELECT * FROM found"))) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 400),
    st.lists(
        st.sampled_from(["'x'", "1", "2.5", "x'00'", "NULL", "i", "i/2.0", "'é'"]), min_size=1
    ),
    st.sampled_from(Framing),
)
def test_any_mixture_is_answered_as_sqlite_would(tmp_path_factory, number, columns, framing):
    """Wherever the answer changes from one way of being made to the other."""
    path = tmp_path_factory.getbasetemp() / "empty.sqlite"
    sqlite3.connect(path).close()
    values = ", ".join(
        f"CASE WHEN i % 130 = {n} THEN {n} ELSE {column} END AS c{n}"
        for n, column in enumerate(columns)
    )
    text = (
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {number}) "
        f"SELECT {values} FROM n WHERE {number} > 0"
    )
    with sqlite3.connect(":memory:") as connection:
        expected = [tuple(map(_on_the_wire, row)) for row in connection.execute(text).fetchall()]
    assert Asked().rows(path, query(text, framing)) == expected


def test_memory_that_kept_connections_hold_is_given_to_a_query(segments, monkeypatch):
    """It is tried again without them, once."""
    small, _ = segments
    asked = Asked(kept=1000)
    for n in range(150):
        asked.begin(small, query("SELECT 1"), segment=str(n))
    failures = [MemoryError(), MemoryError()]
    execute = asked.engine.execute

    def short_of_memory(*arguments):
        if failures:
            raise failures.pop()
        return execute(*arguments)

    monkeypatch.setattr(asked.engine, "execute", short_of_memory)
    with pytest.raises(errors.LimitExceeded, match="memory"):
        asked.begin(small, query("SELECT 2"))
    assert len(asked.handles) == 0
    failures.append(MemoryError())
    with pytest.raises(errors.LimitExceeded, match="memory"):
        asked.begin(small, query("SELECT 2"))
    for n in range(150):
        asked.begin(small, query("SELECT 1"), segment=str(n))
    failures.append(MemoryError())
    assert asked.rows(small, query("SELECT 2")) == [(2,)]


@pytest.mark.parametrize(
    "text", ["PRAGMA index_list('later')", "PRAGMA main.foreign_key_list(later)"]
)
def test_a_pragma_sees_what_was_created_since(tmp_path, text):
    """SQLite itself answers with nothing about a table that a connection does not know yet."""
    path = tmp_path / "s.sqlite"
    with sqlite3.connect(path) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        asked = Asked()
        assert asked.rows(path, query("SELECT count(*) FROM t"), writable=True) == [(0,)]
        writer.execute("CREATE TABLE later (x UNIQUE REFERENCES t (id))")
        writer.commit()
        assert len(asked.rows(path, query(text), writable=True)) == 1
