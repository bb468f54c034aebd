"""The text of an exception for people, without the names of Python's objects.

Libraries wrap the one useful error in several others, and print objects with their addresses.
Clients see such texts.
"""

from __future__ import annotations

import re

from twisted.internet.defer import CancelledError, TimeoutError

from trough.util.tls_problems import tls_problem

# "<urllib3.connection.HTTPConnection object at 0x7f...>: " and "HTTPPool(host='h', port=1): ",
# where the class may be a derived one with any name.
_OBJECTS = re.compile(r"<[^<>]*\bat 0x[0-9a-f]+[^<>]*>:? ?|\b\w+\(host=[^)]*\):? ?")


def innermost(error: BaseException) -> BaseException:
    """The error that the others wrap."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        error = _wrapped(error) or error
    return error


def _wrapped(error: BaseException) -> BaseException | None:
    reasons = getattr(error, "reasons", None)  # Failures, of Twisted's HTTP client
    if isinstance(reasons, list | tuple) and reasons:
        return getattr(reasons[0], "value", None)
    reason = getattr(error, "reason", None)  # urllib3's
    if isinstance(reason, BaseException):
        return reason
    return next((each for each in error.args if isinstance(each, BaseException)), None)


def error_text(error: BaseException) -> str:
    """One line: the text of the innermost error, or else its kind."""
    found = innermost(error)
    problem = tls_problem(found)
    if problem is not None:
        return problem
    if isinstance(found, TimeoutError) and found.args:  # of Deferred.addTimeout
        return f"nothing came within {found.args[0]:g} s"
    if isinstance(found, CancelledError):
        return "it was cancelled, as its time was over, its client gone or its server dead"
    return " ".join(_OBJECTS.sub("", str(found)).split()) or type(found).__name__
