"""Pairs of engines that whole clusters are tried on.

A registry and a directory are always there. A pair with a real RethinkDB, or a real HDFS,
is skipped with its reason where those servers cannot be run.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from storages import DirectoryHand, Hand, HdfsHand

from trough.metadata.url import RethinkAddress

#: Metadata store and canonical storage.
PAIRS = ("registry+directory", "rethinkdb+directory", "rethinkdb+hdfs")


class Engines:
    """One pair, empty.

    :ivar hand: somebody who works on the canonical files without Trough
    """

    def __init__(self, metadata_url: str, hand: Hand) -> None:
        self.metadata_url = metadata_url
        self.storage_url = hand.url
        self.hand = hand


def rethink_url(*servers) -> str:
    """A database of its own on these servers."""
    hosts = tuple(server.host for server in servers)
    return str(RethinkAddress(hosts, f"trough_{uuid.uuid4().hex}"))


def open_engines(pair: str, directory: Path, request: pytest.FixtureRequest) -> Engines:
    """The engines of a pair; the test is skipped where they cannot be run."""
    metadata, storage = pair.split("+")
    if storage == "hdfs":
        hand: Hand = HdfsHand(request.getfixturevalue("hdfs"), f"/{uuid.uuid4().hex}")
    else:
        hand = DirectoryHand(directory / "canonical")
    if metadata == "rethinkdb":
        return Engines(rethink_url(request.getfixturevalue("rethinkdb_server")), hand)
    return Engines(f"sqlite://{directory}/registry.db", hand)
