"""The metadata store that a URL means, ready to be opened.

The one place that goes from a URL to a backend. A backend is imported only when a URL
asks for it, so that one machine needs no RethinkDB driver in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trough.metadata import Metadata
from trough.metadata.url import SqliteAddress, parse

if TYPE_CHECKING:
    from trough.executors.pool.task_pool import TaskPool


def open_metadata(
    url: str,
    reactor: Any,
    *,
    user: str = "",
    password: str = "",
    ca: str | None = None,
    patience: float | None = None,
    locate: Callable[[str], str] = str,
    tasks: TaskPool | None = None,
) -> Metadata:
    """Make the store; :meth:`Metadata.open` is still to be awaited.

    :param url: ``sqlite:///path`` or ``rethinkdb://[user:password@]host[:port],.../database``
    :param reactor: where its Deferreds and timers live
    :param user: for RethinkDB, unless the URL names one
    :param password: likewise
    :param ca: likewise, a file; see :class:`trough.metadata.url.RethinkAddress`
    :param patience: for people: seconds for which a call waits for RethinkDB to answer. It
        counts as open although nothing can be written, since there may be something to
        read. None, for servers: as long as a failover takes
    :param locate: what clients of RethinkDB read as the place of a canonical copy, from its
        path in canonical storage
    :param tasks: where patterns are matched; None: in processes of its own
    :raises trough.errors.BadSettings: naming what is wrong about the URL
    """
    address = parse(url, user, password, ca or "")
    if isinstance(address, SqliteAddress):
        from trough.metadata.sqlite.store import SqliteMetadata

        return SqliteMetadata(address.path, reactor, tasks=tasks, is_tool=patience is not None)
    from trough.metadata.rethinkdb.store import RethinkMetadata

    if patience is None:
        return RethinkMetadata(address, reactor, locate=locate, tasks=tasks)
    # A host that hangs has to be found out, and the next one asked, within that time.
    return RethinkMetadata(
        address, reactor, ready=False, deadline=patience, ping=patience / 4, tasks=tasks
    )
