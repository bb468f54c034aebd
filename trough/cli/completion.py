"""Completion for bash and zsh, and manual pages, from the same parser as ``--help``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

SHELLS = ("bash", "zsh")


class _Print(argparse.Action):
    """Write the completion script of a shell, and exit."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        import shtab  # slow to import, and only needed here

        _prepare(parser)
        try:
            print(shtab.complete(parser, str(values)), flush=True)
        except BrokenPipeError:
            # The reader is gone. Otherwise the interpreter would try to flush the output again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        parser.exit()


#: What completes an argument with this name: files, in shtab's words for each shell.
_OF_FILES = {"FILE", "DIR"}
_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files"}

#: Completes nothing. Without it zsh would list options, and insert none.
_NOTHING = {"zsh": "()"}


def _prepare(parser: argparse.ArgumentParser) -> None:
    """Name what completes each argument, for shtab."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _prepare(command)
        elif action.metavar in _OF_FILES:
            action.complete = _FILES  # type: ignore[attr-defined]
        elif not (action.option_strings or action.choices):
            action.complete = _NOTHING  # type: ignore[attr-defined]


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add ``--print-completion`` to `parser`."""
    parser.add_argument(
        "--print-completion",
        action=_Print,
        choices=SHELLS,
        metavar="SHELL",
        help="write a completion script for bash or zsh, and end",
    )
