"""``trough up``: a whole Trough on this machine, in the foreground.

It is a short name for ``twistd --nodaemon --pidfile= trough --home DIR --example``. Use twistd
itself for its options, such as another log or a daemon.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from trough import __version__
from trough.cli.completion import add_completion

HOME = "./var"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="trough",
        description="Run a whole Trough on this machine: millions of small SQLite databases, "
        "served as one.",
        epilog="trough-shell asks it, trough-load loads files, trough-admin looks after it. A "
        "cluster is made of `twistd trough-sync` and `twistd trough-worker`.",
    )
    result.add_argument("--version", action="version", version=f"trough {__version__}")
    add_completion(result)
    commands = result.add_subparsers(metavar="COMMAND", required=True)
    up = commands.add_parser(
        "up",
        help="start a whole Trough in the foreground",
        description="Start a whole Trough in the foreground: a sync server, a worker, an embedded "
        "registry and a directory as canonical storage. It says when it is ready, with every "
        "address. Ctrl-C stops it; the next start finds everything again.",
        epilog="Ports and everything else are settings: a YAML file, or environment variables, for "
        "instance READ_PORT=7444. `twistd trough --help` names the ports.",
    )
    up.add_argument(
        "--home",
        metavar="DIR",
        default=os.environ.get("TROUGH_HOME") or HOME,
        help=f"keep all data below this directory (default: $TROUGH_HOME, else {HOME})",
    )
    up.add_argument(
        "--no-example",
        action="store_true",
        help="do not put three small crawl jobs into an empty Trough",
    )
    up.add_argument("--settings", metavar="FILE", help="the settings file")
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``trough``. It ends as twistd does.

    :raises SystemExit: with status 2 for wrong arguments, 1 for settings that cannot be used
    """
    options = parser().parse_args(arguments)
    plugin = ["trough", "--home", options.home]
    if not options.no_example:
        plugin.append("--example")
    if options.settings is not None:
        plugin += ["--settings", options.settings]
    from twisted.scripts import twistd  # imported late: --help need not wait for it

    sys.argv = [sys.argv[0], "--nodaemon", "--pidfile=", *plugin]
    twistd.run()
