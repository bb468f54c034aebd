"""Chooses the followers of a write lock's holder: a function of the known cluster.

Two copies on one machine are lost together. So a follower is on another host than the holder and
the other followers. If the whole cluster is on one host, other disks are enough.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from trough.model import Member, Worker, line_host_and_port, member
from trough.replication.orders import VERSION


def member_of(worker: Worker) -> Member:
    """A worker's row as a member."""
    return member(worker.node, worker.identity)


def is_able(worker: Worker) -> bool:
    """Whether a worker understands the orders that holders of this version send."""
    return worker.replication >= VERSION


def choose(
    holder: Worker,
    following: Collection[Member],
    workers: Iterable[Worker],
    assigned: Collection[str],
    refused: Collection[str] = (),
) -> Worker | None:
    """The worker that should follow next; None if there is none.

    Workers that the segment is assigned to come first, because they keep a copy anyway. Among
    equals the least loaded comes first.

    :param holder: of the write lock
    :param following: members that follow already, or were asked to
    :param workers: those that are alive
    :param assigned: names of workers that the segment is assigned to
    :param refused: names of workers that cannot follow now
    """
    nodes = {member.node for member in following} | {holder.node}
    everybody = list(workers)
    hosts = {host_of(each) for each in everybody if each.node in nodes} | {host_of(holder)}
    able = [
        each
        for each in everybody
        if each.line
        and each.identity
        and is_able(each)
        and not (each.cold_storage or each.draining)
        and each.node not in nodes
        and each.node not in refused
    ]
    if {host_of(each) for each in everybody} != {host_of(holder)}:
        able = [each for each in able if host_of(each) not in hosts]
    able.sort(key=lambda each: (each.node not in assigned, each.load, each.node))
    return able[0] if able else None


def host_of(worker: Worker) -> str:
    """The host of a worker, by its published address; empty where it has none."""
    try:
        return line_host_and_port(worker.line)[0]
    except ValueError:
        return ""
