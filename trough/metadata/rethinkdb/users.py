"""Users of RethinkDB, with the permissions that Trough and its clients need and no others.

Servers read and write the one database, and change its tables and indexes. Clients read it. Both
read tables of RethinkDB's own: which tables there are, their replicas, and the servers. Renaming
tables that were made twice (:mod:`trough.metadata.rethinkdb.tables`) needs to write one of these.
"""

from __future__ import annotations

from collections.abc import Sequence

from trough import errors
from trough.metadata import StoreUser
from trough.metadata.rethinkdb.cluster import RethinkCluster
from trough.metadata.rethinkdb.terms import r

#: Tables of RethinkDB's own that are read; and those that servers write as well.
_READ = ("db_config", "server_status", "table_config", "table_status")
_WRITTEN = ("table_config",)

#: Who may always do everything, and cannot be limited.
_SUPERUSER = "admin"


async def make_users(
    cluster: RethinkCluster, users: Sequence[StoreUser], new_passwords: bool
) -> set[str]:
    """See :meth:`trough.metadata.Metadata.make_users`."""
    if any(user.name == _SUPERUSER for user in users):
        raise errors.BadRequest(
            f"{_SUPERUSER} may do everything, always", "give a user of its own another name"
        )
    table = r.db("rethinkdb").table("users")
    there = set(await cluster.run(table["id"].coerce_to("array")))
    for user in users:
        if user.name not in there:
            await cluster.run(table.insert({"id": user.name, "password": user.password}))
        elif new_passwords:
            await cluster.run(table.get(user.name).update({"password": user.password}))
        await _grant(cluster, user)
    return {user.name for user in users if new_passwords or user.name not in there}


async def _grant(cluster: RethinkCluster, user: StoreUser) -> None:
    writes = user.writes
    database = r.db(cluster.address.database)
    await cluster.run(database.grant(user.name, {"read": True, "write": writes, "config": writes}))
    for name in _READ:
        may_write = writes and name in _WRITTEN
        own = r.db("rethinkdb").table(name)
        await cluster.run(own.grant(user.name, {"read": True, "write": may_write}))
