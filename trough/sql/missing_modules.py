"""Errors for what a statement or a file needs, and this SQLite is built without.

pysqlite3 has no ``geopoly``. A file with such a table can be served: its other tables can be read.
"""

from __future__ import annotations

import re

from trough import errors

_NO_SUCH_MODULE = re.compile(r"no such module: (\w+)")
_NO_GEOPOLY = re.compile(r"no such (?:module: geopoly$|function: geopoly_)", re.IGNORECASE)


def explained(message: str) -> errors.BadSql | None:
    """What is missing, and what to do; None where SQLite's message is about something else.

    :param message: of SQLite
    """
    if _NO_GEOPOLY.match(message):
        return errors.BadSql(
            f"{message} (the SQLite of this server is built without GEOPOLY; the segment's other "
            "tables can be read)",
            "keep shapes in an ordinary column as GeoJSON, and their bounding boxes in an rtree",
        )
    if _NO_SUCH_MODULE.match(message):
        return errors.BadSql(
            message, "this server has fts5, rtree and rtree_i32, and reads tables of fts3 and fts4"
        )
    return None
