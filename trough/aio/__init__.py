"""Trough for asyncio: one segment, or many as one database. It uses no Twisted, and threads only
for look-ups in a registry::

    from trough import aio

    async with await aio.connect("trough://localhost:6110/300001") as connection:
        async for (url,) in await connection.query("SELECT url FROM crawled_url"):
            ...

It follows the rules of :mod:`trough.dbapi` by the same code (:mod:`trough.drivers`), and raises
the errors of :mod:`trough.errors`. ``docs/drivers.rst`` describes URLs and options.
"""

from __future__ import annotations

from trough.aio.connection import Connection, Result, connect

__all__ = ["Connection", "Result", "connect"]
