"""SQLite's SQL as sqlglot reads and writes it, with nothing changed on the way.

sqlglot's own SQLite dialect is made for translation: it renames functions, drops a unary
plus, turns types into others and rewrites JSON paths. A query that is pushed down to segments must
keep its meaning. So this dialect keeps every function's name, every cast's type and every operator
unchanged.

This dialect alone does not guarantee that. A tree is trusted only after
:mod:`trough.gather.normal_form` has checked that SQLite compiles the output of :func:`write` into
the same program as the user's text.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.sqlite import SQLite
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.generators.sqlite import SQLiteGenerator
from sqlglot.parsers.sqlite import SQLiteParser
from sqlglot.tokens import TokenType


class Plus(exp.Unary):
    """``+x``: the same value without the affinity of a column."""


class PrefixNot(exp.Unary):
    """``NOT x``; :class:`sqlglot.exp.Not` is the NOT inside IS NOT, NOT IN and NOT BETWEEN."""


class JsonArrow(exp.Expression, exp.Binary):
    """``x -> path``."""


class JsonLongArrow(exp.Expression, exp.Binary):
    """``x ->> path``."""


class CastAs(exp.Expression):
    """``CAST(x AS type)`` with the type's words as they were written."""

    arg_types = {"this": True, "to": True}


class Place(exp.Expression):
    """A term of ORDER BY or GROUP BY that means an output by its number, from 1."""

    arg_types = {"this": True}

    @property
    def number(self) -> int:
        """From 1."""
        return int(self.args["this"])


class Clock(exp.Expression):
    """``CURRENT_TIMESTAMP`` and the like, where they are no names of columns."""

    arg_types = {"this": True}


class Still(exp.Expression):
    """A call of a time function whose time value is not now; see :mod:`.nondeterminism`."""

    arg_types = {"this": True}


class Part(exp.Expression):
    """A SELECT that is answered by itself: ``this`` is the text of its last step."""

    arg_types = {"this": True}


#: Words that are the time without being functions, and how they write it.
CURRENT = {
    "current_date": "%Y-%m-%d",
    "current_time": "%H:%M:%S",
    "current_timestamp": "%Y-%m-%d %H:%M:%S",
}

#: SQLite's binary operators.
OPERATORS: dict[type, str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
    exp.BitwiseAnd: "&",
    exp.BitwiseOr: "|",
    exp.BitwiseLeftShift: "<<",
    exp.BitwiseRightShift: ">>",
    exp.DPipe: "||",
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.And: "AND",
    exp.Or: "OR",
    exp.Is: "IS",
    exp.NullSafeEQ: "IS",
    exp.NullSafeNEQ: "IS NOT",
    exp.Like: "LIKE",
    exp.Glob: "GLOB",
    exp.Match: "MATCH",
    exp.RegexpLike: "REGEXP",
    exp.Collate: "COLLATE",
    JsonArrow: "->",
    JsonLongArrow: "->>",
}


def _operator(node: exp.Expr) -> str:
    negated = "NOT " if node.args.get("negate") else ""
    return negated + OPERATORS[type(node)]


def _chain(generator: SQLiteGenerator, node: exp.Expr) -> str:
    """A binary operator; a long sum leans to the left, and is no recursion."""
    spine: list[exp.Expr] = []
    first = node
    while type(first) in OPERATORS:
        spine.append(first)
        first = first.this
    text = generator.sql(first)
    for each in reversed(spine):
        text = f"{text} {_operator(each)} {generator.sql(each.expression)}"
        # The caller adds the parentheses of the outermost.
        if each is not node:
            text = f"({text})"
            generator.texts[id(each)] = text  # type: ignore[attr-defined]
    return text


