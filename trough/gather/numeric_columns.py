"""Columns that every segment declares as numbers, some as INTEGER and some as REAL.

They hold no text that looks like a number, whichever of the two was declared. So it makes no
difference to a comparison with a number, or with another such column, which affinity they have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlglot import exp

from trough.gather.dialect import Plus
from trough.gather.schema import SegmentSchema
from trough.gather.scopes import source_of, table_of
from trough.gather.sqlite_helpers import folded

_NUMBERS = frozenset({"INT", "NUM", "REAL"})
_COMPARISONS = (
    *(exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE),
    *(exp.Is, exp.NullSafeEQ, exp.NullSafeNEQ),
)


def with_bare_numbers(
    tree: exp.Expr, schema: SegmentSchema, parameters: Mapping[str, Any]
) -> exp.Expr:
    """A copy of `tree` in which such columns, compared with numbers, have no affinity.

    :param tree: in normal form
    """
    judged = tree.copy()
    for node in list(judged.walk()):
        operands = list(_compared(node))
        kinds = [_kind(each, schema, parameters) for each in operands]
        if operands and all(kinds):
            for each, kind in zip(operands, kinds, strict=True):
                if kind == "declared in several ways":
                    each.replace(Plus(this=each.copy()))
    return judged


def _compared(node: exp.Expr) -> Iterator[exp.Expr]:
    """What a node compares with each other."""
    if isinstance(node, _COMPARISONS):
        yield from (node.this, node.expression)
    elif isinstance(node, exp.Between):
        yield from (node.this, node.args["low"], node.args["high"])
    elif isinstance(node, exp.In) and node.args.get("query") is None:
        yield from (node.this, *node.expressions)
    elif isinstance(node, exp.Case) and node.this is not None:
        yield node.this
        for branch in node.args["ifs"]:
            yield branch.this


def _kind(node: exp.Expr, schema: SegmentSchema, parameters: Mapping[str, Any]) -> str:
    """Why a node is no text that looks like a number; empty where it may be one."""
    bare = node
    while isinstance(bare, (exp.Neg, Plus)):
        bare = bare.this
    if isinstance(bare, exp.Null) or (isinstance(bare, exp.Literal) and not bare.is_string):
        return "number"
    if isinstance(bare, exp.Placeholder):
        value = parameters.get(bare.name, "")
        return "number" if value is None or isinstance(value, int | float) else ""
    if not isinstance(node, exp.Column):
        return ""
    table = table_of(source_of(node))
    key = (table, folded(node.name))
    declared = schema.declared.get(key)
    if declared is not None:
        known = all(each.affinity in _NUMBERS for each in declared)
        return "declared in several ways" if known else ""
    shape = schema.tables.get(table)
    columns = shape.columns if shape is not None else ()
    mine = [each for each in columns if folded(each.name) == key[1]]
    return "number" if mine and mine[0].affinity in _NUMBERS else ""
