"""Which store a URL means.

``sqlite:///path`` is the embedded store, ``rethinkdb://host[:port],host[:port]/database``
a RethinkDB cluster, with ``user:password@`` before the hosts where it wants that. Parsing
does no I/O and imports no driver; a URL that cannot be meant is refused with what is wrong
about it, and a password is never repeated in a message.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from trough import errors
from trough.util.quoting import quoted

#: RethinkDB's default port for drivers.
RETHINKDB_PORT = 28015

FORMS = "sqlite:///path/registry.db or rethinkdb://host[:port],host[:port]/database"

# What RethinkDB takes for the name of a database.
_DATABASE = re.compile(r"[A-Za-z0-9_-]+")
_HOST = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class SqliteAddress:
    """The file of an embedded store."""

    path: Path

    def __str__(self) -> str:
        return f"sqlite://{self.path}"


@dataclass(frozen=True, slots=True)
class RethinkAddress:
    """A RethinkDB cluster.

    :ivar hosts: pairs of host and port, in the order in which they are tried
    :ivar ca: file with the certificate of the CA that signed those of its servers, which then
        speak TLS; empty: they do not
    """

    hosts: tuple[tuple[str, int], ...]
    database: str
    user: str = "admin"
    password: str = field(default="", repr=False)
    ca: str = ""

    @property
    def driver_password(self) -> str:
        """The password for the driver, which writes it as Latin-1, where RethinkDB hashes
        UTF-8."""
        return self.password.encode().decode("latin-1")

    def __str__(self) -> str:
        hosts = ",".join(host_and_port(host, port) for host, port in self.hosts)
        return f"rethinkdb://{hosts}/{self.database}"


def host_and_port(host: str, port: int) -> str:
    """``host:port``, with brackets round an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse(
    url: str, user: str = "", password: str = "", ca: str = ""
) -> SqliteAddress | RethinkAddress:
    """Read a metadata store's URL.

    :param user: for RethinkDB, unless the URL names one
    :param password: likewise
    :param ca: likewise; see :class:`RethinkAddress`
    :raises trough.errors.BadSettings: naming what is wrong
    """
    # It often comes from settings of another program, whose types are not checked.
    if not isinstance(url, str) or "://" not in url:
        raise errors.BadSettings(f"not a metadata store's URL: {quoted(url)}", FORMS)
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return SqliteAddress(_sqlite_path(rest, url))
    if scheme == "rethinkdb":
        return _rethink_address(rest, user, password, ca)
    if scheme in ("rethinkdbs", "rethinkdb+tls", "rethinkdb+ssl"):
        raise errors.BadSettings(
            f"no metadata store goes by {quoted(scheme)}",
            "for TLS to RethinkDB: rethinkdb://host/database?tls_ca=/path/ca.pem",
        )
    raise errors.BadSettings(f"no metadata store goes by {quoted(scheme)}", FORMS)


def _sqlite_path(rest: str, url: str) -> Path:
    if not rest.startswith("/"):
        raise errors.BadSettings(
            f"the path in {quoted(url)} is not absolute",
            "three slashes: sqlite:///path/registry.db",
        )
    if "?" in rest or "#" in rest:
        raise errors.BadSettings(
            f"options are not taken: {quoted(url)}", "write ? as %3F, # as %23"
        )
    path = unquote(rest)
    if "\0" in path or path.endswith("/"):
        raise errors.BadSettings(f"the path in {quoted(url)} cannot be a file's", FORMS)
    return Path(path)


def _rethink_address(rest: str, user: str, password: str, ca: str) -> RethinkAddress:
    credentials, at, where = rest.rpartition("@")
    if at:
        name, _, secret = credentials.partition(":")
        user, password = unquote(name) or user, unquote(secret) or password
    hosts_text, _, named = where.partition("/")
    database, mark, options = named.partition("?")
    if mark:
        ca = _ca(options)
    if not _DATABASE.fullmatch(database):
        raise errors.BadSettings(
            f"not the name of a RethinkDB database: {quoted(database)}",
            "letters, digits, _ and - after the hosts, as in rethinkdb://host/trough_configuration",
        )
    hosts = tuple(_host(text.strip()) for text in hosts_text.split(","))
    return RethinkAddress(hosts, database, user or "admin", password, ca)


def _ca(options: str) -> str:
    name, _, path = options.partition("=")
    path = unquote(path)
    if name != "tls_ca" or not path.startswith("/") or "&" in options:
        raise errors.BadSettings(
            f"not an option of a RethinkDB database: {quoted(options)}",
            "?tls_ca=/path/ca.pem is the only one; user and password go before the hosts",
        )
    return path


def _host(text: str) -> tuple[str, int]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _is_ipv6(host):
            raise errors.BadSettings(
                f"not an IPv6 address in brackets: {quoted(text)}", "[::1]:28015"
            )
        return host, _port(rest, text)
    if text.count(":") > 1:
        raise errors.BadSettings(f"an IPv6 address needs brackets: {quoted(text)}", "[::1]:28015")
    host, _, _ = text.partition(":")
    if not _HOST.fullmatch(host):
        raise errors.BadSettings(f"not a host: {quoted(text)}", FORMS)
    return host, _port(text[len(host) :], text)


def _port(text: str, whole: str) -> int:
    if not text:
        return RETHINKDB_PORT
    digits = text[1:]
    if text[0] == ":" and digits.isascii() and digits.isdigit() and 0 < int(digits) < 65536:
        return int(digits)
    raise errors.BadSettings(
        f"not a port: {quoted(whole)}", "a number from 1 to 65535 after the colon"
    )


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
