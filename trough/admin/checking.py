"""Checks what an upgrade from the original Trough would refuse; it changes nothing."""

from __future__ import annotations

import argparse
from collections import defaultdict

from trough import errors
from trough.admin.console import DONE, FAILED, Console, listed
from trough.executors.pool.task_pool import TaskPool
from trough.metadata.schemas import Schemas
from trough.util.wording import counted


async def check_original(console: Console, options: argparse.Namespace) -> int:
    """List segments, schemas and rows that Trough cannot use.

    Exit status 1: there are some, or there are write locks. The segments of these locks have to be
    promoted first.
    """
    metadata = console.metadata
    reasons: dict[str, list[str]] = defaultdict(list)
    async for row in metadata.foreign_rows():
        reasons[row.reason].append(f"{row.table} {row.key!a}")
    for reason, found in reasons.items():
        console.say(f"passed over: {reason}{listed(found, 'rows')}")
    schemas = await _refused_schemas(console)
    for name, reason in schemas.items():
        console.say(f"schema {name!a}: no segment can be made from it: {reason}")
    locks = await metadata.locks()
    if locks:
        names = listed([lock.segment for lock in locks], "promote them first")
        console.say(f"{counted(len(locks), 'segment')} being written{names}")
    if reasons or schemas or locks:
        return FAILED
    console.say("Nothing that an upgrade would refuse.")
    return DONE


async def _refused_schemas(console: Console) -> dict[str, str]:
    tasks = TaskPool(console.clock)
    schemas = Schemas(console.metadata, tasks)
    refused = {}
    try:
        for name in await schemas.names():
            try:
                await schemas.check((await schemas.get(name)).sql)
            except (errors.BadSchema, errors.NoSuchSchema) as error:
                refused[name] = str(error)
    finally:
        await tasks.close()
    return refused
