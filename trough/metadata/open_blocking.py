"""Opens the metadata store that a URL names, for programs without Twisted.

Only the engine that is used is imported.
"""

from __future__ import annotations

from trough.metadata.blocking import BlockingMetadata
from trough.metadata.url import SqliteAddress, parse


def open_blocking(url: str) -> BlockingMetadata:
    """The store that a URL means; nothing is connected before it is asked something.

    :param url: see :func:`trough.metadata.open.open_metadata`
    :raises trough.errors.BadSettings: naming what is wrong about the URL
    """
    address = parse(url)
    if isinstance(address, SqliteAddress):
        from trough.metadata.sqlite.blocking import BlockingSqlite

        return BlockingSqlite(address.path)
    from trough.metadata.rethinkdb.blocking import BlockingRethink

    return BlockingRethink(address)
