"""Which of the ways to divide one SELECT is taken."""

from __future__ import annotations

from sqlglot import exp

from trough.gather.analysis import NotPushed, Relation
from trough.gather.grouped import grouped, is_grouped
from trough.gather.nondeterminism import is_moving
from trough.gather.pushdown import PARTIAL, Pushdown, check_known, ordered, plain
from trough.gather.union_database import SEGMENT
from trough.gather.united import united


def divided(relation: Relation, table: str = PARTIAL) -> Pushdown:
    """Divide a SELECT between the segments and the asker.

    :param table: of the scratch database, for the partial rows
    :raises NotPushed: it cannot be divided exactly
    """
    moving = is_moving(relation.tree, relation.parameters)
    if not relation.within:
        if moving:
            raise NotPushed("its value moves, by clock, chance or time zone")
        return _divided_rows(relation, table)
    if moving:
        return united(relation, table)
    try:
        return _divided_rows(relation, table)
    except NotPushed:
        # Within segments rows of two segments do not meet before they are united.
        return united(relation, table)


def _divided_rows(relation: Relation, table: str) -> Pushdown:
    _check_segment(relation)
    for clause in ("from_", "where"):
        part = relation.tree.args.get(clause)
        if part is not None:
            check_known(part)
    if is_grouped(relation):
        return grouped(relation, table)
    if any(True for _ in relation.tree.find_all(exp.Window)):
        raise NotPushed("a window function needs all rows at once")
    args = relation.tree.args
    if args.get("order") is not None or args.get("distinct") is not None:
        return ordered(relation, table)
    return plain(relation, table)


def _check_segment(relation: Relation) -> None:
    """Refuse uses of a segment's name that segments cannot compute."""
    from_ = relation.tree.args.get("from_")
    if from_ is not None and relation.mentions_segment(from_):
        raise NotPushed(f"{SEGMENT} is inside a subquery")
    where = relation.tree.args.get("where")
    if where is not None and relation.mentions_segment(where):
        raise NotPushed(f"{SEGMENT} and columns are in one condition")
    joins = relation.tree.args.get("joins") or ()
    if any(map(relation.mentions_segment, joins)):
        raise NotPushed(f"{SEGMENT} is compared inside a join")
    if any(map(relation.nullable_segment, relation.tree.find_all(exp.Column))):
        raise NotPushed(f"{SEGMENT} of rows that an outer join adds")
