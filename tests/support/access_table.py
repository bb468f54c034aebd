"""The table of ``docs/access.rst``: which rights each route and verb needs."""

from __future__ import annotations

import re

from places import ROOT

TEXT = (ROOT / "docs" / "access.rst").read_text()
_ROW = re.compile(r"^``([A-Z_]+_PORT)`` +``([^`]+)`` +(\S.*)$", re.MULTILINE)

#: Rights of which one suffices, by port and route or verb; none: no token is wanted.
TABLE = {(port, what): rights.split(", ") for port, what, rights in _ROW.findall(TEXT)}
