"""Sessions of people who log in to the web console with a token.

``POST /session`` with the token in ``Authorization`` gives a cookie. ``DELETE /session`` ends the
session. The cookie is a random text that stands for the token's grant at this process
(:mod:`trough.access.timed_grants`). So it never has more rights than the token, and none once
that is removed. No script can read it, and a browser sends it only for pages of the same site.

A browser sends a cookie without being asked by a person, and to all ports of a host. So a cookie
counts only where the request shows that a page of this very server sends it:

* a GET must show no other origin (``Sec-Fetch-Site``, ``Origin``);
* any other request must prove its origin by one of these headers. Browsers always send
  ``Origin`` with such a request.
"""

from __future__ import annotations

from typing import Any

from trough import errors
from trough.access.gate import Gate
from trough.access.rights import Grant, names_of
from trough.protocols.http.browser_guard import proves_origin
from trough.protocols.http.request import Request, as_json
from trough.protocols.peer import encrypts


def session_grant(request: Request, gate: Gate) -> Grant | None:
    """What the session of a request gives; None: it has none, or shows a token besides."""
    if request.requestHeaders.hasHeader(b"authorization"):
        return None
    text = _session_of(request)
    return gate.sessions.get(text) if text else None


def check_session_origin(request: Request) -> None:
    """Refuse a request with nothing but a cookie unless a page of this server sends it.

    :raises trough.errors.ForeignPage: another page may send it
    """
    method = request.method.decode("ascii", "replace")
    if not proves_origin(method, request.header):
        raise errors.ForeignPage(
            "a session of the web console, and no proof that its own page sends this",
            "programs send the header Authorization: Bearer TOKEN instead",
        )


async def log_in(request: Request, gate: Gate) -> Any:
    """Begin a session for the token that the request shows.

    :raises trough.errors.NotFound: this server asks for no token
    :raises trough.errors.Unauthorized: it shows a session only, which does not make another one
    """
    if not gate.is_closed:
        raise errors.NotFound("this server asks for no token")
    if not request.requestHeaders.hasHeader(b"authorization"):
        raise errors.Unauthorized("to log in, show a token", "a session does not begin another one")
    gate.sessions.remove(_session_of(request))
    _set_cookie(request, gate.sessions.add(request.allowed))
    return as_json(_about(request.allowed))


async def log_out(request: Request, gate: Gate) -> Any:
    """End the session of a request, if it has one."""
    gate.sessions.remove(_session_of(request))
    _set_cookie(request, "")
    return 204, b"", b""


def about_client(request: Request, gate: Gate, grant: Grant | None) -> dict[str, Any]:
    """What the console has to know of its user; JSON-able.

    ``closed``: whether a token is wanted. ``token``: name and rights, or None before the log-in.
    ``session``: whether there is one to end.
    """
    known = grant if grant is not None and grant.rights else None
    return {
        "closed": gate.is_closed,
        "token": None if known is None else _about(known),
        "session": session_grant(request, gate) is not None,
    }


def _about(grant: Grant) -> dict[str, Any]:
    return {"name": grant.name, "rights": names_of(grant.rights)}


def _cookie_name(request: Request) -> bytes:
    """Another one for each port: all servers of a host get each other's cookies."""
    port = getattr(request.channel.transport.getHost(), "port", 0)
    return b"%btrough-%d" % (b"__Host-" if encrypts(request.channel.transport) else b"", port)


def _session_of(request: Request) -> str:
    value = request.getCookie(_cookie_name(request)) or b""
    return value.decode("latin-1")


def _set_cookie(request: Request, value: str) -> None:
    """Give the browser a cookie that ends with the browser, or take it away."""
    words = [b"%b=%b" % (_cookie_name(request), value.encode())]
    words += [b"Path=/", b"HttpOnly", b"SameSite=Strict"]
    if encrypts(request.channel.transport):
        words.append(b"Secure")
    if not value:
        words.append(b"Max-Age=0")
    request.responseHeaders.addRawHeader(b"set-cookie", b"; ".join(words))
    request.setHeader(b"cache-control", b"no-store")
