"""What twistd offers: ``trough``, ``trough-sync`` and ``trough-worker``."""

from twisted.application.service import ServiceMaker

trough = ServiceMaker(
    "Trough", "trough.taps.node", "Everything on one machine, in one process tree", "trough"
)
sync = ServiceMaker("Trough sync server", "trough.taps.sync", "A Trough sync server", "trough-sync")
worker = ServiceMaker("Trough worker", "trough.taps.worker", "A Trough worker", "trough-worker")
