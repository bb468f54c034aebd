"""Which Trough a person means who did not say: the rule that all command-line tools share.

What is on the command line wins, then ``TROUGH_URL``, then the settings file, if there is
one, then the registry that ``make run`` keeps. Nothing is connected to.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from trough import errors
from trough.metadata.url import RethinkAddress, SqliteAddress
from trough.settings import DEFAULT_FILE, Settings, load_settings

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
        return url
    if environ.get("TROUGH_SETTINGS") or Path(DEFAULT_FILE).exists():
        return _of_settings(load_settings(None, environ, socket.gethostname()))
    registry = Path(environ.get("TROUGH_HOME") or "var").absolute() / "registry.db"
    return f"sqlite://{quote(str(registry))}"


def check_file(address: SqliteAddress | RethinkAddress) -> None:
    """Look for the registry's file, if the store is one.

    :raises trough.errors.Unavailable: it is not there
    """
    # Opening it would create it, and a tool has nothing to say to an empty registry.
    if isinstance(address, SqliteAddress) and not address.path.exists():
        raise errors.Unavailable(
            f"there is no registry {address.path}",
            "is Trough running? `make run` starts one; -u names another",
        )


def access_token(environ: Mapping[str, str]) -> str | None:
    """The token to show to servers, from the environment or the settings file.

    :raises trough.errors.BadSettings: a settings file that cannot be used
    """
    return load_settings(None, environ, socket.gethostname()).auth_token


def _of_settings(settings: Settings) -> str:
    scheme, _, rest = settings.metadata_url.partition("://")
    if scheme != "rethinkdb" or "@" in rest or not settings.rethinkdb_password:
        return settings.metadata_url
    # The client, like every tool, takes one URL and nothing beside it.
    user, password = quote(settings.rethinkdb_user, ""), quote(settings.rethinkdb_password, "")
    return f"{scheme}://{user}:{password}@{rest}"
