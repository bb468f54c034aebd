"""One answer over many segments, as if their tables were one.

The answer to ``GATHER SELECT ...`` is exactly SQLite's answer on one database. The tables of that
database are the ``UNION ALL`` of the segments' tables, and ``_segment`` names the segment of a row.
A query without an exact answer is refused, with the reason.

:class:`GatherSession` drives a GATHER from beginning to end and does no I/O; :func:`plan` and
:class:`Merger` are its parts; :func:`trough.cluster_client.gather_driver.gather`
runs it over the Twisted client. See ``docs/gather.rst`` for what is answered how.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trough.gather.gather_plan import GatherPlan
    from trough.gather.limits import Limits
    from trough.gather.merger import Merger
    from trough.gather.planner import plan
    from trough.gather.schema import read_schema, unite
    from trough.gather.session import GatherSession, SegmentRequest

__all__ = [
    "GatherPlan",
    "GatherSession",
    "Limits",
    "Merger",
    "SegmentRequest",
    "plan",
    "read_schema",
    "unite",
]

#: The module of each name. The parser of SQL that most of them need takes 9 MB, and a server
#: needs it in the processes of its GATHERs alone: so a name's module is imported at its first use.
_MODULES = {
    "GatherPlan": "gather_plan",
    "GatherSession": "session",
    "Limits": "limits",
    "Merger": "merger",
    "SegmentRequest": "session",
    "plan": "planner",
    "read_schema": "schema",
    "unite": "schema",
}


def __getattr__(name: str) -> object:
    """The thing of that name, from its module.

    :raises AttributeError: there is none
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
