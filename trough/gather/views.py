"""Views: what they are made of.

A view belongs to the union: whichever segment defines it, it runs over the tables of each.
In the normal form of a query it is written out. Which tables it reads is found out from the
words in its text alone: a word that is a table's name is taken for the table, so that more
may be looked after than has to be.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlglot
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from trough.gather import sqlite_helpers
from trough.gather.dialect import Verbatim
from trough.gather.schema import SegmentSchema


def with_what_is_beneath(names: Iterable[str], schema: SegmentSchema) -> frozenset[str]:
    """`names` of tables and views, and of all that these views may read."""
    found: set[str] = set()
    new = set(names)
    while new:
        found |= new
        views = [schema.tables[name] for name in new if schema.tables[name].is_view]
        words = {sqlite_helpers.folded(each.text) for view in views for each in _tokens(view.sql)}
        new = {word for word in words if word in schema.tables} - found
    return frozenset(found)


def body_of(sql: str) -> tuple[list[str], str]:
    """The names of a view's columns, where it lists them, and its query.

    :param sql: as in ``sqlite_schema``: ``CREATE VIEW name (columns) AS query``
    """
    tokens = _tokens(sql)
    place = next((n for n, each in enumerate(tokens) if each.token_type == TokenType.ALIAS), None)
    if place is None:
        return [], ""
    names = [
        each.text
        for each in tokens[3:place]
        if each.token_type not in (TokenType.L_PAREN, TokenType.R_PAREN, TokenType.COMMA)
    ]
    return names, sql[tokens[place].end + 1 :]


def _tokens(sql: str) -> list[Token]:
    try:
        return sqlglot.tokenize(sql, read=Verbatim)
    except SqlglotError:
        return []
