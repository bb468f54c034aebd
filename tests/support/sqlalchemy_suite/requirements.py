"""What SQLAlchemy's suite may ask of Trough, where that is not its default, and why."""

from __future__ import annotations

from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements

closed, opened = exclusions.closed, exclusions.open

#: Requirements that are not met, and why.
MISSING = {
    # A segment is one database, without others beside it.
    "schemas": "no other database can be attached to a segment",
    "temp_table_reflection": "a segment's readers and writers share no connection",
    "temporary_tables": "a segment's readers and writers share no connection",
    "temporary_views": "a segment's readers and writers share no connection",
    # A write has no rows, and answers how many rows it changed.
    "implements_get_lastrowid": "a write does not give the id of its row",
    "dbapi_lastrowid": "a write does not give the id of its row",
    "insert_returning": "a write gives no rows",
    "update_returning": "a write gives no rows",
    "delete_returning": "a write gives no rows",
    # Each statement is a transaction.
    "savepoints": "there are no transactions over several statements",
    "two_phase_transactions": "there are no transactions over several statements",
    # SQLite's own dialect closes these, too.
    "parens_in_union_contained_select_w_limit_offset": "SQLite has no parentheses in UNION",
    "parens_in_union_contained_select_wo_limit_offset": "SQLite has no parentheses in UNION",
}


class Requirements(SuiteRequirements):
    """See the module."""

    @property
    def reflect_table_options(self):
        """SQLite's dialect reflects WITHOUT ROWID and STRICT."""
        return opened()

    @property
    def reflects_pk_names(self):
        """SQLite's dialect reflects them."""
        return opened()


for _name in MISSING:
    setattr(Requirements, _name, property(lambda self: closed()))