def _not(generator: SQLiteGenerator, node: exp.Not) -> str:
    inner = node.this
    if isinstance(inner, exp.Is):
        return f"{generator.sql(inner.this)} IS NOT {generator.sql(inner.expression)}"
    if isinstance(inner, exp.Between):
        low, high = generator.sql(inner, "low"), generator.sql(inner, "high")
        return f"{generator.sql(inner.this)} NOT BETWEEN {low} AND {high}"
    if isinstance(inner, exp.In):
        return _in(generator, inner, "NOT IN")
    if type(inner) in OPERATORS:
        operator = f"NOT {_operator(inner)}"
        return f"{generator.sql(inner.this)} {operator} {generator.sql(inner.expression)}"
    raise SqlglotError("NOT in a place that is not SQLite's")


def _in(generator: SQLiteGenerator, node: exp.In, operator: str = "IN") -> str:
    left = generator.sql(node.this)
    query, field = node.args.get("query"), node.args.get("field")
    if query is not None or field is not None:
        return f"{left} {operator} {generator.sql(query or field)}"
    values = ", ".join(generator.sql(each) for each in node.expressions)
    return f"{left} {operator} ({values})"


def _escape(generator: SQLiteGenerator, node: exp.Escape) -> str:
    # ESCAPE belongs to its LIKE: the two are one operator.
    like = node.this
    inner = like.this if isinstance(like, exp.Not) else like
    negated = "NOT " if isinstance(like, exp.Not) else ""
    left, right = generator.sql(inner.this), generator.sql(inner.expression)
    return f"{left} {negated}{_operator(inner)} {right} ESCAPE {generator.sql(node.expression)}"


def _unary(sign: str) -> Callable[[SQLiteGenerator, exp.Expr], str]:
    return lambda generator, node: f"{sign}{generator.sql(node.this)}"


_IN_PARENTHESES = (*OPERATORS, exp.Unary, exp.Not, exp.Between, exp.In, exp.Escape)


class Verbatim(SQLite):
    """See the module."""

    class Parser(SQLiteParser):
        # A function that sqlglot does not know is kept by name.
        FUNCTIONS: ClassVar[dict[Any, Any]] = {}
        FUNCTION_PARSERS = {"CAST": lambda self: self.parse_cast_as()}
        NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}
        # f(x -> 'a') is JSON here and no function of x.
        LAMBDAS: ClassVar[dict[Any, Any]] = {}
        NO_PAREN_FUNCTION_PARSERS = {"CASE": SQLiteParser.NO_PAREN_FUNCTION_PARSERS["CASE"]}
        UNARY_PARSERS = {
            **SQLiteParser.UNARY_PARSERS,
            TokenType.PLUS: lambda self: self.expression(Plus(this=self._parse_unary())),
            TokenType.NOT: lambda self: self.expression(PrefixNot(this=self._parse_equality())),
        }
        COLUMN_OPERATORS = {
            **SQLiteParser.COLUMN_OPERATORS,
            TokenType.ARROW: lambda self, this, path: self.expression(
                JsonArrow(this=this, expression=path)
            ),
            TokenType.DARROW: lambda self, this, path: self.expression(
                JsonLongArrow(this=this, expression=path)
            ),
        }

        def _parse_join(self, *args: Any, **kwargs: Any) -> Any:
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
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            #: The text of each node that was written, by its identity.
            self.texts: dict[int, str] = {}

        TRANSFORMS = {
            **{key: how for key, how in SQLiteGenerator.TRANSFORMS.items() if key != exp.Select},
            **dict.fromkeys(OPERATORS, _chain),
            Plus: _unary("+"),
            exp.Neg: _unary("-"),
            exp.BitwiseNot: _unary("~"),
            PrefixNot: _unary("NOT "),
            CastAs: lambda self, e: f"CAST({self.sql(e, 'this')} AS {e.args['to']})",
            Place: lambda self, e: str(e.number),
            Part: lambda self, e: f"SELECT * FROM ({e.args['this']})",
            Clock: lambda self, e: e.name,
            Still: lambda self, e: self.sql(e, "this"),
            exp.Not: _not,
            exp.In: _in,
            exp.Escape: _escape,
        }

        def sql(self, expression: Any, key: str | None = None, comment: bool = True) -> str:
            """Every operator in parentheses: what is sent leaves nothing to precedence."""
            text = super().sql(expression, key, comment)
            if key is not None or not isinstance(expression, exp.Expr):
                return text
            if isinstance(expression, _IN_PARENTHESES):
                text = f"({text})"
            self.texts[id(expression)] = text
            return text


