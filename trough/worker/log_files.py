"""Where the logs of replicated segments are in a worker's data directory.

A segment that this worker writes has its log beside its database. One that it follows has a folder
of its own below ``replicas/``, named as the segment.
"""

from __future__ import annotations

from pathlib import Path

from trough.replication.holder_log import WalReader
from trough.replication.shadow import Shadow
from trough.sql import log_mark
from trough.util.atomic_files import in_our_words, make_directories

#: Below the data directory.
FOLDER = "replicas"

#: Behind a segment's id; without it an id of dots would be another folder.
SUFFIX = ".replica"


class LogFiles:
    """See the module's text. All functions block.

    :param directory: the data directory
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / FOLDER

    def holder(self, database: Path) -> WalReader:
        """The log of a segment that an executor writes.

        :raises trough.errors.LogBroken: its writes are not replicated
        """
        return WalReader(database)

    def note_broken(self, database: Path, reason: str) -> None:
        """Record on disk that the log of a segment is broken: no later run serves this copy.

        :raises trough.errors.DiskFull: no room for the record
        :raises trough.errors.Unavailable: the disk does not take it
        """
        with in_our_words(database):
            log_mark.note_broken(database, reason)

    def follower(self, segment: str) -> Shadow:
        """The log of a segment that another worker writes; begun if there is none."""
        with in_our_words(self._directory):
            make_directories(self._directory)
        return Shadow(self._directory / f"{segment}{SUFFIX}")

    def followed(self) -> list[str]:
        """The segments of which there is a follower's log."""
        with in_our_words(self._directory):
            if not self._directory.is_dir():
                return []
            return sorted(
                each.name.removesuffix(SUFFIX)
                for each in self._directory.iterdir()
                if each.name.endswith(SUFFIX)
            )

    def replicas(self) -> list[str]:
        """Those of which there is more than the promise of an epoch, which is kept for good."""
        with in_our_words(self._directory):
            return [
                segment
                for segment in self.followed()
                if any((self._directory / f"{segment}{SUFFIX}").glob("database.*"))
            ]
