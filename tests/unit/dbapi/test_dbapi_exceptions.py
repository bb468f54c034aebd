"""Codes of errors as exceptions of PEP 249."""

from __future__ import annotations

import pytest

from trough import dbapi, errors
from trough.dbapi.exceptions import translated

EXPECTED = {
    "bad-sql": dbapi.ProgrammingError,
    "bad-name": dbapi.ProgrammingError,
    "forbidden-sql": dbapi.NotSupportedError,
    "cold": dbapi.NotSupportedError,
    "limit": dbapi.OperationalError,
    "too-large": dbapi.DataError,
    "unauthorized": dbapi.OperationalError,
    "no-segment": dbapi.OperationalError,
    "no-schema": dbapi.ProgrammingError,
    "timeout": dbapi.OperationalError,
    "cancelled": dbapi.OperationalError,
    "outcome-unknown": dbapi.OutcomeUnknown,
    "conflict": dbapi.OperationalError,
    "framing": dbapi.OperationalError,
    "internal": dbapi.InternalError,
}


@pytest.mark.parametrize("code", sorted(errors.BY_CODE))
def test_every_code_has_an_exception_that_keeps_it(code):
    """All are DatabaseError; InternalError is for bugs and for nothing else."""
    error = translated(errors.from_code(code, "the sentence"))
    assert isinstance(error, dbapi.DatabaseError)
    assert (error.code, str(error)) == (code, "the sentence")
    assert isinstance(error, EXPECTED.get(code, dbapi.DatabaseError))
    assert isinstance(error, dbapi.InternalError) == (code in ("internal", "bad-settings"))


@pytest.mark.parametrize(
    "text", ["UNIQUE constraint failed: t.id", "NOT NULL constraint failed: t.v"]
)
def test_constraints_are_integrity_errors(text):
    """As in sqlite3."""
    assert type(translated(errors.BadSql(text))) is dbapi.IntegrityError


def test_the_module_is_what_pep_249_asks_for():
    """Its names, and those that a connection has."""
    assert (dbapi.apilevel, dbapi.threadsafety, dbapi.paramstyle) == ("2.0", 1, "qmark")
    assert issubclass(dbapi.OutcomeUnknown, dbapi.OperationalError)
    for name in ("Warning", "Error", "IntegrityError", "NotSupportedError"):
        assert getattr(dbapi.Connection, name) is getattr(dbapi, name)
