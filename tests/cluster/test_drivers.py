"""The drivers, asked of real servers."""

from __future__ import annotations

import asyncio
import json
import sys

import pyarrow
import pytest
from certificates import CertificateAuthority
from processes import Machine, wait_until_known

from trough import aio, dbapi, errors
from trough.client import TroughClient, TroughException

#: Rows without end.
ENDLESS = (
    "WITH RECURSIVE c(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM c)"
    " SELECT n, printf('%1000d', n) FROM c"
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A sync server and a worker with two segments; no pause of it makes these vanish."""
    with Machine(
        tmp_path_factory.mktemp("drivers"), MINIMUM_ASSIGNMENTS="1", WORKER_TTL="60"
    ) as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        for segment, rows in (("a", "(1, 'x', 0.5), (2, NULL, 1)"), ("b", "(3, 'y', NULL)")):
            with dbapi.connect(url(machine, segment)) as connection:
                connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, r REAL)")
                connection.execute(f"INSERT INTO t VALUES {rows}")
        wait_until_known(machine.metadata_url)
        yield machine


def port(machine, name, key):
    return machine.processes[name].settings[key]


def url(machine, path):
    return f"trough://127.0.0.1:{port(machine, 's1', 'SYNC_LINE_PORT')}/{path}"


@pytest.fixture
def a(machine):
    with dbapi.connect(url(machine, "a")) as connection:
        yield connection


def test_values_come_back_as_they_went(a):
    """Each type of SQLite, by place and by name."""
    values = (2**63 - 1, "ä\n{1}", b"\0\xff", 0.1, float("-inf"), None)
    sql = "SELECT ?, ?, ?, ?, ?, ?"
    assert a.execute(sql, values).fetchall() == [values]
    assert a.execute("SELECT :a || :b", {"a": "x", "b": "y"}).fetchone() == ("xy",)
    assert a.execute("SELECT id AS i, v FROM t LIMIT 0").description == (
        ("i", *[None] * 6),
        ("v", *[None] * 6),
    )


@pytest.mark.parametrize("way", ["worker", "registry", "sync"])
def test_a_segment_is_found_in_each_way(machine, way):
    """By the worker's address, the registry and a sync server."""
    urls = {
        "worker": f"trough://127.0.0.1:{port(machine, 'w1', 'LINE_PORT')}/a",
        "registry": f"trough:///a?registry={machine.metadata_url}",
        "sync": url(machine, "a"),
    }
    with dbapi.connect(urls[way]) as connection:
        connection.execute("UPDATE t SET r = r WHERE id = 1")
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)


@pytest.mark.parametrize("path", ["a,b", "~^[ab]$"])
def test_many_segments_are_one_database(machine, path):
    """Through a sync server, by ids or by a pattern."""
    with dbapi.connect(url(machine, path)) as connection:
        cursor = connection.execute("SELECT id, v FROM t WHERE id > ? ORDER BY id", [1])
        assert cursor.fetchall() == [(2, None), (3, "y")]
        assert cursor.rowcount == 2


def test_what_is_missing_is_named(machine):
    """If the answer may do without it."""
    with dbapi.connect(url(machine, "a,nowhere"), partial=True) as connection:
        cursor = connection.execute("SELECT count(*) FROM t")
        assert cursor.fetchall() == [(2,)]
        assert list(cursor.missing) == ["nowhere"]
    with dbapi.connect(url(machine, "a,nowhere")) as connection:
        with pytest.raises(dbapi.OperationalError, match="nowhere"):
            connection.execute("SELECT count(*) FROM t")


def test_a_result_without_end_needs_no_memory(a):
    """Rows that are not fetched stay with the server; the cursor can be left at any row."""
    cursor = a.execute(ENDLESS)
    assert cursor.fetchone()[0] == 1
    assert [row[0] for row in cursor.fetchmany(3000)] == list(range(2, 3002))
    assert sys.getsizeof(cursor._rows) < 1 << 20
    cursor.close()
    assert a.execute("SELECT 1").fetchall() == [(1,)]


def test_errors_are_those_of_pep_249(a):
    """With the code of the line protocol."""
    for sql, cls, code in (
        ("SELECT nothing", dbapi.ProgrammingError, "bad-sql"),
        ("INSERT INTO t (id) VALUES (1)", dbapi.IntegrityError, "bad-sql"),
        ("SELECT load_extension('x')", dbapi.NotSupportedError, "forbidden-sql"),
    ):
        with pytest.raises(cls) as raised:
            a.execute(sql)
        assert raised.value.code == code


def test_a_statement_has_a_timeout(a):
    """Which the server keeps."""
    a.timeout = 0.3
    with pytest.raises(dbapi.OperationalError) as raised:
        a.execute(f"SELECT count(*) FROM ({ENDLESS})")
    assert raised.value.code == "timeout"


def test_a_script_is_one_transaction(a):
    """All of it, or nothing."""
    with pytest.raises(dbapi.IntegrityError):
        a.cursor().executescript("INSERT INTO t (id) VALUES (10); INSERT INTO t (id) VALUES (1)")
    assert a.execute("SELECT count(*) FROM t WHERE id = 10").fetchone() == (0,)


