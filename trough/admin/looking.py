"""The commands with which an operator looks; they change nothing."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Collection
from typing import Any

from trough.admin.console import DONE, FAILED, Console, listed, moment, size_of
from trough.leader.server_clocks import TOLERATED, spread_of, warning_of
from trough.metadata import Metadata
from trough.model import Lock, Worker
from trough.util.trouble_log import Section
from trough.util.wording import counted

#: Fields of a worker's row about its unpromoted writes.
UNPROMOTED = ("unpromoted", "unpromoted_bytes", "unpromoted_since")


async def status(console: Console, options: argparse.Namespace) -> int:
    """Print the leader, the number of living workers, and all troubles."""
    told = await _status(console.metadata)
    if options.json:
        console.say(json.dumps(told))
    else:
        _tell_status(console, told)
    return DONE if told["healthy"] else FAILED


async def _status(metadata: Metadata) -> dict[str, Any]:
    """The output of ``status --json``; docs/operations.rst explains it."""
    leader = await metadata.leader()
    workers = await _all_workers(metadata)
    alive = {worker["node"] for worker in workers if worker["alive"]}
    locks = await metadata.locks()
    held_by_dead = [lock for lock in locks if lock.node not in alive]
    # The leader releases clean locks by itself.
    orphaned = [lock for lock in held_by_dead if not lock.is_clean]
    offsets = await metadata.clock_offsets()
    agree = spread_of(offsets) < TOLERATED
    full = [each["node"] for each in workers if each["capacity"] and not each["available_bytes"]]
    weak = await metadata.weak_tables()
    paused = await metadata.paused()
    troubles = {each["node"]: each["trouble"] for each in workers if each["trouble"]}
    if leader and leader.trouble:
        troubles[leader.node] = leader.trouble
    return {
        "healthy": bool(leader and alive and agree) and not any((orphaned, full, troubles, weak)),
        "leader": {"node": leader.node, "url": leader.url, "generation": leader.generation}
        if leader
        else None,
        "workers": workers,
        "locks": {
            "count": len(locks),
            "orphaned": [
                {"segment": lock.segment, "node": lock.node, "dirty_since": lock.dirty_since}
                for lock in orphaned
            ],
            "clean_of_dead_workers": len(held_by_dead) - len(orphaned),
            "without_follower": [
                {"segment": lock.segment, "node": lock.node}
                for lock in locks
                if lock.disk and not followers_alive(lock, alive)
            ],
        },
        "full": full,
        "troubles": troubles,
        "schemas": len(await metadata.schemas()),
        "clocks": {"offsets": offsets, "agree": agree},
        "weak_tables": {name: dataclasses.asdict(each) for name, each in weak.items()},
        "paused": paused,
    }


async def _all_workers(metadata: Metadata) -> list[dict[str, Any]]:
    """Every worker that is alive, has a place on a hash ring, or is being drained."""
    alive = {worker.node: worker for worker in await metadata.workers()}
    rings = await metadata.rings()
    draining = await metadata.draining()
    return [
        {
            "node": node,
            "alive": node in alive,
            "draining": node in draining,
            "ring": rings.get(node),
            **_told(alive.get(node)),
        }
        for node in sorted({*alive, *rings, *draining})
    ]


def _told(worker: Worker | None) -> dict[str, Any]:
    """The fields of a worker's row; None for each field of a dead worker."""
    fields = ("cold_storage", "load", "available_bytes", "capacity", "line", *UNPROMOTED)
    return {field: getattr(worker, field, None) for field in (*fields, "last_heartbeat", "trouble")}