#: Of a statement that is read as a tree; what is longer is shipped. Some 70 µs each.
MOST_TOKENS = 50_000


def parse(sql: str) -> exp.Expr | None:
    """The tree of one statement, or None where sqlglot cannot read it, or it is too long."""
    dialect = Verbatim()
    try:
        tokens = dialect.tokenize(sql)
        if len(tokens) > MOST_TOKENS:
            return None
        statements = dialect.parser(error_level=ErrorLevel.RAISE).parse(tokens, sql)
    except (SqlglotError, RecursionError):
        return None
    found = [each for each in statements if each is not None]
    return found[0] if len(found) == 1 else None


def takes_json(node: exp.Expr) -> bool:
    """Whether `node` itself is a function that knows JSON from a text that looks like it."""
    return isinstance(node, exp.Anonymous) and node.name.lower().startswith(("json", "subtype"))


def gives_json(node: exp.Expr) -> bool:
    """Whether a value of `node` may be JSON to SQLite, and not just a text."""
    return node.find(JsonArrow) is not None or any(map(takes_json, node.find_all(exp.Anonymous)))


def names_all_columns(sql: str) -> bool:
    """Whether ``*`` or NATURAL JOIN stands for columns in `sql`, or that is unclear."""
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


def quotes_name(sql: str, name: str) -> bool:
    """Whether a name in quotes, which SQLite may take for a text, is `name`, in lower case."""
    if name not in sql.lower():
        return False
    try:
        tokens = sqlglot.tokenize(sql, read=Verbatim)
    except SqlglotError:
        return False
    names = [each for each in tokens if each.token_type == TokenType.IDENTIFIER]
    return any(each.text.lower() == name for each in names)


def has_word(sql: str, words: Container[str]) -> bool:
    """Whether one of `words`, in lower case, is a name in `sql`, or that is unclear."""
    try:
        tokens = sqlglot.tokenize(sql, read=Verbatim)
    except SqlglotError:
        return True
    return any(
        each.token_type != TokenType.STRING and each.text.lower() in words for each in tokens
    )


def without_limit(sql: str) -> str:
    """`sql` up to its outermost LIMIT, or to the semicolon that ends it."""
    try:
        tokens = sqlglot.tokenize(sql, read=Verbatim)
    except SqlglotError:
        return sql
    depth = 0
    for token in tokens:
        depth += (token.token_type == TokenType.L_PAREN) - (token.token_type == TokenType.R_PAREN)
        if not depth and token.token_type in (TokenType.LIMIT, TokenType.SEMICOLON):
            return sql[: token.start]
    return sql


# A star after one of these is no multiplication, and not that of count(*).
_BEFORE_ALL = frozenset(
    {TokenType.SELECT, TokenType.DISTINCT, TokenType.ALL, TokenType.COMMA, TokenType.DOT}
)


def write(node: exp.Expr) -> str:
    """`node` as SQL text, in which no operator's operands are left to precedence.

    :raises sqlglot.errors.SqlglotError: there is no such SQL in SQLite
    """
    return _written(node)[0]


def texts_of(node: exp.Expr) -> dict[int, str]:
    """The texts of `node` and of all nodes in it, by their identities.

    :raises sqlglot.errors.SqlglotError: as in :func:`write`
    """
    return _written(node)[1]


def _written(node: exp.Expr) -> tuple[str, dict[int, str]]:
    generator: Any = Verbatim().generator(
        comments=False, normalize_functions=False, unsupported_level=ErrorLevel.RAISE
    )
    return generator.generate(node, copy=False), generator.texts
