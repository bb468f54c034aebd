"""SQLite's SQL as sqlglot reads and writes it, with nothing changed on the way.

sqlglot's own SQLite dialect is made for translation: it renames functions, drops a unary
plus, turns types into others and rewrites JSON paths. What is pushed down to segments has
to mean what was written, so this dialect keeps every function's name, every cast's type
and every operator as they stand.

It promises no fidelity of its own: a tree is trusted only after :mod:`trough.gather.planner`
has seen SQLite compile what :func:`parenthesised` writes into the very program that it
compiles the user's text into.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.sqlite import SQLite
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.generators.sqlite import SQLiteGenerator
from sqlglot.parsers.sqlite import SQLiteParser
from sqlglot.tokens import TokenType


class Plus(exp.Unary):
    """``+x``: the same value without the affinity of a column."""


class Arrow(exp.Expression, exp.Binary):
    """``x -> path``."""


class LongArrow(exp.Expression, exp.Binary):
    """``x ->> path``."""


class CastAs(exp.Expression):
    """``CAST(x AS type)`` with the type's words as they were written."""

    arg_types = {"this": True, "to": True}


def _not(generator: SQLiteGenerator, node: exp.Not) -> str:
    inner = node.this
    if isinstance(inner, exp.Is):
        # In SQLite IS NOT is an operator of its own, and compiled as such.
        return f"{generator.sql(inner, 'this')} IS NOT {generator.sql(inner, 'expression')}"
    return f"NOT {generator.sql(node, 'this')}"


class Verbatim(SQLite):
    """See the module."""

    class Parser(SQLiteParser):
        # A function that sqlglot does not know is kept by name.
        FUNCTIONS: ClassVar[dict] = {}
        FUNCTION_PARSERS = {"CAST": lambda self: self.parse_cast_as()}
        NO_PAREN_FUNCTIONS: ClassVar[dict] = {}
        UNARY_PARSERS = {
            **SQLiteParser.UNARY_PARSERS,
            TokenType.PLUS: lambda self: self.expression(Plus(this=self._parse_unary())),
        }
        COLUMN_OPERATORS = {
            **SQLiteParser.COLUMN_OPERATORS,
            TokenType.ARROW: lambda self, this, path: self.expression(
                Arrow(this=this, expression=path)
            ),
            TokenType.DARROW: lambda self, this, path: self.expression(
                LongArrow(this=this, expression=path)
            ),
        }

        def _parse_join(self, *args, **kwargs):
            comma = self._curr is not None and self._curr.token_type == TokenType.COMMA
            join = super()._parse_join(*args, **kwargs)
            if comma and isinstance(join, exp.Join):
                # A comma leaves SQLite free to choose the order of the join; CROSS does not.
                join.set("kind", None)
            return join

        def parse_cast_as(self) -> exp.Expr:
            this = self._parse_disjunction()
            if not self._match(TokenType.ALIAS):
                self.raise_error("expected AS in CAST")
            words, depth = [], 0
            while self._curr and (depth or self._curr.token_type != TokenType.R_PAREN):
                depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(self._curr.token_type, 0)
                words.append(self._curr.text)
                self._advance()
            return self.expression(CastAs(this=this, to=" ".join(words)))

    class Generator(SQLiteGenerator):
        TRANSFORMS = {
            **SQLiteGenerator.TRANSFORMS,
            Plus: lambda self, e: f"+{self.sql(e, 'this')}",
            Arrow: lambda self, e: self.binary(e, "->"),
            LongArrow: lambda self, e: self.binary(e, "->>"),
            CastAs: lambda self, e: f"CAST({self.sql(e, 'this')} AS {e.args['to']})",
            exp.Not: _not,
        }


def parse(sql: str) -> exp.Expr | None:
    """The tree of one statement, or None where sqlglot cannot read it."""
    try:
        statements = sqlglot.parse(sql, read=Verbatim, error_level=ErrorLevel.RAISE)
    except (SqlglotError, RecursionError):
        return None
    found = [each for each in statements if each is not None]
    return found[0] if len(found) == 1 else None


def takes_json(node: exp.Expr) -> bool:
    """Whether `node` itself is a function that knows JSON from a text that looks like it."""
    return isinstance(node, exp.Anonymous) and node.name.lower().startswith(("json", "subtype"))


def gives_json(node: exp.Expr) -> bool:
    """Whether a value of `node` may be JSON to SQLite, and not just a text."""
    return node.find(Arrow) is not None or any(map(takes_json, node.find_all(exp.Anonymous)))


def names_all_columns(sql: str) -> bool:
    """Whether ``*`` or NATURAL JOIN stands for columns in `sql`, or it is not to be told."""
    try:
        tokens = sqlglot.tokenize(sql, read=Verbatim)
    except SqlglotError:
        return True
    before = None
    for token in tokens:
        if token.token_type == TokenType.STAR and before in _BEFORE_ALL:
            return True
        if token.token_type == TokenType.NATURAL:
            return True
        before = token.token_type
    return False


# A star after one of these is no multiplication, and not that of count(*).
_BEFORE_ALL = frozenset(
    {TokenType.SELECT, TokenType.DISTINCT, TokenType.ALL, TokenType.COMMA, TokenType.DOT}
)


def write(node: exp.Expr) -> str:
    """`node` as SQL text.

    :raises sqlglot.errors.SqlglotError: there is no such SQL in SQLite
    """
    return node.sql(
        Verbatim, comments=False, normalize_functions=False, unsupported_level=ErrorLevel.RAISE
    )


def parenthesised(node: exp.Expr) -> str:
    """`node` as SQL text in which no operator's operands are left to precedence.

    sqlglot's precedences are not all SQLite's; text alone would hide a tree that is wrong.
    """
    return write(rewritten(node, _in_parentheses))


def rewritten(node: exp.Expr, change: Callable[[exp.Expr], exp.Expr]) -> exp.Expr:
    """A copy of `node` in which `change` was applied to every node, leaves first.

    sqlglot's own ``transform`` does not look into what it has replaced.
    """
    return _rewrite(node.copy(), change)


def _rewrite(node: exp.Expr, change: Callable[[exp.Expr], exp.Expr]) -> exp.Expr:
    for child in list(node.iter_expressions()):
        changed = _rewrite(child, change)
        if changed is not child:
            child.replace(changed)
    return change(node)


def _in_parentheses(node: exp.Expr) -> exp.Expr:
    bare = isinstance(node, (exp.Binary, exp.Unary, exp.Between, exp.In)) and not isinstance(
        node, (exp.Paren, exp.Dot)
    )
    # ESCAPE belongs to its LIKE, and IS NOT is written by the NOT around it.
    attached = isinstance(node.parent, exp.Escape) and node.arg_key == "this"
    attached = attached or (isinstance(node, exp.Is) and isinstance(node.parent, exp.Not))
    # A copy, as the node itself is about to be replaced by what holds it.
    return exp.Paren(this=node.copy()) if bare and not attached else node
