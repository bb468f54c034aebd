"""SECURITY.rst names what there is: paths, settings, and their defaults."""

from __future__ import annotations

import re

import pytest
from places import ROOT

from trough.cluster_client.gather import AT_ONCE
from trough.gather.limits import MOST_ROW, Limits
from trough.gather.planner import MOST_CHARACTERS
from trough.metadata.conditions import MAX_PATTERN
from trough.protocols.http.channel import BODY_SECONDS, HEADER_SECONDS
from trough.protocols.limits import MAX_IDS, MAX_JSON_VALUES, MAX_PARAMETERS
from trough.protocols.line.framing import MOST_LITERALS
from trough.protocols.line.server import WHOLE_MESSAGE, ServerLimits
from trough.settings import KEYS

TEXT = (ROOT / "SECURITY.rst").read_text()
PATHS = sorted(set(re.findall(r"``((?:trough|tests|docs|etc)/[\w./-]+|[A-Z]+\.\w+)``", TEXT)))
DEFAULTS = re.findall(r"^\S.*?  +``([A-Z_]+)`` +(\S.*)$", TEXT, re.MULTILINE)

#: Words in capitals that are SQL.
OTHERS = {"ATTACH"}

_LINE, _GATHER = ServerLimits(), Limits()

FIXED = {
    "connections to a line port": f"{_LINE.connections:,}",
    "requests under way on one connection": f"{_LINE.requests:,}; further ones wait",
    "segments in one request": f"{MAX_IDS:,}",
    "parameters of one statement": f"{MAX_PARAMETERS:,}",
    "values of a JSON body": f"{MAX_JSON_VALUES:,}",
    "seconds for HTTP headers, and a body": f"{HEADER_SECONDS}, and {BODY_SECONDS}",
    "seconds for one line protocol message": f"{WHOLE_MESSAGE} times ``MESSAGE_SECONDS``",
    "literals of one line protocol message": str(MOST_LITERALS),
    "characters of a pattern over ids": f"{MAX_PATTERN:,}",
    "characters of a GATHER": f"{MOST_CHARACTERS:,}",
    "rows, and bytes, that a GATHER may merge": f"{_GATHER.rows:,}, and {_GATHER.bytes >> 30} GiB",
    "bytes of one row of a GATHER": f"{MOST_ROW >> 20} MiB",
    "GATHERs at once on a sync server": str(AT_ONCE),
}


@pytest.mark.parametrize("path", PATHS)
def test_each_path_is_there(path):
    """A reader who follows a path finds the file."""
    assert (ROOT / path).exists()


def test_each_setting_is_one():
    """Nobody looks for a setting in vain."""
    named = set(re.findall(r"``([A-Z][A-Z_]{3,})``", TEXT))
    assert len(named) > 15
    assert named - set(KEYS) == OTHERS


def test_each_default_is_the_one_in_force():
    """The table of limits has the defaults of the settings."""
    assert len(DEFAULTS) > 10
    said = {name: None if value == "null" else value for name, value in DEFAULTS}
    given = {name: KEYS[name].default for name in said}
    assert said == {name: value if value is None else str(value) for name, value in given.items()}


@pytest.mark.parametrize(("limit", "value"), FIXED.items())
def test_each_fixed_limit_is_the_one_in_force(limit, value):
    """The second table has the numbers of the code."""
    assert re.search(rf"^{re.escape(limit)}  +{re.escape(value)}$", TEXT, re.MULTILINE)


def test_no_limit_is_left_unchecked():
    """Each row of the second table is compared."""
    table = TEXT.split("These limits are fixed:")[1].split("How to report")[0]
    rows = re.findall(r"^(\S.*?)  +\S", table, re.MULTILINE)
    assert {row for row in rows if not row.startswith("=")} - {"limit"} == set(FIXED)
