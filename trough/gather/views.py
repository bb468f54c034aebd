"""Views in the texts of segments that lack them, or what they are made of.

A view belongs to the union: whichever segment defines it, it runs over the tables of each.
In a segment of another shape it is written out as a table of WITH, beside tables that look
as the union's do. Its text is taken as it stands, from behind AS to its end; only the words
in it are read, and a word that is a table's name is taken for the table, so that more may be
looked after than has to be.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlglot
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from trough.gather import sqlite_helpers
from trough.gather.dialect import Verbatim
from trough.gather.schema import Schema, Table


def with_what_is_beneath(names: Iterable[str], schema: Schema) -> frozenset[str]:
    """`names` of tables and views, and of all that these views may read."""
    found: set[str] = set()
    new = set(names)
    while new:
        found |= new
        views = [schema.tables[name] for name in new if schema.tables[name].is_view]
        words = {sqlite_helpers.folded(each.text) for view in views for each in _tokens(view.sql)}
        new = {word for word in words if word in schema.tables} - found
    return frozenset(found)


def written_out(core: str, views: Iterable[Table], tables: Iterable[tuple[Table, str]]) -> str:
    """`core` with `views` that are not there.

    :param core: a SELECT
    :param tables: those that have to be looked at otherwise, and the SELECTs for that
    """
    parts = [f"{sqlite_helpers.name(table.name)} AS ({select})" for table, select in tables]
    parts += [definition for view in views if (definition := _definition(view))]
    # WITH tables of the user's own are further inside, and go first.
    return f"SELECT * FROM (WITH {', '.join(parts)} SELECT * FROM ({core}))" if parts else core


def _definition(view: Table) -> str:
    """The view as a table of WITH; empty where its text cannot be read."""
    tokens = _tokens(view.sql)
    as_ = next((each for each in tokens if each.token_type == TokenType.ALIAS), None)
    if as_ is None or len(tokens) < 4:
        return ""
    # CREATE VIEW name (columns) AS query
    columns = view.sql[tokens[2].end + 1 : as_.start]
    return f"{sqlite_helpers.name(view.name)} {columns} AS ({view.sql[as_.end + 1 :]}\n)"


def _tokens(sql: str) -> list[Token]:
    try:
        return sqlglot.tokenize(sql, read=Verbatim)
    except SqlglotError:
        return []
