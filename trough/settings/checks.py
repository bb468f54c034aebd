"""What settings have to fit together, once each of them is a value of its kind.

Every check looks at values that are complete, defaults included, and blames the file
or variable that gave one of them. A pair of defaults that did not fit would be a
mistake of ours, and the tests would find it.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from posixpath import join, normpath
from typing import Any
from urllib.parse import quote, unquote

from trough.errors import BadSettings
from trough.settings.keys import KEYS, Settings
from trough.util.wording import counted

#: The directories in LOCAL_DATA that a worker fills, and empties of what it does not know.
WORKERS_OWN = ("aside", "cold", "segments", "snapshots")

#: Pairs of keys, the first of which has to be at most the second, and the reason.
_ORDERED = (
    ("WORKER_TTL", "COPY_TTL", "a copy is there for as long as its worker"),
    ("LISTING_INTERVAL", "FULL_LISTING_INTERVAL", "full looks are the rarer ones"),
    ("QUERY_SECONDS", "MAX_QUERY_SECONDS", "the default is a request like any other"),
    ("EXECUTORS", "MAX_EXECUTORS", "the pool begins with EXECUTORS"),
    ("WRITE_EXECUTORS", "MAX_WRITE_EXECUTORS", "the pool begins with WRITE_EXECUTORS"),
    ("MINIMUM_ASSIGNMENTS", "MAXIMUM_ASSIGNMENTS", "each copy takes a ring of its own"),
)


def clash(source: str, message: str, hint: str) -> BadSettings:
    """The error about keys that contradict each other.

    :param source: the file, or the environment, that gave one of them
    """
    return BadSettings(f"{source}: {message}", hint)


def check_together(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    """Refuse combinations that cannot work.

    :param values: every key's value
    :param sources: for the keys that were given, by which file, or the environment
    :raises trough.errors.BadSettings: naming the keys and what they are
    """
    _check_tokens(values, sources)
    for small, large, why in _ORDERED:
        if values[small] > values[large]:
            raise clash(
                _blamed(sources, small, large),
                f"{small} is {values[small]:g} and {large} is {values[large]:g}",
                f"{small} has to be at most {large}: {why}",
            )
    _check_heartbeat(values, sources)
    _check_copies(values, sources)
    _check_ports(values, sources)
    _check_reachable(values, sources)
    _check_directories(values, sources)
    _check_cold_worker(values, sources)
    _check_tls(values, sources)


def _blamed(sources: Mapping[str, str], *names: str) -> str:
    return next((sources[name] for name in names if name in sources), "default settings")


def _check_heartbeat(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    interval, ttl = values["HEARTBEAT_INTERVAL"], values["WORKER_TTL"]
    if interval * 2 >= ttl:
        raise clash(
            _blamed(sources, "HEARTBEAT_INTERVAL", "WORKER_TTL"),
            f"HEARTBEAT_INTERVAL is {interval:g} and WORKER_TTL is {ttl:g}",
            "HEARTBEAT_INTERVAL has to be less than half of WORKER_TTL: one lost heartbeat "
            "must not make a worker look dead",
        )


def _check_cold_worker(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    has_source = values["COLD_STORAGE_PATH"] is not None or values["COLD_CACHE_BYTES"] > 0
    if values["RUN_AS_COLD_STORAGE_NODE"] and not has_source:
        raise clash(
            _blamed(sources, "RUN_AS_COLD_STORAGE_NODE"),
            "RUN_AS_COLD_STORAGE_NODE is true, COLD_STORAGE_PATH is not given and "
            "COLD_CACHE_BYTES is 0",
            "a cold worker needs a mounted path or a cache",
        )


def _check_tls(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    for given, needed in (
        ("TLS_CERT", "TLS_KEY"),
        ("TLS_KEY", "TLS_CERT"),
        ("TLS_PEER_CA", "TLS_CERT"),
    ):
        if values[given] is not None and values[needed] is None:
            raise clash(
                _blamed(sources, given), f"{given} is given, and {needed} is not", "give both"
            )


def check_exposed(settings: Settings) -> None:
    """Refuse a server that others reach without TLS or without a token.

    Tools read the same settings, and listen to nobody: so this is for servers alone.

    :raises trough.errors.BadSettings: naming what is missing, and what to do
    """
    address = _address(settings.bind_address)
    if settings.insecure or address is None or address.is_loopback:
        return
    missing = [
        name
        for name, given in (
            ("TLS_CERT and TLS_KEY", settings.tls.serves),
            ("AUTH_TOKEN or TOKENS_FILE", settings.auth_token or settings.tokens_file),
        )
        if not given
    ]
    if missing:
        raise BadSettings(
            f"BIND_ADDRESS is {settings.bind_address}, which others reach, without "
            f"{' and without '.join(missing)}",
            "give them (`trough-admin certificate --help` makes certificates), or set INSECURE: "
            "true if everybody who reaches that network may read and write",
        )


def _check_copies(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    for number, rule in enumerate(values["COPIES"], 1):
        if rule.answer > values["MAXIMUM_ASSIGNMENTS"]:
            raise clash(
                _blamed(sources, "COPIES"),
                f"rule {number} of COPIES asks for {counted(rule.answer, 'copy', 'copies')} and "
                f"MAXIMUM_ASSIGNMENTS is {values['MAXIMUM_ASSIGNMENTS']}",
                "no rule may ask for more than MAXIMUM_ASSIGNMENTS",
            )


def _check_ports(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    seen: dict[int, str] = {}
    for name in KEYS:
        port = values[name]
        if not name.endswith("_PORT") or name == "HDFS_PORT":
            continue
        other = seen.setdefault(port, name)
        if other != name:
            raise clash(
                _blamed(sources, name, other),
                f"{other} and {name} are both {port}",
                "give each its own port",
            )


def _check_reachable(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    bound, published = values["BIND_ADDRESS"], values["EXTERNAL_IP"]
    here, there = _address(bound), _address(published)
    if here is None or there is None or here == there or here.is_unspecified:
        return
    # Of others one may be translated into the other; one of this machine alone never is.
    if here.is_loopback or there.is_loopback:
        raise clash(
            _blamed(sources, "EXTERNAL_IP", "BIND_ADDRESS"),
            f"EXTERNAL_IP is {published} and BIND_ADDRESS is {bound}",
            f"nobody reaches this process at {published} unless it listens there: set "
            f"BIND_ADDRESS to {published}, or to 0.0.0.0 or :: for every address",
        )


def _check_tokens(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    if values["TOKENS_FILE"] and not values["AUTH_TOKEN"] and not values["PEER_TOKEN"]:
        raise clash(
            _blamed(sources, "TOKENS_FILE"),
            "TOKENS_FILE is given, and servers have no token for each other",
            "give PEER_TOKEN what trough-admin token add NAME --right peer prints",
        )
    if values["PEER_TOKEN"] and not values["AUTH_TOKEN"] and not values["TOKENS_FILE"]:
        raise clash(
            _blamed(sources, "PEER_TOKEN"),
            "PEER_TOKEN is given, and clients have no token",
            "give TOKENS_FILE or AUTH_TOKEN, too",
        )


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """None for a name, which may mean any address."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _check_directories(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    scheme, _, path = values["STORAGE_URL"].partition("://")
    if scheme != "file":
        return
    root, local = _spelt(unquote(path)), _spelt(values["LOCAL_DATA"])
    if _is_below(local, root) or any(_is_below(root, join(local, own)) for own in WORKERS_OWN):
        raise clash(
            _blamed(sources, "STORAGE_URL", "LOCAL_DATA"),
            f"STORAGE_URL is {values['STORAGE_URL']} and LOCAL_DATA is {local}",
            "canonical copies need a directory apart from a worker's own files, such as "
            f"file://{quote(join(local, 'canonical'))}: every *.sqlite below it is a segment",
        )


def _spelt(path: str) -> str:
    """The one spelling of an absolute path; POSIX has another meaning for ``//``."""
    return "/" + normpath(path).lstrip("/")


def _is_below(path: str, directory: str) -> bool:
    """Whether `path` is `directory`, or lies in it."""
    return f"{path.rstrip('/')}/".startswith(f"{directory.rstrip('/')}/")
