"""Lists, compares, puts back and deletes the files of unpromoted writes that workers keep aside."""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from trough import errors, model
from trough.access.tokens import Credential
from trough.admin.console import DONE, FAILED, Console, insist, moment, size_of
from trough.admin.promoting import living_worker
from trough.cli import metadata_url
from trough.protocols.http.manager_client import ManagerClient
from trough.tls.client import ClientTls

#: Seconds that an action may take: the worker fetches the canonical copy.
_PATIENCE = 3600.0


def add_aside_actions(command: argparse.ArgumentParser) -> None:
    """Add the actions on one file to ``trough-admin aside``, which lists all files without one."""
    command.set_defaults(action=None)
    actions = command.add_subparsers(metavar="ACTION")
    for name, (action, help_text) in _ACTIONS.items():
        sub = actions.add_parser(name, help=help_text, description=f"{help_text.capitalize()}.")
        sub.set_defaults(action=action)
        sub.add_argument("node", metavar="NODE", help="the worker that keeps the file")
        sub.add_argument("name", metavar="NAME", help="its name, as it is listed")
        if action is not _compare:
            sub.add_argument("--yes", action="store_true", help="do not ask")


async def aside(console: Console, options: argparse.Namespace) -> int:
    """List the files aside on all workers, or carry out an action on one."""
    if options.action is None:
        return await _list(console)
    model.check_node_name(options.node)
    status: int = await options.action(console, options)
    return status


@asynccontextmanager
async def _manager(console: Console) -> AsyncIterator[ManagerClient]:
    token = metadata_url.access_token(os.environ)
    credential = Credential.of(token) if token else None
    manager = ManagerClient(console.clock, credential, ClientTls(console.tls, console.clock))
    try:
        yield manager
    finally:
        await manager.close()


async def _list(console: Console) -> int:
    rows: list[tuple[str, ...]] = []
    silent = []
    async with _manager(console) as manager:
        for worker in await console.metadata.workers():
            try:
                answer = await manager.call("GET", f"{worker.manager_url}aside")
            except errors.TroughError as reason:
                silent.append(f"{worker.node}: {' '.join(str(reason).split())}")
                continue
            rows += [_row(worker.node, file) for file in answer["files"]]
    if rows:
        console.table(("WORKER", "SEGMENT", "EPOCH", "SIZE", "FILE"), *rows)
    elif not silent:
        console.say("No file is aside on a living worker.")
    for line in silent:
        console.say(f"cannot be asked: {line}")
    return FAILED if silent else DONE


def _row(node: str, file: dict[str, Any]) -> tuple[str, ...]:
    segment, epoch = str(file.get("segment", "-")), str(file.get("epoch", "-"))
    return node, segment, epoch, size_of(file["size"]), file["name"]


async def _compare(console: Console, options: argparse.Namespace) -> int:
    worker = await living_worker(console.metadata, options.node)
    async with _manager(console) as manager:
        url = f"{worker.manager_url}aside/{model.segment_word(options.name)}/compare"
        answer = await manager.call("GET", url, seconds=_PATIENCE)
    if answer["promoted_at"] is None:
        console.say(
            f"Segment {answer['segment']} has no canonical copy: all of it is in {options.name}."
        )
        return DONE
    console.say(
        f"{options.name} and the canonical copy of {answer['segment']}, of "
        f"{moment(answer['promoted_at'])}:"
    )
    columns = ("kept", "canonical", "only_kept", "only_canonical")
    rows = [
        (name, *("-" if table[column] is None else table[column] for column in columns))
        for name, table in answer["tables"].items()
    ]
    console.table(("TABLE", "ROWS ASIDE", "ROWS PROMOTED", "ONLY ASIDE", "ONLY PROMOTED"), *rows)
    return DONE


async def _put_back(console: Console, options: argparse.Namespace) -> int:
    worker = await living_worker(console.metadata, options.node)
    console.say(
        f"{options.name} becomes the present state of its segment, written by {options.node}. What "
        "was promoted\nsince stays the canonical copy until you promote; compare both first."
    )
    if not options.yes:
        insist(console, "To put it back, type the worker's name", options.node)
    async with _manager(console) as manager:
        url = f"{worker.manager_url}aside/put-back"
        answer = await manager.call("POST", url, {"name": options.name}, _PATIENCE)
    console.say(
        f"Segment {answer['segment']} is as in {options.name}, and writable on {options.node}. "
        "Look at it, promote it,\nand delete the file aside."
    )
    return DONE


async def _delete(console: Console, options: argparse.Namespace) -> int:
    worker = await living_worker(console.metadata, options.node)
    if not options.yes:
        console.say("The writes in it are nowhere else, unless you put it back and promoted it.")
        insist(console, "To delete it, type the file's name", options.name)
    async with _manager(console) as manager:
        await manager.call(
            "DELETE", f"{worker.manager_url}aside/{model.segment_word(options.name)}"
        )
    console.say(f"{options.name} is deleted.")
    return DONE


_ACTIONS = {
    "compare": (_compare, "compare a file with the canonical copy, row by row"),
    "put-back": (_put_back, "make a file the present state of its segment"),
    "delete": (_delete, "delete a file"),
}
