"""Every command there is, a module for each kind; here they come together."""

from __future__ import annotations

from trough.shell.command_registry import Registry
from trough.shell.commands import display, files, queries, segments, show


def all_commands() -> Registry:
    """The registry of the shell, in the order in which HELP lists it."""
    return Registry(
        (
            *queries.COMMANDS,
            *segments.COMMANDS,
            *show.COMMANDS,
            *display.COMMANDS,
            *files.COMMANDS,
        )
    )
