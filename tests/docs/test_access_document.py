"""The document about rights names what there is; tests/cluster/test_authorization.py tries it."""

from __future__ import annotations

import re
from typing import Any

from access_table import TABLE, TEXT

from trough.access.rights import RIGHTS
from trough.protocols.http.manager import ManagerResource
from trough.protocols.line.common_verbs import common_verbs
from trough.protocols.line.replication_verbs import ReplicationVerbs
from trough.protocols.line.sync_verbs import SyncVerbs
from trough.protocols.line.worker_verbs import WorkerVerbs
from trough.settings import KEYS


def of_the_code() -> set[tuple[str, str]]:
    """All routes and verbs by the ports that have them."""
    nothing: Any = None
    some: Any = object()
    sync = ManagerResource(nothing, nothing, None, some, lambda _: None, search=some)
    worker = ManagerResource(nothing, nothing, aside=some)
    found = {("READ_PORT", "POST /"), ("READ_PORT", "GET /"), ("WRITE_PORT", "POST /")}
    for port, manager in (("SYNC_SERVER_PORT", sync), ("SYNC_LOCAL_PORT", worker)):
        shapes = [shape for shape in manager.routes if shape[0] != "HEAD"]
        found |= {(port, f"{method} /{'/'.join(path)}") for method, *path in shapes}
    for port, verbs in (
        ("LINE_PORT", {**WorkerVerbs(nothing, nothing).table(), **ReplicationVerbs(some).table()}),
        ("SYNC_LINE_PORT", SyncVerbs(nothing, nothing, nothing).table()),
    ):
        found |= {(port, name) for name in (*verbs, *common_verbs())}
    return found


def test_the_table_has_each_route_and_verb():
    """None is left out, and none is there that no server has."""
    assert set(TABLE) == of_the_code()
    assert {right for rights in TABLE.values() for right in rights} - set(RIGHTS) == {"any", "none"}


def test_the_document_explains_each_right():
    """In their order, each in a row."""
    explained = TEXT.split("\nRights\n")[1].split("Routes and verbs")[0]
    assert re.findall(r"^([a-z]+)  +\S", explained, re.MULTILINE)[1:] == list(RIGHTS)


def test_each_setting_is_one():
    """Nobody looks for a setting in vain."""
    assert set(re.findall(r"``([A-Z][A-Z_]{3,})``", TEXT)) - set(KEYS) <= {
        what for _, what in TABLE
    }
