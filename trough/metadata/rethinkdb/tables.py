"""Database, tables and indexes of a Trough in RethinkDB: made when missing, and waited for.

If two clients ask at once, RethinkDB makes two tables (and, across servers, two databases) of one
name. Every query on that name fails then. Clients cannot prevent it, so opening a store also
repairs it. Of several with one name, the one with the smallest id keeps it, which every client
decides alike. The others are renamed, and dropped if they are empty. Existing tables are used as
they are.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from rethinkdb import errors as reql
from twisted.logger import Logger

from trough import errors
from trough.metadata import Replicas
from trough.metadata.rethinkdb import writes as changes
from trough.metadata.rethinkdb.cluster import Ambiguous, RethinkCluster
from trough.metadata.rethinkdb.terms import DURABLE, TABLES, RethinkRefused, r
from trough.model import DEFAULT_SCHEMA

_log = Logger()

#: Copies of each table, where there are as many servers.
REPLICAS = 3

#: Seconds until other servers and other clients have shown that they made the same.
SETTLING = 0.5

#: Looks at the tables until that is given up. Six clients that started together on an
#: empty server needed up to four.
ROUNDS = 40


def duplicates(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of several databases or tables with one name that have to give it up."""
    by_name = defaultdict(list)
    for row in rows:
        by_name[row["name"]].append(row)
    return [row for same in by_name.values() for row in sorted(same, key=lambda row: row["id"])[1:]]


def weak_tables(servers: int, tables: Iterable[Mapping[str, Any]]) -> dict[str, Replicas]:
    """Trough's tables that have fewer replicas than there should be, or some that are not ready.

    :param servers: that are connected
    :param tables: ``name``, and ``shards``: the states of the replicas of each
    """
    wanted = min(REPLICAS, servers)
    found = {}
    for table in tables:
        shards = table["shards"] or [[]]
        ready = min(sum(state == "ready" for state in shard) for shard in shards)
        count = min(len(shard) for shard in shards)
        if table["name"] in TABLES and (ready < count or count < wanted):
            found[table["name"]] = Replicas(ready, count, max(count, wanted))
    return found


async def make_tables(cluster: RethinkCluster, ready: bool = True) -> None:
    """Make sure that everything exists, once, and can be written to.

    :param ready: whether to wait until existing tables can be written to; tables without a
        majority of their servers can still be read
    :raises trough.errors.Unavailable: that is not so within the deadline
    """
    database = cluster.address.database
    if not ready and await _all_there(cluster, database):
        return
    for _ in range(ROUNDS):
        # Looked at again before anything is written: somebody may have made the same.
        with suppress(Ambiguous):
            if not await _make_missing(cluster, database):
                for name, indexes in TABLES.items():
                    await _indexes(cluster, name, indexes)
                await cluster.run(changes.put_default_schema(DEFAULT_SCHEMA), DURABLE)
                return
        await cluster.pause(SETTLING)
    raise errors.Unavailable(
        f"the tables of {cluster.address} do not come to rest",
        "look for several of one name in rethinkdb.table_config and rethinkdb.db_config",
    )


async def _all_there(cluster: RethinkCluster, database: str) -> bool:
    table_config = r.db("rethinkdb").table("table_config")
    there = await _listed(cluster, table_config.filter({"db": database}))
    return sorted(row["name"] for row in there if row["name"] in TABLES) == sorted(TABLES)


async def _make_missing(cluster: RethinkCluster, database: str) -> bool:
    """Make or clear up one step; whether there was anything to do."""
    system = r.db("rethinkdb")
    databases = await _listed(cluster, system.table("db_config").filter({"name": database}))
    if not databases:
        await _made(cluster, r.db_create(database))
        return True
    if await _clear_up(cluster, "db_config", databases, _drop_empty_database):
        return True
    tables = await _listed(cluster, system.table("table_config").filter({"db": database}))
    missing = TABLES.keys() - {row["name"] for row in tables}
    if missing:
        await _make_tables(cluster, missing)
        return True
    return await _clear_up(cluster, "table_config", tables, _drop_empty_table)


async def _make_tables(cluster: RethinkCluster, missing: Iterable[str]) -> None:
    # Those who start together rarely do it together then.
    await cluster.pause(random.uniform(0, SETTLING))
    servers = await cluster.run(r.db("rethinkdb").table("server_status").count())
    there = await cluster.run(r.table_list())
    for name in sorted(set(missing) - set(there)):
        await _made(cluster, r.table_create(name, replicas=min(REPLICAS, servers)))


async def _clear_up(
    cluster: RethinkCluster,
    config: str,
    rows: Iterable[Mapping[str, Any]],
    drop_empty: Callable[[RethinkCluster, str], Awaitable[None]],
) -> bool:
    surplus = duplicates(rows)
    for row in surplus:
        name = f"{row['name']}_duplicate_{row['id'].replace('-', '')}"
        _log.warn("renaming {old}, made twice, to {new}", old=row["name"], new=name)
        place = r.db("rethinkdb").table(config).get(row["id"])
        await cluster.run(place.update({"name": name}))
        await drop_empty(cluster, name)
    return bool(surplus)


async def _drop_empty_table(cluster: RethinkCluster, name: str) -> None:
    try:
        await cluster.run(r.table(name).wait(timeout=cluster.deadline / 2), patient=False)
        if await cluster.run(r.table(name).limit(1).count(), patient=False) == 0:
            await cluster.run(r.table_drop(name), patient=False)
    except (reql.ReqlError, RethinkRefused) as error:
        # Somebody else is clearing up as well.
        _log.info("left {name} alone: {error}", name=name, error=error.message)


async def _drop_empty_database(cluster: RethinkCluster, name: str) -> None:
    try:
        if not await cluster.run(r.db(name).table_list(), patient=False):
            await cluster.run(r.db_drop(name), patient=False)
    except (reql.ReqlError, RethinkRefused) as error:
        _log.info("left {name} alone: {error}", name=name, error=error.message)


async def _listed(cluster: RethinkCluster, term: Any) -> list[Mapping[str, Any]]:
    return await cluster.run(term.coerce_to("array"))


async def _made(cluster: RethinkCluster, term: Any) -> None:
    """Run a term that makes something, unless somebody else has made it meanwhile."""
    try:
        await cluster.run(term, patient=False)
    except Exception as error:
        if "already exists" not in str(error):
            raise


async def _indexes(cluster: RethinkCluster, name: str, indexes: tuple[str, ...]) -> None:
    table = r.table(name)
    await cluster.run(table.wait(wait_for="ready_for_writes", timeout=cluster.deadline))
    for index in set(indexes) - set(await cluster.run(table.index_list())):
        await _made(cluster, table.index_create(index))
    if indexes:
        await cluster.run(table.index_wait(r.args(list(indexes))))
