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

        try:
            print(shtab.complete(parser, str(values)), flush=True)
        except BrokenPipeError:
            # The reader is gone. Otherwise the interpreter would try to flush the output again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        parser.exit()


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add ``--print-completion`` to `parser`."""
    parser.add_argument(
        "--print-completion",
        action=_Print,
        choices=SHELLS,
        metavar="SHELL",
        help="write a completion script for bash or zsh, and end",
    )
