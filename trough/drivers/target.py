"""The URL of a connection: ``trough://host:port/segments?options``.

``docs/drivers.rst`` describes it. Parsing does no I/O.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from trough import errors
from trough.model import TLS_LINE, check_segment_id
from trough.protocols.line.messages import Matching
from trough.tls import TlsFiles

#: Port of a sync server's line protocol.
DEFAULT_PORT = 6110

FORM = "trough://host:port/segment, or trough:///segment?registry=sqlite:///path/registry.db"

_OPTIONS = frozenset(
    {"registry", "tls", "tls_ca", "schema", "create", "timeout", "partial", "within", "stale"}
)


@dataclass(frozen=True, slots=True)
class ConnectionTarget:
    """The target of a connection.

    :ivar server: ``host:port`` or ``tls://host:port`` of a line port; empty: see `registry`
    :ivar registry: the metadata store's URL; empty: `server` is asked
    :ivar segments: ids, or a pattern
    :ivar many: whether they are one database for queries
    :ivar schema: the schema of a new segment
    :ivar seconds: the deadline of each statement; None: the server's own
    :ivar options: of a GATHER, in the line protocol's form
    :ivar create: whether the segment is made writable, and created if it is new, at once
    """

    server: str
    registry: str
    segments: tuple[str, ...] | Matching
    many: bool
    token: str | None = field(default=None, repr=False)
    tls: TlsFiles = field(default_factory=TlsFiles)
    schema: str = "default"
    seconds: float | None = None
    options: tuple[str, ...] = ()
    create: bool = False

    @property
    def segment(self) -> str:
        """The one segment.

        :raises trough.errors.BadRequest: there are many
        """
        if self.many or isinstance(self.segments, Matching):
            raise errors.BadRequest(
                "a connection to many segments only reads", "connect to one segment to write it"
            )
        return self.segments[0]


def parse_target(
    url: str,
    segment: str | None = None,
    *,
    segments: Sequence[str] | None = None,
    matching: str | None = None,
    token: str | None = None,
    tls_ca: str | None = None,
    **options: object,
) -> ConnectionTarget:
    """Parse a URL; arguments override its parts.

    :param url: as above, or that of a metadata store
    :param segment: one id; `segments` and `matching` name many
    :param token: None: the URL's password, or else the environment's ``AUTH_TOKEN``
    :param tls_ca: None: the URL's, or else the environment's ``TLS_CA``
    :param options: as in the URL
    :raises trough.errors.BadRequest: names the mistake
    """
    server, registry, path, said, password = _parts(url)
    asked = {**said, **{name: value for name, value in options.items() if value is not None}}
    if unknown := sorted(asked.keys() - _OPTIONS):
        raise errors.BadRequest(f"no such option: {unknown[0]}", ", ".join(sorted(_OPTIONS)))
    if "registry" in asked:
        registry = str(asked["registry"])
    if bool(server) == bool(registry):
        raise errors.BadRequest(f"{_shown(url)} has to name a server or a registry", FORM)
    if _is_yes(asked, "tls"):
        server = f"{TLS_LINE}{server}"
    named, many = _segments(path, segment, segments, matching)
    if token is None:
        token = password or os.environ.get("AUTH_TOKEN") or None
    ca = tls_ca or str(asked.get("tls_ca", "")) or os.environ.get("TLS_CA") or None
    return ConnectionTarget(
        server,
        registry,
        named,
        many,
        token,
        TlsFiles(ca=ca),
        str(asked.get("schema", "default")),
        _seconds(asked.get("timeout")),
        _gather_options(asked),
        _is_yes(asked, "create"),
    )


def _parts(url: str) -> tuple[str, str, str, dict[str, str], str]:
    """Server, registry, path, options and password of a URL."""
    scheme = url.partition("://")[0]
    if scheme in ("sqlite", "rethinkdb"):
        return "", url, "", {}, ""
    if scheme != "trough":
        raise errors.BadRequest(f"not the URL of a connection: {_shown(url)}", FORM)
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise errors.BadRequest(f"{_shown(url)}: {error}", FORM) from error
    host = parts.hostname or ""
    server = f"{f'[{host}]' if ':' in host else host}:{port}" if host else ""
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    return server, "", parts.path.removeprefix("/"), options, unquote(parts.password or "")


def _segments(
    path: str, segment: str | None, segments: Sequence[str] | None, matching: str | None
) -> tuple[tuple[str, ...] | Matching, bool]:
    if [path or None, segment, segments, matching].count(None) != 3:
        raise errors.BadRequest(
            "name the segments once", "in the URL's path, as segment=, segments= or matching="
        )
    if path.startswith("~"):
        matching = unquote(path[1:])
    if matching is not None:
        return Matching(matching), True
    if segment is not None:
        return (check_segment_id(segment),), False
    ids = segments if segments is not None else [unquote(word) for word in path.split(",")]
    named = tuple(check_segment_id(each) for each in ids if each)
    if not named:
        raise errors.BadRequest("no segment was named")
    return named, segments is not None or "," in path


def _gather_options(asked: Mapping[str, object]) -> tuple[str, ...]:
    options = [f"{name}=yes" for name in ("partial", "within") if _is_yes(asked, name)]
    stale = asked.get("stale", "allow")
    if stale not in ("allow", "refuse"):
        raise errors.BadRequest(f"stale={stale}", "allow or refuse")
    return (*options, "stale=refuse") if stale == "refuse" else tuple(options)


def _is_yes(asked: Mapping[str, object], name: str) -> bool:
    value = asked.get(name, False)
    if value in (True, "yes", "1", "true"):
        return True
    if value in (False, "no", "0", "false"):
        return False
    raise errors.BadRequest(f"{name}={value}", "yes or no")


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise errors.BadRequest(f"timeout={value}", "seconds, more than 0")
    return seconds


def _shown(url: str) -> str:
    """`url` without a possible password."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"[:200]
