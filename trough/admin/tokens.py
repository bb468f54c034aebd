"""``trough-admin token``: edits the file of tokens; it needs neither store nor server."""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from trough import errors
from trough.access.audit import append, local_entry
from trough.access.rights import RIGHTS, names_of, rights_named
from trough.access.token_file import AccessToken, editing, read_tokens
from trough.access.tokens import id_of, key_of, new_token, stored_of
from trough.admin.console import DONE, moment, print_table
from trough.settings import one_setting
from trough.util.atomic_files import in_our_words

_DAY = 86400

#: Days for which a token stays valid beside its replacement.
KEEP_DAYS = 7

#: A command. It prints to the output, and returns the exit status.
LocalCommand = Callable[[TextIO, argparse.Namespace], int]


def add_token_commands(
    command: Callable[[str, str], argparse.ArgumentParser],
) -> None:
    """Add ``token`` with its commands to a command line.

    :param command: adds one
    """
    parser = command("token", "edit the file of tokens, TOKENS_FILE")
    kinds = parser.add_subparsers(required=True, metavar="WHAT")

    def kind(name: str, function: LocalCommand, help_text: str) -> argparse.ArgumentParser:
        sub = kinds.add_parser(name, help=help_text, description=help_text.capitalize() + ".")
        sub.add_argument("--file", type=Path, help="the file of tokens (default: TOKENS_FILE)")
        # `command` is what all tools' parsers name; this one is called without a store.
        sub.set_defaults(command=function, local=function)
        return sub

    adding = kind("add", add, "make a token and print it, once")
    adding.add_argument("name", metavar="NAME")
    adding.add_argument(
        "--right", action="append", default=[], choices=list(RIGHTS), help="may be given often"
    )
    adding.add_argument(
        "--segments",
        action="append",
        default=[],
        metavar="GLOB",
        help="limit it to segments; * is any text; may be given often",
    )
    adding.add_argument("--days", type=_days, help="days after which it expires")
    kind("list", list_tokens, "all tokens, with rights; none of their secrets is known")
    removing = kind("remove", remove, "take a token away; connections lose their rights, too")
    removing.add_argument("name", metavar="NAME")
    removing.add_argument("--id", help="only the one with this id, of several with the name")
    rotating = kind("rotate", rotate, "make another token with the same name and rights")
    rotating.add_argument("name", metavar="NAME")
    rotating.add_argument(
        "--keep",
        type=_days,
        default=KEEP_DAYS,
        metavar="DAYS",
        help=f"days that the former one stays good (default: {KEEP_DAYS})",
    )


def add(output: TextIO, options: argparse.Namespace) -> int:
    """Make a token."""
    rights = rights_named(options.right)
    now = int(time.time())
    expires = None if options.days is None else now + int(options.days * _DAY)
    text = new_token()
    with editing(_path(options)) as tokens:
        if any(token.name == options.name for token in tokens):
            raise errors.Conflict(
                f"there is a token {options.name}", "rotate it, or remove it, or name another"
            )
        tokens.append(_entry(text, options.name, rights, tuple(options.segments), now, expires))
    _note("token-add", options.name)
    print(text, file=output)
    return DONE


def list_tokens(output: TextIO, options: argparse.Namespace) -> int:
    """Print all tokens."""
    rows = [("name", "id", "rights", "segments", "created", "expires")]
    for token in read_tokens(_path(options)):
        expires = "never" if token.expires is None else moment(token.expires)
        segments = " ".join(token.segments) or "all"
        rights = ",".join(names_of(token.rights))
        rows.append((token.name, token.id, rights, segments, moment(token.created), expires))
    print_table(rows, output)
    return DONE


def remove(output: TextIO, options: argparse.Namespace) -> int:
    """Remove a token."""
    path = _path(options)
    with editing(path) as tokens:
        gone = [each for each in _named(tokens, options.name) if options.id in (None, each.id)]
        if not gone:
            raise errors.NotFound(f"the token {options.name} has no id {options.id}")
        tokens[:] = [token for token in tokens if token not in gone]
    _note("token-remove", options.name)
    print(f"removed {options.name} ({', '.join(token.id for token in gone)})", file=output)
    return DONE


def rotate(output: TextIO, options: argparse.Namespace) -> int:
    """Make a token that replaces another one; the old token stays valid for a while."""
    now = int(time.time())
    text = new_token()
    with editing(_path(options)) as tokens:
        former = _named(tokens, options.name)
        last = int(now + options.keep * _DAY)
        for index, token in enumerate(tokens):
            if token in former:
                ends = last if token.expires is None else min(token.expires, last)
                tokens[index] = dataclasses.replace(token, expires=ends)
        model = former[-1]
        tokens.append(_entry(text, model.name, model.rights, model.segments, now, None))
        # Remove expired tokens.
        tokens[:] = [token for token in tokens if token.expires is None or token.expires > now]
    _note("token-rotate", options.name)
    print(text, file=output)
    return DONE


def _note(act: str, token: str) -> None:
    """Write a change to the audit log of this machine, if it has one."""
    path = one_setting("AUDIT_LOG", os.environ)
    if path:
        with in_our_words(path):
            append(Path(path), local_entry(act, token))


def _entry(
    text: str,
    name: str,
    rights: int,
    segments: tuple[str, ...],
    created: int,
    expires: int | None,
) -> AccessToken:
    stored = stored_of(key_of(text))
    return AccessToken(name, id_of(text), stored, rights, segments, created, expires)


def _named(tokens: list[AccessToken], name: str) -> list[AccessToken]:
    found = [token for token in tokens if token.name == name]
    if not found:
        raise errors.NotFound(f"there is no token {name}", "trough-admin token list names all")
    return found


def _path(options: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Path:
    found = options.file or one_setting("TOKENS_FILE", environ)
    if not found:
        raise errors.BadRequest("TOKENS_FILE is not set", "set it, or give --file")
    return Path(found)


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days < 1e6:
        raise argparse.ArgumentTypeError("a number of days, 0 or more")
    return days