def test_many_writes_are_sent_at_once(a):
    """All are done, in their order; one that fails is named, and others stay."""
    a.execute("CREATE TABLE many (n INTEGER PRIMARY KEY, at)")
    cursor = a.cursor()
    cursor.executemany("INSERT INTO many VALUES (?, ?)", ((n, f"{n}") for n in range(1000)))
    assert cursor.rowcount == 1000
    cursor.executemany("UPDATE many SET at = at || ? WHERE n = 1", [("a",), ("b",), ("c",)])
    assert a.execute("SELECT count(*), max(at) FROM many WHERE n = 1").fetchone() == (1, "1abc")
    with pytest.raises(dbapi.IntegrityError, match="UNIQUE"):
        cursor.executemany("INSERT INTO many VALUES (?, 0)", [[2000], [1], [2001]])
    assert a.execute("SELECT count(*) FROM many").fetchone() == (1002,)
    assert cursor.executemany("DELETE FROM many WHERE n = ?", []).rowcount == 0


def test_arrow_tables_have_types(machine, a):
    """Of the values; a column with several is refused, and named."""
    table = a.execute(
        "SELECT id, v, r, x'ff' AS b, NULL AS n FROM t ORDER BY id"
    ).fetch_arrow_table()
    types = [str(field.type) for field in table.schema]
    assert types == ["int64", "string", "double", "binary", "null"]
    assert table.column("r").to_pylist() == [0.5, 1.0]
    assert a.execute("SELECT id FROM t WHERE id < 0").fetch_arrow_table().num_rows == 0
    with pytest.raises(dbapi.ProgrammingError, match="column v"):
        a.execute("SELECT 1 AS v UNION ALL SELECT 'x'").fetch_arrow_table()
    with dbapi.connect(url(machine, "a,b")) as connection:
        found = connection.execute("SELECT * FROM t").fetch_arrow_table()
        assert isinstance(found, pyarrow.Table) and found.num_rows == 3


def test_the_client_gathers_tables(machine):
    """With its own templates, and what is missing in the schema's metadata."""
    with TroughClient(machine.metadata_url) as client:
        table = client.gather_arrow(["a", "b"], "SELECT id, v FROM t WHERE id > %s", [1])
        assert sorted(table.to_pylist(), key=lambda row: row["id"]) == [
            {"id": 2, "v": None},
            {"id": 3, "v": "y"},
        ]
        table = client.gather_arrow(["a", "nowhere"], "SELECT id FROM t", partial=True)
        assert list(json.loads(table.schema.metadata[b"trough.missing"])) == ["nowhere"]
        with pytest.raises(TroughException, match="nothing") as raised:
            client.gather_arrow("^[ab]$", "SELECT nothing FROM t")
        assert raised.value.code == "bad-sql"


def test_asyncio_reads_and_writes(machine):
    """One segment, many, and a result without end that is left."""

    async def use():
        async with await aio.connect(url(machine, "c?create=yes")) as connection:
            await connection.write("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
            assert await connection.write("INSERT INTO t VALUES (?, ?)", [4, "z"]) == 1
            async with await connection.query(ENDLESS) as endless:
                assert endless.columns[0] == "n"
                assert (await anext(aiter(endless)))[0] == 1
            with pytest.raises(errors.BadSql, match="nothing"):
                await connection.query("SELECT nothing")
            table = await (await connection.query("SELECT v FROM t")).fetch_arrow_table()
            assert table.to_pydict() == {"v": ["z"]}
            connection.timeout = 0.3
            with pytest.raises(errors.DeadlineExceeded):
                await connection.query(f"SELECT count(*) FROM ({ENDLESS})")
        many = await aio.connect(machine.metadata_url, matching="^[ac]$")
        async with many:
            result = await many.query("SELECT id FROM t WHERE id > :id ORDER BY 1", {"id": 1})
            assert await result.fetchall() == [(2,), (4,)]

    asyncio.run(use())


def test_tls_and_tokens(tmp_path):
    """Both drivers prove a token over TLS, and believe no other CA and no other token."""
    authority = CertificateAuthority(tmp_path / "ca")
    files = authority.issue("127.0.0.1")
    secured = Machine(
        tmp_path,
        MINIMUM_ASSIGNMENTS="1",
        WORKER_TTL="60",
        AUTH_TOKEN="open-sesame-open",
        TLS_CERT=str(files.certificate),
        TLS_KEY=str(files.key),
        TLS_CA=authority.ca,
    )

    async def read_by_asyncio(address, **options):
        async with await aio.connect(address, **options) as connection:
            return await (await connection.query("SELECT x FROM t")).fetchall()

    with secured:
        secured.sync("s1").wait_ready()
        secured.worker("w1").wait_ready()
        address = url(secured, "a?tls=yes")
        known = {"token": "open-sesame-open", "tls_ca": authority.ca}
        with dbapi.connect(address, **known) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS x")
            large = connection.execute("SELECT zeroblob(3000000)").fetchone()
            assert large == (bytes(3000000),)
        assert asyncio.run(read_by_asyncio(address, **known)) == [(1,)]
        other = CertificateAuthority(tmp_path / "other").ca
        for wrong, code in (
            ({"token": "wrong"}, "unauthorized"),
            ({"tls_ca": other}, "unavailable"),
        ):
            with pytest.raises(dbapi.OperationalError) as raised:
                dbapi.connect(address, **{**known, **wrong})
            assert raised.value.code == code
            with pytest.raises(errors.TroughError) as failed:
                asyncio.run(read_by_asyncio(address, **{**known, **wrong}))
            assert failed.value.code == code
        with pytest.raises(dbapi.OperationalError, match="no TLS"):
            dbapi.connect(url(secured, "a"), **known)