def _tell_status(console: Console, told: dict[str, Any]) -> None:
    leader, workers, locks = told["leader"], told["workers"], told["locks"]
    led_by = (
        "{node} at {url}, generation {generation}".format(**leader)
        if leader
        else Section.LEADER.add_to("nobody")
    )
    alive = [worker for worker in workers if worker["alive"]]
    # A worker that was drained and stopped is gone on purpose.
    lost = [each["node"] for each in workers if not each["alive"] and not each["draining"]]
    drained = [
        each["node"] if each["alive"] else f"{each['node']} (not alive)"
        for each in workers
        if each["draining"]
    ]
    orphaned = [lock["segment"] for lock in locks["orphaned"]]
    console.say(f"leader    {led_by}")
    living = f"{len(alive)} alive{listed(lost, 'not alive')}"
    console.say(f"workers   {living if alive else Section.WORKER_DIES.add_to(living)}")
    console.say(f"draining  {', '.join(drained) or 'none'}")
    if told["paused"]:
        until = ", ".join(f"{node} until {moment(at)}" for node, at in told["paused"].items())
        console.say(f"paused    {until}")
    held = f"{locks['count']}{listed(orphaned, 'held by workers not alive')}"
    console.say(f"locks     {Section.WORKER_DIES.add_to(held) if orphaned else held}")
    if alone := [lock["segment"] for lock in locks["without_follower"]]:
        number = counted(len(alone), "segment")
        text = f"{number} without a living follower{listed(alone, 'by name')}"
        console.say(f"copies    {Section.UNDER_REPLICATED.add_to(text)}")
    console.say(f"schemas   {told['schemas']}")
    for worker in workers:
        if worker["unpromoted"]:
            console.say(f"waiting   {_unpromoted_of(worker)}")
    if told["full"]:
        text = f"{', '.join(told['full'])}: no room on the disk, or in its share"
        console.say(f"full      {Section.DISK_FULL.add_to(text)}")
    for node, trouble in told["troubles"].items():
        console.say(f"trouble   {node}: {trouble}")
    for name, replicas in told["weak_tables"].items():
        count = "{ready} of {wanted} replicas are ready, {all} are configured".format(**replicas)
        console.say(f"table     {Section.REPLICAS.add_to(f'{name}: {count}')}")
    offsets = told["clocks"]["offsets"]
    if not told["clocks"]["agree"]:
        console.say(f"clocks    {Section.CLOCKS.add_to(warning_of(offsets))}")
    elif offsets:
        console.say(f"clocks    differ by {spread_of(offsets):.3f} s")


def _unpromoted_of(worker: dict[str, Any]) -> str:
    """One line about the writes that are only on a worker's disk."""
    size, since = worker["unpromoted_bytes"], worker["unpromoted_since"]
    # A worker looks at its files every ten seconds: 0 bytes are not measured yet.
    measured = f", {size_of(size)}" if size else ""
    dated = f", since {moment(since)}" if since else ""
    return f"{worker['node']}: {worker['unpromoted']} unpromoted segments{measured}{dated}"


async def workers(console: Console, options: argparse.Namespace) -> int:
    """Print every worker that is alive or has a place on a hash ring."""
    rows = []
    for worker in await _all_workers(console.metadata):
        state = [
            "alive" if worker["alive"] else "not alive",
            *(["draining"] if worker["draining"] else []),
            *(["cold"] if worker["cold_storage"] else []),
        ]
        told = (
            (
                f"{worker['load']:g}",
                size_of(worker["available_bytes"]),
                size_of(worker["capacity"]),
                worker["line"],
            )
            if worker["alive"]
            else ("-",) * 4
        )
        ring = "-" if worker["ring"] is None else worker["ring"]
        rows.append((worker["node"], ", ".join(state), ring, *told))
    console.table(("WORKER", "STATE", "RING", "LOAD", "AVAILABLE", "CAPACITY", "ADDRESS"), *rows)
    return DONE


def followers_alive(lock: Lock, alive: Collection[str]) -> list[str]:
    """Names of a lock's followers that are alive."""
    return [each.node for each in sorted(lock.followers) if each.node in alive]


def _followers(lock: Lock, alive: Collection[str]) -> str:
    """The followers of a lock, as text."""
    if not lock.disk:
        return "-"
    shown = [
        each.node if each.node in alive else f"{each.node} (not alive)"
        for each in sorted(lock.followers)
    ]
    return ", ".join(shown) or "none"


async def locks(console: Console, options: argparse.Namespace) -> int:
    """Print every write lock, and whether its holder is alive, and its followers."""
    alive = {worker.node for worker in await console.metadata.workers()}
    found = await console.metadata.locks(options.worker)
    if options.without_follower:
        found = [lock for lock in found if lock.disk and not followers_alive(lock, alive)]
    rows = [
        (
            lock.segment,
            lock.node,
            "alive" if lock.node in alive else "not alive",
            lock.epoch,
            moment(lock.acquired_on),
            "all promoted" if lock.is_clean else moment(lock.dirty_since or lock.acquired_on),
            _followers(lock, alive),
        )
        for lock in found
    ]
    heads = ("SEGMENT", "WORKER", "STATE", "EPOCH", "SINCE", "UNPROMOTED SINCE", "FOLLOWERS")
    console.table(heads, *rows)
    return DONE
