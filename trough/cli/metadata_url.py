"""The default metadata store: the rule that all command-line tools share.

The command line wins, then ``TROUGH_URL``, then the settings file, if there is one, then the
registry that ``make run`` keeps. The module connects to nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from trough import errors
from trough.metadata.url import RethinkAddress, SqliteAddress
from trough.tls import TlsFiles
from trough.util.default_paths import SETTINGS_FILE

if TYPE_CHECKING:
    from trough.settings import Settings

HELP = (
    "the metadata store, rethinkdb://host[,host]/database or sqlite:///path/registry.db "
    "(default: $TROUGH_URL, else the settings file, else the registry of `make run`)"
)


def registry_url(given: str | None, environ: Mapping[str, str]) -> str:
    """The URL of the metadata store.

    :param given: from the command line
    :param environ: environment variables
    :raises trough.errors.BadSettings: a settings file that cannot be used
    """
    url = given or environ.get("TROUGH_URL")
    if url:
        user = environ.get("RETHINKDB_USER") or "admin"
        return _with_user(url, user, environ.get("RETHINKDB_PASSWORD", ""))
    if _has_settings_file(environ):
        return _of_settings(_settings(environ))
    registry = Path(environ.get("TROUGH_HOME") or "var").absolute() / "registry.db"
    return f"sqlite://{quote(str(registry))}"


def check_file(address: SqliteAddress | RethinkAddress) -> None:
    """Look for the registry's file, if the store is a file.

    :raises trough.errors.Unavailable: it is not there, or cannot be looked at
    """
    # Opening it would create it, and an empty registry is useless to a tool.
    if not isinstance(address, SqliteAddress):
        return
    try:
        there = address.path.exists()
    except OSError as error:
        raise errors.Unavailable(
            f"the registry {address.path} cannot be read: {error.strerror}",
            "run this as a user who may, or name another registry with -u",
        ) from error
    if not there:
        raise errors.Unavailable(
            f"there is no registry {address.path}",
            "is Trough running? `make run` starts one; -u names another",
        )


def access_token(environ: Mapping[str, str]) -> str | None:
    """The token to send to servers, from the environment or the settings file.

    :raises trough.errors.BadSettings: a settings file that cannot be used
    """
    if _has_settings_file(environ) or environ.get("AUTH_TOKEN"):
        settings = _settings(environ)
        return settings.auth_token or settings.peer_token
    return None


def tls_files(environ: Mapping[str, str]) -> TlsFiles:
    """The TLS files for connections to servers, from the environment or the settings file.

    :raises trough.errors.BadSettings: a settings file that cannot be used
    """
    if _has_settings_file(environ) or environ.get("TLS_CA") or environ.get("TLS_PEER_CA"):
        return _settings(environ).tls
    return TlsFiles()


def _has_settings_file(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("TROUGH_SETTINGS")) or Path(SETTINGS_FILE).exists()


def _settings(environ: Mapping[str, str]) -> Settings:
    # The import takes a tenth of the time of a short query, and most tools need no settings.
    from trough.settings import load_settings

    return load_settings(None, environ, socket.gethostname())


def _of_settings(settings: Settings) -> str:
    url = _with_user(
        settings.metadata_url, settings.rethinkdb_user, settings.rethinkdb_password or ""
    )
    tls = settings.rethinkdb_tls if url.startswith("rethinkdb://") else ""
    return f"{url}?tls_ca={quote(tls)}" if tls else url


def _with_user(url: str, user: str, password: str) -> str:
    """`url` with user and password in it, unless it has some or is not a RethinkDB URL.

    The client, like every tool, takes one URL and nothing else.
    """
    scheme, _, rest = url.partition("://")
    if scheme != "rethinkdb" or not password or "@" in rest:
        return url
    return f"{scheme}://{quote(user, '')}:{quote(password, '')}@{rest}"
