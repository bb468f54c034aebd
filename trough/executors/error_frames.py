"""Translates failures of executors to the errors that their callers get."""

from __future__ import annotations

from twisted.internet.defer import FirstError
from twisted.python.failure import Failure

from trough import errors


def error_of(code: str, message: str, hint: str) -> errors.TroughError:
    """The error that an executor reported."""
    error = errors.from_code(code, message)
    error.hint = hint
    return error


def its_reason(failure: Failure) -> Failure:
    """The original failure of the first of several calls."""
    assert isinstance(failure.value, FirstError)
    return failure.value.subFailure
