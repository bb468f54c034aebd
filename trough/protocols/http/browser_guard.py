"""Recognises requests that a browser sends for a foreign web page. Pure.

A browser sends requests for any page that it shows. A form of any page can be posted to
``127.0.0.1``. The name of a page's own server can be made to resolve there (DNS rebinding); then
the page may read the answers as well. Trough has no pages. Its clients are programs, and the
headers that a browser always sends distinguish the two:

* A request other than GET that a browser sends for a page of another origin is refused: by
  ``Sec-Fetch-Site``, ``Origin`` or ``Referer``, or because its body is one that a form can send.
* A GET that a page of another origin sends is refused where the headers show it. Links that a
  user follows, and origins that the settings list, are not refused. Where they do not show it (a
  picture over plain HTTP from another machine), the page cannot read the answer.
* From a browser, ``Host`` has to name this server: an address, ``localhost``, the server's own
  names, or one that the settings list; on the query ports also with a segment's id in front
  (``ID.name``). A rebound name is none of these. ``ID.anything`` stays open to programs, which
  cannot be rebound.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence

from trough import errors

#: Values of a header by its name in lower case; empty where it is not there.
Header = Callable[[str], Sequence[str]]

#: Headers that programs do not send. A browser sends at least one of them with each request,
#: and no page can prevent that. ``Sec-Fetch-*`` go to addresses and TLS only, ``Origin`` comes
#: with POST, and a page can leave out ``Referer``, but never the language.
_BROWSERS = (
    *("accept-language", "origin", "referer", "upgrade-insecure-requests"),
    *("sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "sec-ch-ua"),
    "access-control-request-method",
)

#: Headers that make it worth checking whether a browser sent the request.
_TELLING = frozenset(name.encode() for name in (*_BROWSERS, "user-agent"))

#: What a form can send without asking first. ``curl -d`` names the first as well.
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")

_READING = ("GET", "HEAD")

#: A name or an address, and perhaps a port.
_HOST = re.compile(r"(\[[^][@]*\]|[^][@:]*)(?::[0-9]*)?", re.ASCII)


class BrowserGuard:
    """Refuses requests of web pages.

    :param names: under which this server is reached, besides addresses and ``localhost``
    :param origins: of pages that may read by GET, such as ``https://notebook.example.org``
    """

    def __init__(self, names: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self._origins = frozenset(origins)
        self._names = frozenset(_plain(name) for name in names) | {"localhost"}

    def check(self, method: str, header: Header, segment_in_host: bool = False) -> None:
        """Check one request.

        :param segment_in_host: whether ``Host`` may have a segment's id in front
        :raises trough.errors.ForeignPage: it is a web page's
        """
        if not _is_browser(header):
            return
        for host in header("host"):
            if not self._is_known(_name_of(host), segment_in_host):
                raise errors.ForeignPage(
                    f"a browser asks for {host[:80]!a}, which is no name of this server",
                    "if it is one, add it to HTTP_HOSTS",
                )
        if method not in _READING and not (method == "OPTIONS" and self.is_preflight(header)):
            _check_origin(header)

    def check_read(self, header: Header) -> None:
        """Check a GET that runs a query. :meth:`check` was called before.

        :raises trough.errors.ForeignPage: a page sends it, and may not read the answer
        """
        if self.shared_with(header):
            return
        follows = list(header("sec-fetch-mode")) == ["navigate"]
        if follows and list(header("sec-fetch-dest")) == ["document"]:
            return
        for site in header("sec-fetch-site"):
            if site not in ("same-origin", "none"):
                raise _foreign_read(f"Sec-Fetch-Site: {site}")
        for origin in header("origin"):
            if not _is_own(origin, header):
                raise _foreign_read(f"Origin: {origin}")

    def shared_with(self, header: Header) -> str:
        """The origin of the page that sends this and may read the answer; mostly empty."""
        origins = header("origin")
        return origins[0] if len(origins) == 1 and origins[0] in self._origins else ""

    def is_preflight(self, header: Header) -> bool:
        """Whether a browser asks, for such a page, if it may send a GET."""
        asked = list(header("access-control-request-method"))
        return asked == ["GET"] and bool(self.shared_with(header))

    def _is_known(self, name: str, segment_in_host: bool) -> bool:
        if name in self._names or name.endswith(".localhost") or _is_address(name):
            return True
        _, dot, rest = name.partition(".")
        return segment_in_host and bool(dot) and (rest in self._names or _is_address(rest))


def may_be_browser(names: Iterable[bytes]) -> bool:
    """Whether one of these headers is such that :meth:`BrowserGuard.check` has to look.

    A program sends two or three headers. To look at their names costs less than to look for ten.

    :param names: of all headers of a request, in any case
    """
    return not _TELLING.isdisjoint(map(bytes.lower, names))


def proves_origin(method: str, header: Header) -> bool:
    """Whether a request shows that a page of this very server sends it.

    A GET has no ``Origin``, and over plain HTTP from another machine no ``Sec-Fetch-Site``. So a
    GET that shows no other origin suffices: no other page can read its answer.
    """
    sites, origins = header("sec-fetch-site"), header("origin")
    if any(site not in ("same-origin", "none") for site in sites):
        return False
    if not all(_is_own(origin, header) for origin in origins):
        return False
    return method in _READING or bool(origins) or list(sites) == ["same-origin"]


def _is_browser(header: Header) -> bool:
    return any(header(name) for name in _BROWSERS) or any(
        value.startswith("Mozilla/") for value in header("user-agent")
    )


def _check_origin(header: Header) -> None:
    for site in header("sec-fetch-site"):
        if site not in ("same-origin", "none"):
            raise _foreign(f"Sec-Fetch-Site: {site}")
    for origin in header("origin"):
        if not _is_own(origin, header):
            raise _foreign(f"Origin: {origin}")
    for referer in header("referer"):
        if not _is_own("/".join(referer.split("/", 3)[:3]), header):
            raise _foreign(f"Referer: {referer}")
    for content_type in header("content-type"):
        if content_type.partition(";")[0].strip().lower() in _FORMS:
            raise _foreign(f"a form, Content-Type: {content_type}")


def _is_own(origin: str, header: Header) -> bool:
    scheme, separator, host = origin.partition("://")
    return bool(separator) and scheme in ("http", "https") and [host] == list(header("host"))


def _foreign_read(what: str) -> errors.ForeignPage:
    return errors.ForeignPage(
        f"a page of another origin asks this ({what[:80]!a})",
        "if it may read here, add its origin to HTTP_ORIGINS",
    )


def _foreign(what: str) -> errors.ForeignPage:
    return errors.ForeignPage(
        f"a web page sends this ({what[:80]!a})", "Trough is for programs, and has no pages"
    )


def _plain(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()


def _name_of(host: str) -> str:
    """A host without its port; empty if it is not of that form."""
    named = _HOST.fullmatch(host)
    return _plain(named[1]) if named else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
