"""A GATHER as an Arrow table, over the line protocol; see :meth:`TroughClient.gather_arrow`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from trough import dbapi
from trough.client.responses import TroughException


def gather_arrow(
    url: str,
    segments: Iterable[str] | str,
    sql: str,
    token: str | None,
    tls_ca: str | None,
    **options: Any,
) -> tuple[Any, dict[str, str], dict[str, str]]:
    """The table, why segments are missing from it, and the marks of those that are stale.

    :param url: of the metadata store
    :param options: see :func:`trough.drivers.target.parse_target`
    :raises TroughException: segments failed, there is no exact answer, or it fits no table
    """
    matching = segments if isinstance(segments, str) else None
    ids = None if isinstance(segments, str) else list(segments)
    try:
        connection = dbapi.connect(
            url, segments=ids, matching=matching, token=token, tls_ca=tls_ca, **options
        )
        with connection, connection.cursor() as cursor:
            table = cursor.execute(sql).fetch_arrow_table()
            missing, states = cursor.missing, cursor.states
    except dbapi.Error as error:
        failure = TroughException(error, sql.encode())
        failure.code = error.code or failure.code
        raise failure from error
    notes = {b"trough.missing": missing, b"trough.stale": states}
    metadata = {name: json.dumps(value).encode() for name, value in notes.items() if value}
    return (table.replace_schema_metadata(metadata) if metadata else table), missing, states
