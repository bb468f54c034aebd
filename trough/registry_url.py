"""Which Trough a person means who did not say: the rule that all command-line tools share.

What is on the command line wins, then ``TROUGH_URL``, then the settings file, if there is
one, then the registry that ``make run`` keeps. Nothing is connected to.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from trough.settings import DEFAULT_FILE, load_settings

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
        return load_settings(None, environ, socket.gethostname()).metadata_url
    registry = Path(environ.get("TROUGH_HOME") or "var").absolute() / "registry.db"
    return f"sqlite://{quote(str(registry))}"
