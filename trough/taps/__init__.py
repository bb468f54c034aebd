"""Command-line options of the three twistd plugins, one module each."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from twisted.application.service import IService
from twisted.internet import reactor
from twisted.python import usage

from trough import __version__, errors
from trough.settings import Settings, load_settings
from trough.util import logs
from trough.util.clocks import keep_time_by_elapsed
from trough.util.private_files import make_private

_SETTINGS = """\
Settings come from a YAML file (--settings, else $TROUGH_SETTINGS, else
/etc/trough/settings.yml if it is there), and each key can be overridden by an
environment variable of its name, for instance READ_PORT=7444. The file
etc/trough.yml of the source, share/trough/trough.yml below the prefix of an
installation, explains every key.
"""

#: What each process of a cluster has to be told.
SHARED = """\
  METADATA_URL   where it is written down who holds what; the same for all:
                 sqlite:///path/registry.db or rethinkdb://host,host/database
  STORAGE_URL    where canonical copies are kept; the same for all:
                 file:///path or webhdfs://namenode:9870/path
  HOSTNAME       its name, unlike that of any other (this machine's name)
  BIND_ADDRESS   the address to listen on (127.0.0.1)
"""


class Options(usage.Options):
    """What all three have in common."""

    optParameters = [
        ["settings", "s", None, "The settings file."],
    ]
    # twistd would wrap it all into one paragraph.
    longdesc = ""
    #: What the process is and needs, in lines of at most 79 characters.
    explanation = ""

    def getUsage(self, width: int | None = None) -> str:
        """What ``--help`` shows."""
        return f"{super().getUsage(width)}\n{self.explanation}\n{_SETTINGS}"

    def opt_version(self) -> None:
        """Say which version this is."""
        print(f"Trough {__version__}")
        raise SystemExit(0)

    def environment(self) -> dict[str, str]:
        """Environment variables, completed by what the options say."""
        return dict(os.environ)

    def postOptions(self) -> None:
        """Have the log written at the level that the settings say."""
        twistd = self.parent
        if twistd is not None and not twistd.get("logger"):
            path = twistd.get("logfile") or (None if twistd.get("nodaemon") else "twistd.log")
            settings = self.load()
            twistd["logger"] = logs.choose(settings.log_level, path, settings.log_format)

    def load(self) -> Settings:
        """The settings of this process.

        :raises SystemExit: saying what is wrong with them
        """
        try:
            return load_settings(self["settings"], self.environment(), socket.gethostname())
        except errors.BadSettings as reason:
            # For a UsageError twistd would show all options first, and later on a trace.
            raise SystemExit(f"trough: {reason}") from reason


def make(options: Options, build: Callable[[Settings], IService]) -> IService:
    """Build the service that the options ask for.

    :raises SystemExit: saying what is wrong with the settings
    """
    settings = options.load()
    make_private()
    # Here, for all three, since nothing is scheduled before this, and much is after it.
    keep_time_by_elapsed(reactor)
    try:
        return build(settings)
    except errors.BadSettings as reason:
        raise SystemExit(f"trough: {reason}") from reason


def at_home(environ: dict[str, str], home: str) -> dict[str, str]:
    """Settings that keep everything of one machine below one directory.

    :param home: the directory; what the environment says already stays as it is, and an
        empty variable says nothing
    """
    root = Path(home).resolve()
    below = {
        "METADATA_URL": f"sqlite://{quote(str(root))}/registry.db",
        "STORAGE_URL": f"file://{quote(str(root))}/canonical",
        "LOCAL_DATA": f"{root}/worker",
        "MINIMUM_ASSIGNMENTS": "1",
    }
    return {**environ, **{name: environ.get(name) or value for name, value in below.items()}}
