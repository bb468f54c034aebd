"""The workers that the last command asked, in a file: the next one connects to them at once.

A command of the shell first asks the metadata store where a segment is, and then connects to the
worker. Over a link of 150 ms the second connection costs 0.15 s, and more with TLS and a token. It
is most likely one of the last time. So the shell begins these connections while it asks the store.
They are no more than connections: the store still says which worker is asked. A file that cannot
be read or written is as good as none.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from trough.errors import TroughError
from trough.util import atomic_files

#: Workers that are connected to in advance, at most.
MOST = 4

#: Clusters that are remembered, at most.
CLUSTERS = 20


class KnownWorkers:
    """Remembered addresses of one cluster's workers.

    :param path: the file; None: nothing is remembered
    :param cluster: what names the cluster in it, without a password
    """

    def __init__(self, path: Path | None, cluster: str) -> None:
        self._path = path
        self._cluster = cluster

    def addresses(self) -> list[str]:
        """Those of the last time, ``host:port`` or ``tls://host:port``."""
        return self._all().get(self._cluster, [])[:MOST]

    def remember(self, addresses: Sequence[str]) -> None:
        """Have these for the next time, unless there are none."""
        wanted = list(addresses[:MOST])
        known = self._all()
        if self._path is None or not wanted or known.get(self._cluster) == wanted:
            return
        known.pop(self._cluster, None)
        kept = list(known.items())[1 - CLUSTERS :]
        text = json.dumps(dict([*kept, (self._cluster, wanted)]), indent=1)
        with contextlib.suppress(OSError, TroughError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with atomic_files.replacing(self._path) as file:
                os.fchmod(file.fileno(), 0o600)
                atomic_files.write_all(file, text.encode())

    def _all(self) -> dict[str, list[str]]:
        try:
            found = json.loads(self._path.read_bytes()) if self._path is not None else {}
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {
            cluster: [each for each in addresses if isinstance(each, str)]
            for cluster, addresses in found.items()
            if isinstance(addresses, list)
        }
