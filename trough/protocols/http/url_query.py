"""Parses the URL of a GET: SQL, its parameters, a format. All checked.

A field that is no option is the value of a named parameter of the SQL: ``sql=... WHERE id = :id``
and ``id=5``. One that the SQL does not name is refused, for it may be a misspelt option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trough import errors
from trough.protocols.http.negotiation import CONTENT_TYPES, ReplyFormat, reply_for
from trough.protocols.http.request import Request, as_text, write_response
from trough.protocols.line.values import Parameters, decode_parameters

#: Named parameters of one URL; a URL of that many is not written by hand.
_MOST_PARAMETERS = 1000


@dataclass(frozen=True, slots=True)
class UrlQuery:
    """A query in a URL.

    :ivar options: the others, by name, each once
    :ivar parameters: for the places of the SQL, or None
    """

    sql: str
    options: Mapping[str, str]
    parameters: Parameters | None
    reply: ReplyFormat


def url_query(request: Request, known: frozenset[str]) -> UrlQuery:
    """The query that a request's URL asks.

    :param known: further options
    :raises trough.errors.BadRequest: naming what is wrong
    """
    given = _given(request)
    sql = given.pop("sql", "")
    if not sql.strip():
        raise errors.BadRequest("no SQL is given", "add sql=SELECT... to the URL, percent-encoded")
    reply = reply_for(
        given.pop("format", None), request.header("accept"), request.header("accept-encoding")
    )
    bind = given.pop("bind", None)
    options = {name: given.pop(name) for name in known & given.keys()}
    named = {name.removeprefix(":"): value for name, value in given.items()}
    _check_named(sql, named, known)
    if bind is None:
        return UrlQuery(sql, options, named or None, reply)
    if named:
        raise errors.BadRequest("bind= and named parameters", "give all of them in bind=")
    return UrlQuery(sql, options, decode_parameters(bind.encode()), reply)


def url_options(request: Request, known: frozenset[str]) -> dict[str, str]:
    """The parameters of a URL that asks no query.

    :raises trough.errors.BadRequest: there are others, or one is given twice
    """
    given = _given(request)
    if unknown := given.keys() - known:
        names = ", ".join(sorted(unknown))[:200]
        raise errors.BadRequest(f"unknown parameters: {names}", f"known: {', '.join(known)}")
    return given


def _given(request: Request) -> dict[str, str]:
    found: dict[str, str] = {}
    if len(request.args) > _MOST_PARAMETERS:
        raise errors.TooLarge(f"the URL has more than {_MOST_PARAMETERS} parameters")
    for key, values in request.args.items():
        name = as_text(key)
        if len(values) != 1:
            raise errors.BadRequest(f"the parameter {name} is given {len(values)} times")
        found[name] = as_text(values[0])
    return found


def _check_named(sql: str, named: Mapping[str, str], known: frozenset[str]) -> None:
    unknown = [name for name in named if not any(f"{sign}{name}" in sql for sign in ":@$")]
    if unknown:
        options = ", ".join(sorted({"sql", "format", "bind", *known}))
        raise errors.BadRequest(
            f"unknown parameters: {', '.join(sorted(unknown))[:200]}",
            f"known: {options}, and those that the SQL names, such as :{unknown[0][:40]}",
        )


def answer_head(request: Request, query: UrlQuery) -> None:
    """Answer HEAD: what a GET would be answered with, as far as that is known without it."""
    write_response(request, 200, CONTENT_TYPES[query.reply.format].encode(), b"")
