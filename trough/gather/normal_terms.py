"""Small questions about a tree on its way to the normal form."""

from __future__ import annotations

from sqlglot import exp

from trough.gather.dialect import Plus, write
from trough.gather.scopes import Unresolved, quoted


def name_of(item: exp.Expr) -> str:
    """The name that an item has in the SELECT around; empty where that is a text."""
    if isinstance(item, exp.Alias):
        return item.alias
    bare = stripped(item)
    while isinstance(bare, exp.Collate):
        bare = stripped(bare.this)
    if isinstance(bare, exp.Column):
        return bare.name
    try:
        return write(item)
    except Exception:
        # Only a name that the text may use; see the module about wrong guesses.
        return ""


def rename(query: exp.Expr, names: list[str]) -> None:
    """Give the items of a query other names."""
    while isinstance(query, exp.SetOperation):
        query = query.this
    if not isinstance(query, exp.Select) or len(query.expressions) != len(names):
        raise Unresolved("the columns of a view")
    for item, name in zip(query.expressions, names, strict=True):
        item.set("alias", quoted(name))


def term_of(term: exp.Ordered) -> tuple[exp.Expr, exp.Expr]:
    """What holds the expression of an ORDER BY term, and that: behind parentheses, COLLATE."""
    term.set("this", stripped(term.this))
    holder: exp.Expr = term
    while isinstance(holder.this, exp.Collate):
        holder = holder.this
        holder.set("this", stripped(holder.this))
    return holder, holder.this


def integer(node: exp.Expr) -> int | None:
    """The value of what SQLite takes for a plain integer, signs included."""
    sign = 1
    node = stripped(node)
    while isinstance(node, (Plus, exp.Neg)):
        sign = -sign if isinstance(node, exp.Neg) else sign
        node = stripped(node.this)
    if isinstance(node, exp.Literal) and not node.is_string and node.this.isdigit():
        value = sign * int(node.this)
        return value if abs(value) < 2**31 else None
    return None


def check_no_position(term: exp.Expr) -> None:
    """Refuse a term of ORDER BY or GROUP BY that SQLite may turn into a number.

    It takes ``'x' NOT NULL`` for 1, and that for a position.

    :raises Unresolved: it is constant, and more than one value
    """
    plain = (exp.Literal, exp.Null, exp.Placeholder, exp.HexString)
    if not isinstance(term, plain) and term.find(exp.Column, *_NOT_CONSTANT) is None:
        raise Unresolved("a constant in ORDER BY or GROUP BY may be a position")


_NOT_CONSTANT = (exp.Anonymous, exp.Select, exp.Window)


def stripped(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def unwrapped(node: exp.Expr) -> exp.Expr:
    """The query in parentheses."""
    while isinstance(node, (exp.Subquery, exp.Paren)):
        node = node.this
    return node
